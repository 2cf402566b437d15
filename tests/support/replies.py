"""What a test asks of the server's replies."""

from __future__ import annotations

from typing import Any

import httpx


def wrong(reply: httpx.Response) -> list[tuple[str, str]]:
    """Give the pointers and kinds of everything that a problem lists."""
    return [(one["pointer"], one["kind"]) for one in reply.json()["errors"]]


def refused(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Hold a problem against its status and code, in every place where they stand."""
    document = reply.json()
    assert (reply.status_code, document["code"]) == (status, code)
    assert document["status"] == status
    assert document["error"]["code"] == code
    assert document["error"]["message"] == document["detail"]
    assert reply.headers["content-type"] == "application/problem+json"
    return document
