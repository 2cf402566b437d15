"""A server a session, and a new database or a new directory a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from support.postgres import create_database, drop_database, start_session_server
from tasker_core.db import Database, embedded


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the address of a server that lives as long as the session."""
    server = start_session_server()
    yield server.url
    server.stop()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """Give an empty database."""
    url = await create_database(postgres_url)
    yield Database(url)
    await drop_database(url)


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection to an empty database."""
    connection = await database.connect("test")
    yield connection
    await connection.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Give a directory for an embedded server, which is stopped afterwards."""
    yield tmp_path / ".tasker"
    embedded.stop(tmp_path / ".tasker")
