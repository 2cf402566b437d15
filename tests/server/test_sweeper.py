"""Sweep now and then, whatever happens to the database."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.flows import Worker, begin_one, state, template
from tasker_core.db import Database, embedded, migrate
from tasker_core.server.app import create_app
from tasker_core.settings import Settings
from tasker_core.states import TaskState


@pytest.fixture
async def own_database(tmp_path: Path) -> AsyncIterator[Database]:
    """An embedded server of the test's own, which it may kill."""
    home = tmp_path / ".tasker"
    lease = await asyncio.to_thread(embedded.acquire, home)
    conn = await asyncpg.connect(lease.url)
    await migrate.upgrade(conn)
    await conn.close()
    yield Database(lease.url, lease)
    await asyncio.to_thread(lease.release)
    embedded.stop(home)


async def until_status(api: httpx.AsyncClient, wanted: int) -> None:
    """Return once the server is ready, or is not."""
    async with asyncio.timeout(30):
        while (await api.get("/health/ready")).status_code != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_lost_step_is_taken_back(settings: Settings, conn: asyncpg.Connection) -> None:
    """Its worker is gone; the server alone sees to it."""
    task_uuid = await begin_one(conn, template(retry={"max_attempts": 1}))
    worker = Worker(conn)
    await worker.claim_one()
    await conn.execute("update tasker.leases set ends_at = tasker.now() - interval '1 second'")
    app = create_app(settings.model_copy(update={"sweep_seconds": 0.02}))
    async with app.router.lifespan_context(app), asyncio.timeout(30):
        while await state(conn, task_uuid) is TaskState.STEPS_IN_PROCESS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the sweep tells nobody

    assert await state(conn, task_uuid) is TaskState.BLOCKED_BY_FAILURES


async def test_old_tasks_leave(settings: Settings, conn: asyncpg.Connection) -> None:
    """By the server alone, as the settings say."""
    await begin_one(conn, template())
    worker = Worker(conn)
    await worker.succeed(await worker.claim_one())
    kept = await begin_one(conn, template())
    ages = {"sweep_seconds": 0.02, "retention_days": 1e-9}
    app = create_app(settings.model_copy(update=ages))
    async with app.router.lifespan_context(app), asyncio.timeout(30):
        while await conn.fetchval("select count(*) from tasker.tasks") > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # nobody is told

    assert await state(conn, kept) is TaskState.STEPS_IN_PROCESS


async def test_a_killed_embedded_database_comes_back(own_database: Database) -> None:
    """Requests meanwhile are answered 503; nobody has to restart the server."""
    app: FastAPI = create_app(Settings(sweep_seconds=0.1), own_database)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tasker") as api,
    ):
        await until_status(api, 200)
        lease = own_database.embedded
        assert lease is not None
        pid = embedded.status(lease.home).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until_status(api, 503)
        meanwhile = await api.get("/v1/tasks")
        await until_status(api, 200)
        afterwards = await api.get("/v1/tasks")

    assert meanwhile.status_code in (200, 503)
    assert afterwards.status_code == 200
