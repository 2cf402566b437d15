"""Who calls.

Nobody is asked yet, so the server listens on this machine only unless it is told
otherwise. What will ask is one more ASGI layer, between the edge and the routes (app.py
marks the place): it decides before a body is read, and puts who it is into the
request's state.
"""

from __future__ import annotations

from starlette.requests import Request

ANONYMOUS = "api"


def name_caller(request: Request, name: str) -> None:
    """Say who calls; from here on the records have this name."""
    request.state.caller = name


def caller(request: Request) -> str:
    """Name whoever calls, for the records."""
    return getattr(request.state, "caller", ANONYMOUS)
