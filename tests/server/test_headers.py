"""What every reply tells a browser; and that no request can write into the head of a reply."""

from __future__ import annotations

import httpx
import pytest

EVERY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize("path", ["/health", "/v1/tasks", "/v1/nothing", "/v1/tasks/x"])
async def test_answers_of_the_api_are_neither_run_nor_framed_nor_kept(
    api: httpx.AsyncClient, path: str
) -> None:
    """Errors, too."""
    reply = await api.get(path)

    assert EVERY.items() <= dict(reply.headers).items()
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert reply.headers["cache-control"] == "no-store"


async def test_the_page_of_the_docs_may_load_what_it_needs(api: httpx.AsyncClient) -> None:
    """And nothing from elsewhere."""
    reply = await api.get("/api-docs/ui")
    policy = reply.headers["content-security-policy"]
    sources = {part.split(" ")[0]: part for part in policy.split("; ")}

    assert EVERY.items() <= dict(reply.headers).items()
    assert "https://cdn.jsdelivr.net" in reply.text
    assert "https://cdn.jsdelivr.net" in sources["script-src"]
    assert sources["connect-src"] == "connect-src 'self'"
    assert sources["default-src"] == "default-src 'none'"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/dlq?limit=1&namespace=a%0d%0aX-Evil:%20yes",
        "/v1/dlq?limit=1&namespace=%22%3e%3b%20rel=evil",
        "/v1/nothing%0d%0aX-Evil:%20yes",
        "/v1/tasks?status=a%0d%0aX-Evil:%20yes",
    ],
)
async def test_no_request_writes_a_header(api: httpx.AsyncClient, path: str) -> None:
    """Line breaks of a path or query stay data."""
    reply = await api.get(path)

    assert "x-evil" not in reply.headers
    assert not [value for value in reply.headers.values() if "\r" in value or "\n" in value]


@pytest.mark.parametrize("given", ["a b", "a\x7f", "é", "x" * 129, "a;b", ""])
async def test_a_request_id_that_is_not_well_formed_is_not_echoed(
    api: httpx.AsyncClient, given: str
) -> None:
    """The server makes one instead, for logs and replies."""
    reply = await api.get("/health", headers=[("X-Request-ID", given.encode())])

    assert reply.headers["x-request-id"] != given
    assert len(reply.headers["x-request-id"]) == 36


async def test_headers_are_bounded(api: httpx.AsyncClient) -> None:
    """All together; the listener stops what is larger still, see test_protocol.py."""
    reply = await api.get("/health", headers={"X-Long": "x" * 40_000})

    assert (reply.status_code, reply.json()["code"]) == (431, "HEADERS_TOO_LARGE")
