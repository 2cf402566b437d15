"""A small shop: takes orders over HTTP, and lets Tasker carry them through.

app.py        the routes: one creates a task, one follows it
handlers/     what the steps do, one module a step
models.py     the shapes that pass between them
database.py   connections to the shop's own tables, which schema.sql makes
gateway.py    a payment gateway that fails on request
pace.py       a pause in every step, for whoever wants to watch
"""
