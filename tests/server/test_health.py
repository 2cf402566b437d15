"""/health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.events import publishing, telling
from support.flows import Worker, begin_one, done, template
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.lease import beat
from tasker_core.engine.relay import next_events, refuse_event
from tasker_core.observe import checks, gauges


async def test_health_and_live_look_at_nothing(api: httpx.AsyncClient) -> None:
    """200 with the time."""
    healthy, alive = (await api.get("/health")).json(), (await api.get("/health/live")).json()

    assert (healthy["status"], alive["status"]) == ("healthy", "alive")
    assert healthy["timestamp"].endswith("Z")


async def test_ready_when_database_and_schema_are(api: httpx.AsyncClient) -> None:
    """Every check says how long it took."""
    reply = await api.get("/health/ready")
    document = reply.json()

    assert (reply.status_code, document["status"]) == (200, "ready")
    assert list(document["checks"]) == [
        *("database", "schema", "workers", "sweep", "events", "transactions", "pool", "load"),
    ]
    for check in document["checks"].values():
        assert (check["status"], check["message"]) == ("healthy", None)
        assert check["duration_ms"] >= 0
    assert document["info"]["operational_state"] == "Normal"
    assert (await api.get("/health/detailed")).json()["status"] == "healthy"


async def test_a_starved_handler_degrades_but_does_not_stop(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """The handler is named, until a live worker has it."""
    await begin_one(conn, template(callables={"a": "shop.charge"}))
    starved = await api.get("/health/ready")
    detailed = (await api.get("/health/detailed")).json()
    lanes = [lane.lane for lane in await list_lanes(conn)]
    await beat(conn, new_uuid(), host="h", pid=1, version="1", concurrency=1, lanes=lanes)
    served = await api.get("/health/ready")

    assert (starved.status_code, starved.json()["status"]) == (200, "ready")
    assert starved.json()["checks"]["workers"]["status"] == "degraded"
    assert "shop.charge" in starved.json()["checks"]["workers"]["message"]
    assert detailed["status"] == "degraded"
    assert served.json()["checks"]["workers"]["status"] == "healthy"


async def test_events_that_nobody_relays_degrade(api: httpx.AsyncClient, conn: Any) -> None:
    """An outbox that only grows is named, with its size and age; so is what was put aside."""
    await begin_one(conn, publishing())
    worker = Worker(conn)
    await worker.finish(telling(done(await worker.claim_one(), {}), "success"))

    async def check() -> dict[str, Any]:
        found: dict[str, Any] = (await api.get("/health/ready")).json()["checks"]["events"]
        return found

    assert (await check())["status"] == "healthy"
    await conn.execute("update tasker.outbox set recorded_at = now() - interval '2 minutes'")
    waiting = await check()
    (event,) = await next_events(conn, limit=1)
    await refuse_event(conn, event, "no", max_tries=1)
    aside = await check()

    assert waiting["status"] == aside["status"] == "degraded"
    assert waiting["message"].startswith("1 durable events wait, the oldest for 12")
    assert waiting["message"].endswith("nobody relays them")
    assert aside["message"] == "1 events were put aside: tasker-ctl events list"


async def test_another_schema_is_not_ready(api: httpx.AsyncClient, conn: Any) -> None:
    """An upgrade under a running server shows."""
    await conn.execute("update tasker.schema_functions set checksum = 'x' || checksum")
    try:
        reply = await api.get("/health/ready")
    finally:
        await conn.execute("update tasker.schema_functions set checksum = substr(checksum, 2)")

    assert (reply.status_code, reply.json()["status"]) == (503, "not_ready")
    assert reply.json()["checks"]["schema"]["status"] == "unhealthy"


async def test_without_a_database_not_ready_but_alive(api: httpx.AsyncClient, app: FastAPI) -> None:
    """The document says what is wrong, and nothing of what the driver said."""
    await app.state.backend.pool.close()
    ready, live = await api.get("/health/ready"), await api.get("/health/live")

    assert (ready.status_code, live.status_code) == (503, 200)
    assert ready.json()["checks"]["database"]["message"] == "the database cannot be used"


async def test_a_stopping_server_is_not_ready(api: httpx.AsyncClient, app: FastAPI) -> None:
    """Balancers look elsewhere before the listener goes."""
    app.state.backend.draining = True
    reply = await api.get("/health/ready")

    assert (reply.status_code, reply.json()["status"]) == (503, "not_ready")
    assert reply.json()["info"]["operational_state"] == "GracefulShutdown"


async def test_what_the_sweep_has_not_taken_back_degrades(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """After a minute, with how long it has waited."""
    await begin_one(conn, template())
    await Worker(conn).claim_one()
    fresh = (await api.get("/health/ready")).json()["checks"]["sweep"]
    await conn.execute("update tasker.leases set ends_at = now() - interval '5 minutes'")
    late = (await api.get("/health/ready")).json()

    assert fresh["status"] == "healthy"
    assert (late["status"], late["checks"]["sweep"]["status"]) == ("ready", "degraded")
    assert "has waited for 30" in late["checks"]["sweep"]["message"]


async def test_whoever_holds_back_vacuum_is_named(
    api: httpx.AsyncClient, clean_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pid and application, with the age; a session that only waits holds nothing."""
    monkeypatch.setattr(checks, "TRANSACTION_LASTS_AT_MOST", timedelta(0))
    monkeypatch.setattr(gauges, "LONG_TRANSACTION", timedelta(0))
    named = {"application_name": "nightly report"}
    holder = await asyncpg.connect(clean_database, server_settings=named)
    before = (await api.get("/health/detailed")).json()["checks"]["transactions"]
    await holder.execute("begin isolation level repeatable read; select 1 from tasker.tasks")
    held = (await api.get("/health/detailed")).json()["checks"]["transactions"]
    pid = holder.get_server_pid()
    await holder.close()

    assert "nightly report" not in (before["message"] or "")
    assert held["status"] == "degraded"
    assert f"pid {pid} (nightly report), idle in transaction, for 0 seconds" in held["message"]
