"""Check the request, call one engine function, answer.

A request passes from the outside in:

protocol.py      an end to a request's head
edge.py          an id for the request and its reply, an end to what takes too long
gate.py          who calls, and whether they may: keys.py, tokens.py and jwks.py, limits.py
permissions.py   which route asks for what
auth.py          what the routes ask of the caller
routes/          one function an endpoint
body.py          bytes → a checked request; requested.py: and what it asks the engine for
conditional.py   what the caller has already, and how long it would wait
backend.py       what the routes work with: connections, templates, settings
rpc/             the same API over gRPC, with the extra `grpc`
live/            what happens, told to readers while it happens
render.py        what the engine read → what the caller sees
problems.py      every error → its status, its code and its words

Around them: app.py puts them together, registration.py registers templates at start,
sweeper.py sweeps, tasker_core.relay sends durable events, openapi.py describes,
picture.py draws, run.py listens. tasker_core.fastapi has all of it in an app of somebody's.
"""
