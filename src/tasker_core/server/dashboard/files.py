"""What the pages load: the style sheet, the programs, the picture for the browser's tab.

Their addresses name their content, so a browser may keep them, and has the new ones as soon
as there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.server.headers import protect

FILES: Mapping[str, str] = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

router = APIRouter(include_in_schema=False)


def addresses() -> Mapping[str, str]:
    """Give the address of each below the pages, by its name."""
    return {name: f"static/{name}?v={_digest(name)}" for name in FILES}


@cache
def _content(name: str) -> bytes:
    return (files("tasker_core.server.dashboard") / "static" / name).read_bytes()


@cache
def _digest(name: str) -> str:
    return blake2b(_content(name), digest_size=6).hexdigest()


def _serve(name: str) -> None:
    """Make the route of one file; each has its own, so no path leads to another one."""

    @router.get(f"/static/{name}")
    async def serve(request: Request) -> Response:
        is_named = request.query_params.get("v") == _digest(name)
        kept = "public, max-age=31536000, immutable" if is_named else "no-cache"
        reply = Response(_content(name), 200, {"Cache-Control": kept}, FILES[name])
        protect(reply.headers, request.scope["path"])
        return reply


for _name in FILES:
    _serve(_name)
