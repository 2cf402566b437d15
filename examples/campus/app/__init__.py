"""A small college that lets Tasker carry its paperwork through: four processes, three teams.

main.py       the application: a worker beside it, the routes in routes/
config/       the templates of the five kinds of tasks, one folder a namespace
handlers/     what the steps do: thin functions, which call …
services/     … the work itself, which knows nothing of Tasker but its errors
models/       the shapes that come in, and that one step hands to the next
partners.py   a library that other people run, and its HTTP API
outages.py    failures on request
database.py   connections to the college's own tables, which schema.sql makes
"""
