"""What a caller has already, and how long it would wait: `If-None-Match` and `Prefer`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

LONGEST_WAIT_SECONDS = 25  # a request has 30 seconds in all

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)


def tagged(
    request: Request, content: bytes, headers: Mapping[str, str], status: int = 200
) -> Response:
    """Build the reply of some JSON with its ETag; 304 when that is what the caller has."""
    etag = etag_of(content)
    named = {**headers, "ETag": etag}
    if status == 200 and request.method == "GET" and _has(request, etag):
        return Response(None, 304, named)
    return Response(content, status, named, "application/json")


def json_of(model: BaseModel) -> bytes:
    """Write down what the caller is to see."""
    return model.model_dump_json().encode()


def has_current(request: Request, model: BaseModel) -> bool:
    """Say whether this is what the caller has already."""
    return _has(request, etag_of(json_of(model)))


def etag_of(content: bytes) -> str:
    """Give the ETag of a reply: it is another one as soon as a byte of it is."""
    return f'"{blake2b(content, digest_size=12).hexdigest()}"'


def wait_of(request: Request) -> int | None:
    """Say for how many seconds the caller prefers to wait: `Prefer: wait=10`.

    At most 25; None when it does not say, or what it says makes no sense.
    """
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return None if found is None else min(int(found[1]), LONGEST_WAIT_SECONDS)


def _has(request: Request, etag: str) -> bool:
    given = ",".join(request.headers.getlist("If-None-Match"))
    known = {one.strip().removeprefix("W/") for one in given.split(",")}
    return etag in known or "*" in known
