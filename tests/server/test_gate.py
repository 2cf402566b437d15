"""The layer that asks who calls: keys, addresses, bodies that are not read, who is recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from support.credentials import bearer, public_pem, token
from support.flows import CHAIN, Worker, begin_one, template
from support.replies import refused
from tasker_core.engine.api_keys import create_api_key, revoke_api_key
from tasker_core.server.app import create_app
from tasker_core.server.gate import FAILURES_PER_MINUTE
from tasker_core.settings import Settings

ALL = ("tasks:*", "steps:*", "dlq:*", "templates:*", "system:*")


@pytest.fixture
async def task(conn: Any) -> UUID:
    """A task of three steps in namespace shop."""
    return await begin_one(conn, template(CHAIN))


async def client_of(settings: Settings, **given: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update=given))
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tasker") as client,
    ):
        yield client


# --- credentials ----------------------------------------------------------------------------


async def test_an_api_key_says_who_calls(guarded: httpx.AsyncClient, conn: Any) -> None:
    """With what it may do, and where."""
    key, _ = await create_api_key(
        conn, "checkout", permissions=["tasks:create"], namespaces=["shop"], actor="ada"
    )
    reply = await guarded.get("/v1/whoami", headers={"X-API-Key": key})

    assert reply.json() == {
        "subject": "checkout",
        "method": "api_key",
        "permissions": ["tasks:create"],
        "namespaces": ["shop"],
        "expires_at": None,
    }
    assert reply.headers["cache-control"] == "no-store"


async def test_unknown_revoked_and_expired_keys_are_refused(
    guarded: httpx.AsyncClient, conn: Any
) -> None:
    """401, and which of the three it is."""
    from datetime import timedelta

    gone, made = await create_api_key(conn, "a", permissions=ALL, actor="ada")
    await revoke_api_key(conn, made.key_id, actor="ada")
    old, _ = await create_api_key(
        conn, "b", permissions=ALL, lifetime=timedelta(microseconds=1), actor="ada"
    )
    for key, reason, told in [
        (gone, "invalid", "revoked"),
        (old, "expired", "expired"),
        (gone[:-1] + "~", "invalid", "not known"),
        ("x" * 5000, "invalid", "not known"),
        ("' or 1=1 --", "invalid", "not known"),
    ]:
        reply = await guarded.get("/v1/tasks", headers={"X-API-Key": key})
        assert told in refused(reply, 401, "AUTHENTICATION_FAILED")["detail"]
        assert reply.headers["x-auth-failure-reason"] == reason


async def test_a_token_that_fails_is_final(guarded: httpx.AsyncClient, conn: Any) -> None:
    """A key beside it does not help; another scheme than Bearer counts as none."""
    key, _ = await create_api_key(conn, "a", permissions=ALL, actor="ada")
    both = {"Authorization": "Bearer nonsense", "X-API-Key": key}
    other = {"Authorization": "Basic YTpi", "X-API-Key": key}

    assert (await guarded.get("/v1/tasks", headers=both)).status_code == 401
    assert (await guarded.get("/v1/tasks", headers=other)).status_code == 200
    assert (
        await guarded.get("/v1/tasks", headers={"Authorization": f"bEARER {token(*ALL)}"})
    ).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        [("X-API-Key", "a"), ("X-API-Key", "b")],
        [("X-API-Key", b"\xff\xfe")],
        [("Authorization", b"Bearer \xe9")],
    ],
)
async def test_ambiguous_and_undecodable_credentials_are_malformed(
    guarded: httpx.AsyncClient, headers: Any
) -> None:
    """Two of a kind could be read differently by two readers."""
    reply = await guarded.get("/v1/tasks", headers=headers)

    refused(reply, 401, "AUTHENTICATION_FAILED")
    assert reply.headers["x-auth-failure-reason"] == "malformed"


async def test_a_refusal_comes_before_the_body_is_read(settings: Settings) -> None:
    """Of a stranger, and of somebody who may not: not a byte is asked for."""
    app = create_app(settings.model_copy(update={"auth": True, "jwt_public_key": public_pem()}))

    async def never() -> Any:
        raise AssertionError("the body was read")

    for headers, status in [({}, 401), (bearer("tasks:list"), 403)]:
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/tasks",
            "query_string": b"",
            "headers": [*raw, (b"content-type", b"application/json")],
        }
        await app(scope, never, send)
        assert sent[0]["status"] == status


async def test_credentials_are_in_no_answer_and_no_log(
    guarded: httpx.AsyncClient, conn: Any
) -> None:
    """Neither good ones nor bad ones."""
    key, _ = await create_api_key(conn, "a", permissions=["tasks:list"], actor="ada")
    shown = [token("tasks:list"), token(key="theirs"), "abc.def.ghi"]
    with capture_logs() as logs:
        for one in shown:
            reply = await guarded.get("/v1/dlq", headers={"Authorization": f"Bearer {one}"})
            assert one not in reply.text
        for one in (key, "tk_000000000000_" + "s" * 43):
            reply = await guarded.get("/v1/dlq", headers={"X-API-Key": one})
            assert one not in reply.text
            shown.append(one)

    assert len([one for one in logs if one["event"] == "refused"]) == 5
    assert not [one for one in shown if one in str(logs)]


# --- who is recorded --------------------------------------------------------------------------


async def test_an_actor_cannot_be_forged(
    guarded: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """Whatever a request says of who acts, the history tells who called."""
    task = await begin_one(conn, template(CHAIN, retry={"max_attempts": 1}))
    await worker.fail(await worker.claim_one())
    headers = bearer(*ALL, sub="mallory")
    (step, *_) = (await guarded.get(f"/v1/tasks/{task}/workflow_steps", headers=headers)).json()
    path = f"/v1/tasks/{task}/workflow_steps/{step['step_uuid']}"
    reset = {"action_type": "reset_for_retry", "reason": "r", "reset_by": "ann"}
    done = [await guarded.patch(path, json=reset, headers=headers)]
    complete = {
        "action_type": "complete_manually",
        "reason": "r",
        "completed_by": "mallory",
        "completion_data": {"result": 1},
    }
    done.append(await guarded.patch(path, json=complete, headers=headers))
    entry = {"task_uuid": str(task), "reason": "r", "entered_by": "ann"}
    done.append(await guarded.post("/v1/dlq", json=entry, headers=headers))
    where = f"/v1/dlq/entry/{done[-1].json()['dlq_entry_uuid']}"
    resolve = {"resolution_status": "manually_resolved", "resolved_by": "ann"}
    done.append(await guarded.patch(where, json=resolve, headers=headers))
    many = {"action": "cancel", "reason": "r", "actor": "ann", "task_uuids": [str(task)]}
    done.append(await guarded.post("/v1/tasks/actions", json=many, headers=headers))

    assert [reply.status_code for reply in done] == [200, 200, 201, 200, 200]
    moves = (await guarded.get(f"/v1/tasks/{task}/transitions", headers=headers)).json()
    assert {one["actor"] for one in moves if one["actor"]} == {"mallory", "mallory (ann)"}
    resolved = done[3].json()["entry"]
    assert resolved["resolved_by"] == "mallory (ann)"
    assert resolved["metadata"]["entered_by"] == "mallory (ann)"


async def test_every_action_is_told_to_the_audit_log(
    guarded: httpx.AsyncClient, task: UUID
) -> None:
    """Who, by which credential, and which route; reading is not told."""
    headers = bearer(*ALL)
    with capture_logs() as logs:
        await guarded.get(f"/v1/tasks/{task}", headers=headers)
        await guarded.delete(f"/v1/tasks/{task}", headers=headers)

    assert [one for one in logs if one["event"] != "request"] == [
        {
            "event": "action",
            "log_level": "info",
            "caller": "ada",
            "method": "jwt",
            "route": "DELETE /v1/tasks/{task_uuid}",
        }
    ]


async def test_who_creates_is_the_initiator_unless_the_request_says(
    guarded: httpx.AsyncClient, conn: Any
) -> None:
    """The initiator is a word of the application, not proof of who called."""
    await begin_one(conn, template(CHAIN))
    body = {"name": "flow", "namespace": "shop"}
    for said, initiator in [({}, "ada"), ({"initiator": "checkout"}, "checkout")]:
        made = await guarded.post(
            "/v1/tasks", json={**body, **said, "context": {"n": initiator}}, headers=bearer(*ALL)
        )
        assert made.json()["initiator"] == initiator


# --- how often --------------------------------------------------------------------------------


async def test_guessing_is_slowed_down_and_known_callers_are_not(
    guarded: httpx.AsyncClient, conn: Any
) -> None:
    """After twenty wrong ones from an address, no unknown credential of it is looked at."""
    key, _ = await create_api_key(conn, "a", permissions=ALL, actor="ada")
    late, _ = await create_api_key(conn, "b", permissions=ALL, actor="ada")
    assert (await guarded.get("/v1/tasks", headers={"X-API-Key": key})).status_code == 200
    for number in range(FAILURES_PER_MINUTE):
        reply = await guarded.get("/v1/tasks", headers={"X-API-Key": f"guess {number}"})
        assert reply.status_code == 401

    for unknown in ("guess", late):
        reply = await guarded.get("/v1/tasks", headers={"X-API-Key": unknown})
        refused(reply, 429, "RATE_LIMITED")
        assert 0 < int(reply.headers["retry-after"]) <= 3
    assert (await guarded.get("/v1/tasks", headers={"X-API-Key": key})).status_code == 200
    assert (await guarded.get("/health", headers={"X-API-Key": "guess"})).status_code == 200


async def test_requests_are_limited_for_each_caller(settings: Settings) -> None:
    """429 with when to come again; another caller, and health, are not touched."""
    given = {
        "auth": True,
        "jwt_public_key": public_pem(),
        "requests_per_minute": 6,
        "requests_burst": 3,
    }
    async for client in client_of(settings, **given):
        for left, status in ((2, 200), (1, 200), (0, 200), (0, 429)):
            reply = await client.get("/v1/whoami", headers=bearer())
            assert reply.status_code == status
            assert reply.headers["ratelimit-policy"] == '"requests";q=3;w=30'
            assert reply.headers["ratelimit"].startswith(f'"requests";r={left};t=')
        assert reply.json()["retry_after_seconds"] == int(reply.headers["retry-after"]) <= 10
        assert (await client.get("/v1/whoami", headers=bearer(sub="bob"))).status_code == 200
        health = await client.get("/health")
        assert health.status_code == 200
        assert "ratelimit" not in health.headers
        refused_for_more = await client.get("/v1/tasks", headers=bearer(sub="cleo"))
        assert refused_for_more.status_code == 403
        assert refused_for_more.headers["ratelimit"].startswith('"requests";r=2;')


async def test_without_callers_addresses_are_limited(settings: Settings) -> None:
    """As nobody says who they are."""
    async for client in client_of(settings, requests_per_minute=6, requests_burst=1):
        assert (await client.get("/v1/whoami")).status_code == 200
        assert (await client.get("/v1/whoami")).status_code == 429


# --- where nobody is asked -----------------------------------------------------------------------


REACHED: dict[str, tuple[str, dict[str, str], int]] = {
    "this machine": ("127.0.0.1", {}, 200),
    "this machine, IPv6": ("::1", {}, 200),
    "by name": ("127.0.0.1", {"Host": "localhost:8080"}, 200),
    "a page of its own": ("127.0.0.1", {"Host": "a:80", "Origin": "http://a:80"}, 200),
    "another machine": ("192.0.2.7", {}, 403),
    "a name that leads here": ("127.0.0.1", {"Host": "rebound.example:8080"}, 403),
    "a page from elsewhere": ("127.0.0.1", {"Host": "a", "Origin": "https://evil.example"}, 403),
    "a page without origin": ("127.0.0.1", {"Host": "a", "Origin": "null"}, 403),
}


@pytest.mark.parametrize("name", REACHED)
async def test_a_server_that_asks_nobody_serves_its_own_machine_only(
    settings: Settings, name: str
) -> None:
    """Whichever way it is embedded, and whatever a browser is made to do; health is for all."""
    server, headers, status = REACHED[name]
    for given, expected in [({}, status), ({"allow_unprotected": True}, 200)]:
        app = create_app(settings.model_copy(update=given))
        async with app.router.lifespan_context(app):
            for path, wanted in [("/v1/whoami", expected), ("/health", 200)]:
                sent: list[Any] = []

                async def send(message: Any, sent: list[Any] = sent) -> None:
                    sent.append(message)

                await app(_scope(path, server, headers), _no_body, send)
                assert sent[0]["status"] == wanted, (given, path)


def _scope(path: str, server: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "server": (server, 8080),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_health_names_no_namespaces_to_strangers(
    guarded: httpx.AsyncClient, task: UUID
) -> None:
    """Nor to callers who do not see all of them; operators read which handler is missing."""
    seen = {}
    for who, headers in {
        "stranger": {},
        "limited": bearer(worker_namespaces=["bank"]),
        "operator": bearer(),
    }.items():
        reply = await guarded.get("/health/detailed", headers=headers)
        seen[who] = reply.json()["checks"]["workers"]

    assert {one["status"] for one in seen.values()} == {"degraded"}
    assert seen["stranger"]["message"] is seen["limited"]["message"] is None
    assert "shop" in seen["operator"]["message"]


# --- inside another application -------------------------------------------------------------------


async def test_a_mounted_app_asks_as_any_other(settings: Settings, conn: Any) -> None:
    """Below the path that it is mounted at; what is public stays public."""
    own = create_app(settings.model_copy(update={"auth": True, "jwt_public_key": public_pem()}))
    host = FastAPI()
    host.mount("/tasker", own)
    task = await begin_one(conn, template(CHAIN))
    transport = httpx.ASGITransport(host)
    async with (
        own.router.lifespan_context(own),
        httpx.AsyncClient(transport=transport, base_url="http://host/tasker") as client,
    ):
        one = f"/v1/tasks/{task}"
        foreign = bearer("tasks:read", worker_namespaces=["bank"])

        assert (await client.get("/health")).status_code == 200
        assert (await client.get(one)).status_code == 401
        assert (await client.get(one, headers=bearer("tasks:list"))).status_code == 403
        assert (await client.get(one, headers=bearer("tasks:read"))).status_code == 200
        assert (await client.get(one, headers=foreign)).status_code == 404


async def test_web_sockets_do_not_slip_in(settings: Settings) -> None:
    """There are none; one that somebody adds has to be let in here first."""
    app = create_app(settings)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/v1/ws", "headers": []}, _no_body, send)

    assert sent == [{"type": "websocket.close", "code": 4403}]
