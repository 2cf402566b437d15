"""A server on the test's database, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.credentials import public_pem
from support.flows import Worker
from tasker_core.server.app import create_app
from tasker_core.settings import Settings


@pytest.fixture
def settings(clean_database: str) -> Settings:
    """Small limits, and a sweep at the start only."""
    return Settings(database_url=clean_database, sweep_seconds=3600, max_context_bytes=100_000)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The server, started."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the server."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        yield client


@pytest.fixture
def worker(conn: asyncpg.Connection) -> Worker:
    """A worker that serves every lane."""
    return Worker(conn)


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Asks a server that asks back who calls: it takes API keys, and tokens of ours."""
    app = create_app(settings.model_copy(update={"auth": True, "jwt_public_key": public_pem()}))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tasker") as client,
    ):
        yield client
