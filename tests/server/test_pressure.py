"""Refuse work while there is too much of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.flows import Worker, begin, template
from support.workers import eventually
from tasker_core.settings import Settings


@pytest.fixture
def settings(clean_database: str) -> Settings:
    """Two connections, one request that may wait, and three steps that may be enqueued."""
    return Settings(
        database_url=clean_database,
        sweep_seconds=3600,
        server_pool_size=2,
        server_waiting_requests=1,
        server_statement_seconds=0.3,
        max_enqueued_steps=3,
    )


async def test_a_full_namespace_takes_no_more_tasks(
    api: httpx.AsyncClient, app: FastAPI, conn: asyncpg.Connection, worker: Worker
) -> None:
    """Others do; it does again once its steps are claimed; reads are never refused."""
    await begin(conn, template(namespace="shop"), count=3)
    await begin(conn, template(namespace="bills"))
    refused = await api.post("/v1/tasks", json={"name": "flow", "namespace": "shop"})
    other = await api.post("/v1/tasks", json={"name": "flow", "namespace": "bills"})
    listed = await api.get("/v1/tasks")
    detailed = (await api.get("/health/detailed")).json()
    ready = await api.get("/health/ready")
    scrape = (await api.get("/metrics")).text
    await worker.claim()
    app.state.backend.watch._last = None  # it may be two seconds old
    again = await api.post("/v1/tasks", json={"name": "flow", "namespace": "shop"})

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (503, "BACKPRESSURE")
    assert (problem["reason"], problem["queue"], problem["depth"]) == ("queue_depth", "shop", 3)
    assert 24 <= int(refused.headers["Retry-After"]) <= 36
    assert problem["retry_after_seconds"] == int(refused.headers["Retry-After"])
    assert (other.status_code, listed.status_code, again.status_code) == (201, 200, 201)
    assert detailed["checks"]["load"]["message"].startswith("no more tasks are taken for shop")
    assert ready.status_code == 200
    assert 'tasker_tasks_refused_total{reason="queue_depth"} 1.0' in scrape


async def test_no_more_requests_wait_than_may(api: httpx.AsyncClient, app: FastAPI) -> None:
    """The one too many hears so at once; the one that waits is served; health stays ready."""
    backend = app.state.backend
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(backend.connection())
        waiting = asyncio.create_task(api.get("/v1/tasks"))
        await eventually(lambda: backend.waiting == 1)
        refused = await api.get("/v1/tasks")
        health = await api.get("/health/ready")
    served = await waiting

    assert (refused.status_code, refused.json()["code"]) == (503, "BACKPRESSURE")
    assert refused.json()["reason"] == "pool"
    assert int(refused.headers["Retry-After"]) >= 1
    assert served.status_code == 200
    assert health.status_code == 200
    assert health.json()["checks"]["pool"]["message"].startswith("2 of 2 connections are in use")
    assert health.json()["checks"]["database"]["status"] == "degraded"


async def test_no_statement_of_the_server_runs_for_ever(app: FastAPI) -> None:
    """Nor does a transaction that has fallen silent hold its locks."""
    async with app.state.backend.connection() as conn:
        with pytest.raises(asyncpg.QueryCanceledError):
            await conn.execute("select pg_sleep(20)")
        assert await conn.fetchval("show idle_in_transaction_session_timeout") == "300ms"
