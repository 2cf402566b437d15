"""A server to talk to, and servers that are made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.flows import Worker
from tasker_core.client.address import _TIMEOUT_VARIABLE, _TOKEN_VARIABLES, _URL_VARIABLES
from tasker_core.server.app import create_app
from tasker_core.settings import Settings

Serve = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the machine has set reaches a client."""
    own = ("TASKER_API_KEY", "TASKER_API_KEY_HEADER", _TIMEOUT_VARIABLE)
    for name in (*_URL_VARIABLES, *_TOKEN_VARIABLES, *own):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def app(clean_database: str) -> AsyncIterator[FastAPI]:
    """A server, started, without a socket."""
    app = create_app(Settings(database_url=clean_database, sweep_seconds=3600))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def worker(conn: asyncpg.Connection) -> Worker:
    """A worker that serves every lane."""
    return Worker(conn)
