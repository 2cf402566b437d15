"""What all pages share: a template for each, links that hold wherever they stand, errors.

Whoever accepts HTML gets errors as pages, everybody else as the problems they are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends
from jinja2 import Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tasker_core.server.auth import caller_of, may
from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard import files, show
from tasker_core.server.dashboard.origin import check_origin
from tasker_core.server.headers import protect
from tasker_core.server.problems import ProblemRoute
from tasker_core.wire.problems import MEDIA_TYPE

MENU = (
    ("", "Overview", None),
    ("tasks", "Tasks", "tasks:list"),
    ("dlq", "Dead letters", "dlq:read"),
    ("templates", "Templates", "templates:read"),
    ("workers", "Workers", "system:handlers_read"),
)

_environment = Environment(
    loader=PackageLoader("tasker_core.server.dashboard"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "count": show.count,
    "duration": show.duration,
    "json": show.as_json,
    "words": show.words,
    "tone": show.tone,
}


_own_paths: dict[Callable[..., Any], str] = {}  # of a page, without what it is included under


class PageRoute(ProblemRoute):
    """A route whose errors are pages, for those who look at pages."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        _own_paths.setdefault(endpoint, path)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer as the API does, and show its problems as pages."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            reply = await handler(request)
            if reply.headers.get("Content-Type") == MEDIA_TYPE and wants_page(request):
                return error_page(request, base_of(request), reply)
            return reply

        return answer


def router() -> APIRouter:
    """Make a router of pages; what changes anything must come from one of them."""
    return APIRouter(
        default_response_class=Response,
        route_class=PageRoute,
        dependencies=[Depends(check_origin)],
        include_in_schema=False,
    )


def wants_page(request: Request) -> bool:
    """Say whether a browser's window asks, and not a program."""
    return "text/html" in request.headers.get("Accept", "")


def base_of(request: Request) -> str:
    """Give the path below which the pages stand, as the browser sees it: `` or `/tasker`."""
    parts = _own_paths[request.scope["endpoint"]].count("/")
    asked: str = request.scope["path"]
    return asked.rsplit("/", parts)[0]


def page(request: Request, name: str, status: int = 200, **facts: Any) -> Response:
    """Build a page from its template."""
    return render(request, base_of(request), name, status, **facts)


def render(request: Request, base: str, name: str, status: int = 200, **facts: Any) -> Response:
    """Build a page where no route of ours serves it; `base` is what `base_of` gives."""
    caller = caller_of(request)
    text = _environment.get_template(name).render(
        base=base,
        menu=[(path, label) for path, label, needed in MENU if not needed or may(request, needed)],
        here=here(request),
        who=caller,
        is_asked=caller.method != "none",
        has_session=getattr(request.state, "from_cookie", False),
        may=lambda needed: may(request, needed),
        environment=backend_of(request).settings.environment,
        version=version("tasker-py"),
        files=files.addresses(),
        **facts,
    )
    reply = Response(text, status, {"Cache-Control": "no-store"}, "text/html")
    # forms tell where they come from, and nobody else hears of it
    reply.headers["Referrer-Policy"] = "same-origin"
    protect(reply.headers, request.scope["path"])
    return reply


def error_page(request: Request, base: str, problem: Response) -> Response:
    """Show a problem of the API as a page."""
    document = orjson.loads(problem.body)
    reply = render(request, base, "error.html", problem.status_code, problem=document)
    if "Retry-After" in problem.headers:
        reply.headers["Retry-After"] = problem.headers["Retry-After"]
    return reply


def go_to(request: Request, path: str) -> Response:
    """Send the browser on to a page, after a form."""
    return RedirectResponse(f"{base_of(request)}/{path}", 303)


def here(request: Request, **changed: str | None) -> str:
    """Give the address that is asked for; with other parameters, or (None) without them."""
    kept = [(n, v) for n, v in request.query_params.multi_items() if n not in changed]
    query = urlencode([*kept, *((n, v) for n, v in changed.items() if v is not None)])
    return str(request.scope["path"]) + (f"?{query}" if query else "")


def said(reply: Response) -> Any:
    """Read what a function of the API answers."""
    return orjson.loads(reply.body)


def asking(request: Request, document: Mapping[str, Any]) -> Request:
    """Make the request that a program would send, with this body, for a function of the API."""
    body = show.dump(document).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    return Request({**request.scope, "headers": headers}, receive)
