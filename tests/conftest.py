"""A real PostgreSQL for every test that wants one: one server a session, clean tables a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from support.postgres import start_session_server
from tasker_core.db.migrate import upgrade
from tasker_core.engine.register import TemplateShelf

TABLES = [
    "template_steps",
    "lanes",
    "templates",
    "tasks",
    "kept_identities",
    "steps",
    "ready",
    "delayed",
    "leases",
    "attempts",
    "changes",
    "workers",
    "dlq_entries",
    "outbox",
    "failed_events",
    "api_keys",
]


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A database with the schema in it, shared by the session."""
    server = start_session_server()

    async def prepare() -> None:
        conn = await asyncpg.connect(server.url)
        await upgrade(conn)
        await conn.close()

    asyncio.run(prepare())
    yield server.url
    server.stop()


@pytest.fixture
async def clean_database(database_url: str) -> str:
    """The database, emptied."""
    conn = await asyncpg.connect(database_url)
    await conn.execute(";".join(f"delete from tasker.{table}" for table in TABLES))
    await conn.close()
    return database_url


@pytest.fixture
async def conn(clean_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the emptied database."""
    conn = await asyncpg.connect(clean_database)
    yield conn
    await conn.close()


@pytest.fixture
def shelf() -> TemplateShelf:
    """Where registered templates are kept."""
    return TemplateShelf()
