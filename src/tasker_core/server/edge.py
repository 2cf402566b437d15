"""The outermost layer: an id for every request and its reply, and an end to every request.

Here also every reply gets what browsers are to be told (headers.py).

Plain ASGI, so that nothing is buffered; and a reply that has begun may take its time.
"""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from tasker_core.engine.ids import new_uuid
from tasker_core.server.headers import protect
from tasker_core.server.problems import Refusal, problem, problem_of

REQUEST_SECONDS = 30.0
MAX_HEADER_BYTES = 32 * 1024  # all together

_HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """Gives ids, ends what takes too long, and answers for what nobody expected."""

    def __init__(self, app: ASGIApp, seconds: float = REQUEST_SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        limit = asyncio.timeout(self._seconds)
        has_begun = False

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((_HEADER, request_id.encode()))
                headers = MutableHeaders(scope=message)
                headers.update(scope["state"].get("limit_headers", {}))
                protect(headers, scope["path"])
            await send(message)

        async def send_in_time(message: Message) -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                limit.reschedule(None)
            await send_with_id(message)

        with bound_contextvars(request_id=request_id):
            try:
                async with limit:
                    _check_size(scope)
                    await self._app(scope, receive, send_in_time)
            except Exception as error:
                if has_begun:
                    raise
                reply = self._explain(Request(scope), error, is_late=limit.expired())
                await reply(scope, receive, send_with_id)

    def _explain(self, request: Request, error: Exception, *, is_late: bool) -> Response:
        if not is_late:
            return problem_of(request, error)
        detail = f"no answer was found within {self._seconds:g} seconds"
        return problem(request, 408, "TIMEOUT", detail)


def _check_size(scope: Scope) -> None:
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADER_BYTES:
        detail = f"the headers have {size:,} bytes, but may have {MAX_HEADER_BYTES:,}"
        raise Refusal(431, "HEADERS_TOO_LARGE", detail)


def _request_id(scope: Scope) -> str:
    """Take the caller's id if it is well formed, else a new one."""
    given: bytes | None = next((value for name, value in scope["headers"] if name == _HEADER), None)
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given.decode()
    return str(new_uuid())
