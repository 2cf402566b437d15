"""Every error → its status, its code and its words; what is wrong in HTTP itself."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from support.flows import begin_one, template
from support.replies import refused
from tasker_core import errors
from tasker_core.engine import inspect
from tasker_core.server.body import SLACK_BYTES
from tasker_core.server.edge import Edge

NOBODY = UUID("01920000-0000-7000-8000-000000000000")  # of no task, and the same in every run

JSON = {"content-type": "application/json"}
BODIES = [
    ("POST", "/v1/tasks"),
    ("POST", f"/v1/tasks/{NOBODY}/cancel"),
    ("PATCH", f"/v1/tasks/{NOBODY}/workflow_steps/{NOBODY}"),
]


async def test_a_problem_has_the_members_of_rfc_9457(api: httpx.AsyncClient) -> None:
    """And the older member `error`; all of them agree."""
    reply = await api.get("/v1/tasks/x", headers={"x-request-id": "abc-1"})
    document = reply.json()

    assert re.fullmatch(r"[\d-]+T[\d:.]+Z", document.pop("timestamp"))
    assert document == {
        "type": "urn:tasker:problem:invalid-uuid",
        "title": "Bad Request",
        "status": 400,
        "detail": "task_uuid is 'x', but must be a UUID",
        "instance": "/v1/tasks/x",
        "code": "INVALID_UUID",
        "request_id": "abc-1",
        "errors": [],
        "error": {"code": "INVALID_UUID", "message": "task_uuid is 'x', but must be a UUID"},
    }


# --- ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/tasks/x", "/v1/tasks"])
async def test_every_reply_has_a_request_id(api: httpx.AsyncClient, path: str) -> None:
    """Good or bad; a new UUIDv7 when the caller gives none."""
    assert UUID((await api.get(path)).headers["x-request-id"]).version == 7


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_well_formed_request_id_is_kept(api: httpx.AsyncClient, given: str) -> None:
    """It comes back as it came."""
    reply = await api.get("/health", headers={"x-request-id": given})

    assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\u00e4", "a;b"])
async def test_any_other_request_id_is_replaced(api: httpx.AsyncClient, given: str) -> None:
    """Nothing of it reaches a log."""
    reply = await api.get("/health", headers={"x-request-id": given.encode()})

    assert UUID(reply.headers["x-request-id"])


# --- routing ----------------------------------------------------------------------------


async def test_an_unknown_path_is_404(api: httpx.AsyncClient) -> None:
    """With a body like every other problem."""
    refused(await api.get("/v1/nothing"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/tasks", "GET, POST"),
        ("POST", f"/v1/tasks/{NOBODY}", "DELETE, GET"),
        ("DELETE", f"/v1/tasks/{NOBODY}/workflow_steps/{NOBODY}", "GET, PATCH"),
        ("POST", "/health", "GET"),
    ],
)
async def test_an_unknown_method_is_405(
    api: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """Allow lists every method of the path."""
    reply = await api.request(method, path)

    refused(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == allowed


# --- bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize(
    "content", [b"{", b'{"name": NaN}', b"{'name': 1}", b'"\xff"', b'{"a": "\\ud800"}', b"{} {}"]
)
async def test_what_is_not_json_is_400(
    api: httpx.AsyncClient, method: str, path: str, content: bytes
) -> None:
    """On every route that reads a body."""
    refused(await api.request(method, path, content=content, headers=JSON), 400, "JSON_ERROR")


async def test_no_body_is_not_json(api: httpx.AsyncClient) -> None:
    """Where one is needed."""
    refused(await api.post("/v1/tasks", headers=JSON), 400, "JSON_ERROR")


async def test_a_body_nested_too_deep_is_422(api: httpx.AsyncClient) -> None:
    """However deep; nothing overflows."""
    content = b'{"name": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"

    refused(await api.post("/v1/tasks", content=content, headers=JSON), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_415(
    api: httpx.AsyncClient, method: str, path: str, media_type: str | None
) -> None:
    """Or none, when there is a body."""
    headers = {} if media_type is None else {"content-type": media_type}
    reply = await api.request(method, path, content=b"{}", headers=headers)

    refused(reply, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/Problem+JSON"]
)
async def test_kinds_of_json_are_json(api: httpx.AsyncClient, media_type: str) -> None:
    """Parameters and spelling do not matter."""
    reply = await api.post("/v1/tasks", content=b"{}", headers={"content-type": media_type})

    refused(reply, 422, "VALIDATION_ERROR")


async def test_a_body_that_is_too_large_is_413(api: httpx.AsyncClient) -> None:
    """Whether or not it says its size beforehand."""
    content = b" " * (100_000 + SLACK_BYTES + 1)

    async def in_parts() -> Any:
        for _ in range(100):
            yield content

    told = await api.post("/v1/tasks", content=content, headers=JSON)
    untold = await api.post("/v1/tasks", content=in_parts(), headers=JSON)
    refused(told, 413, "PAYLOAD_TOO_LARGE")
    refused(untold, 413, "PAYLOAD_TOO_LARGE")


# --- trouble ----------------------------------------------------------------------------

SECRET = "host=10.0.0.9 password=hunter2"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConnectionRefusedError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (TimeoutError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.InterfaceError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.ConnectionDoesNotExistError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.AdminShutdownError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.TooManyConnectionsError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.DeadlockDetectedError(SECRET), 503, "SERVICE_UNAVAILABLE"),
        (errors.DatabaseUnreachable(SECRET, SECRET), 503, "SERVICE_UNAVAILABLE"),
        (asyncpg.UndefinedTableError(SECRET), 500, "DATABASE_ERROR"),
        (asyncpg.DataError(SECRET), 500, "DATABASE_ERROR"),
        (ZeroDivisionError(SECRET), 500, "INTERNAL_ERROR"),
        (errors.RetryableError(SECRET), 500, "INTERNAL_ERROR"),
    ],
)
async def test_trouble_is_told_without_its_details(
    api: httpx.AsyncClient, monkeypatch: Any, error: Exception, status: int, code: str
) -> None:
    """The reply has an id to find them in the log; what may pass has Retry-After."""

    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(inspect, "get_task", fail)
    reply = await api.get(f"/v1/tasks/{uuid4()}")

    refused(reply, status, code)
    assert "hunter2" not in reply.text
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert ("retry-after" in reply.headers) == (status == 503)


async def test_a_broken_connection_is_told_and_replaced(
    api: httpx.AsyncClient, conn: asyncpg.Connection
) -> None:
    """The request under way is answered 503; the next one finds the database again."""
    task_uuid = await begin_one(conn, template())
    await conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'tasker-server'"
    )
    replies = [await api.get(f"/v1/tasks/{task_uuid}") for _ in range(12)]

    assert {reply.status_code for reply in replies} <= {200, 503}
    assert replies[-1].status_code == 200


async def test_a_request_that_takes_too_long_is_408() -> None:
    """It is cut off, and answered with a body and an id."""

    async def forever(*_: Any) -> None:
        await asyncio.Event().wait()

    transport = httpx.ASGITransport(Edge(forever, seconds=0.01))
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        reply = await client.get("/health")

    refused(reply, 408, "TIMEOUT")
    assert reply.headers["x-request-id"]


async def test_a_reply_that_has_begun_may_take_its_time() -> None:
    """A stream is not cut off."""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.03)
        await send({"type": "http.response.body", "body": b"late"})

    transport = httpx.ASGITransport(Edge(stream, seconds=0.01))
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        reply = await client.get("/health")

    assert (reply.status_code, reply.text) == (200, "late")
