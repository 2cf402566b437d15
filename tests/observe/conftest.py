"""A server and workers to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.flows import Worker
from support.workers import Bench
from tasker_core.server.app import create_app
from tasker_core.settings import Settings


@pytest.fixture
async def bench(clean_database: str, conn: asyncpg.Connection) -> AsyncIterator[Bench]:
    """Tasks and workers on the test's database."""
    bench = Bench(clean_database, conn)
    yield bench
    await bench.close()


@pytest.fixture
async def app(clean_database: str) -> AsyncIterator[FastAPI]:
    """The server, started; a namespace with three enqueued steps is full."""
    app = create_app(
        Settings(database_url=clean_database, sweep_seconds=3600, max_enqueued_steps=3)
    )
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the server."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        yield client


@pytest.fixture
def hand(conn: asyncpg.Connection) -> Worker:
    """A worker in the hand of the test."""
    return Worker(conn)
