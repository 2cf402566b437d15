"""The layer before the gate: it lets browsers show a cookie, and leads strangers to the login.

Plain ASGI. It touches the paths of pages only: what a cookie says becomes the header that a
program would have sent, and the gate then does with it as with any other. So the gate knows
nothing of cookies, and no other path accepts one.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tasker_core.server.dashboard.login import COOKIE, credential_of, forget
from tasker_core.server.dashboard.pages import error_page, here, wants_page
from tasker_core.server.dashboard.rooms import SERVER_PAGES
from tasker_core.server.problems import Refusal, problem_of

_ROUTES = [route for room in SERVER_PAGES for route in room.routes]
PART = "HX-Request"  # the header of a page that asks for a part of itself
_CREDENTIALS = {b"authorization", b"x-api-key"}


class Door:
    """Reads the cookie, and answers browsers for what the gate refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is no page passes through."""
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or not _is_browser(request) or not _is_page(scope):
            await self._app(scope, receive, send)
            return
        credential = credential_of(request.cookies)
        if credential is not None and not any(name in _CREDENTIALS for name, _ in scope["headers"]):
            request.state.from_cookie = True
            scope["headers"] = [*scope["headers"], credential]
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            reply = _explain(request, error)
            if reply is None:
                raise
            await reply(scope, receive, send)


def _explain(request: Request, error: Exception) -> Response | None:
    """Answer a browser for what the gate has refused; None: it is no browser's window."""
    base: str = request.scope.get("root_path", "")
    is_unknown = isinstance(error, Refusal) and error.status == 401
    is_part = PART in request.headers
    if not (wants_page(request) or is_part):
        return None
    if not is_unknown:
        return error_page(request, base, problem_of(request, error))
    back = here(request) if request.method == "GET" else f"{base}/"
    login = f"{base}/login?next={quote(back, safe='')}"
    reply = Response(None, 401, {"HX-Redirect": login}) if is_part else RedirectResponse(login, 303)
    if COOKIE in request.cookies:
        forget(reply, base)
    return reply


def _is_browser(request: Request) -> bool:
    """Say whether there may be something to do; programs need not wait for a look at paths."""
    return wants_page(request) or PART in request.headers or COOKIE in request.cookies


def _is_page(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in _ROUTES)
