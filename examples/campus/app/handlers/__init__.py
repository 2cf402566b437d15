"""What the steps do, one module a team or process. All of it is thin: see services/.

Handlers' names are one room for the whole application, so the two teams put theirs in
front: `support_notify` and `payments_notify` are both called `notify` in their templates.
"""
