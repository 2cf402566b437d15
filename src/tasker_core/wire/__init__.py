"""The shapes that cross HTTP, defined once: the server writes them, others read them.

common.py     moments and texts as they are written in JSON
tasks.py      what asks for a task, and what a task looks like
steps.py      steps, their results and their history, and what an operator may do
templates.py  what is registered
analytics.py  how tasks and steps do
health.py     how the server is
problems.py   what went wrong
"""
