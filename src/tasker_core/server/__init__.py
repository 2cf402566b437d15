"""Check the request, call one engine function, answer.

A request passes from the outside in:

protocol.py      an end to a request's head
edge.py          an id for the request and its reply, an end to what takes too long
gate.py          who calls, and whether they may: keys.py, tokens.py and jwks.py, limits.py
permissions.py   which route asks for what
auth.py          what the routes ask of the caller
routes/          one function an endpoint
body.py          bytes → a checked request
backend.py       what the routes work with: connections, templates, settings
render.py        what the engine read → what the caller sees
problems.py      every error → its status, its code and its words

Around them: app.py puts them together, registration.py registers templates at start,
sweeper.py sweeps, tasker_core.relay sends durable events, openapi.py describes, run.py
listens.
"""
