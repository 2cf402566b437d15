"""Connections to the shop's tables.

They are where Tasker's are: in the database of DATABASE_URL, or without one in the
embedded PostgreSQL of the working directory. Each use opens a connection, which works on
any thread and event loop: the routes run on the application's, the handlers on the
worker's. A busy shop would keep a pool for each of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from tasker_core.db import Connection, Database, resolve_database
from tasker_core.settings import Settings

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")

_prepared: set[str] = set()


@asynccontextmanager
async def connect() -> AsyncIterator[Connection]:
    """Give a connection; the first one makes the tables."""
    database = await asyncio.to_thread(_database)
    conn = await database.connect("shop")
    try:
        if database.url not in _prepared:
            await _prepare(conn)
            _prepared.add(database.url)
        yield conn
    finally:
        await conn.close()


@cache
def _database() -> Database:
    return resolve_database(Settings())


async def _prepare(conn: Connection) -> None:
    # One at a time: two that make the same table at once would disturb each other.
    async with conn.transaction():
        await conn.execute("select pg_advisory_xact_lock(hashtext('shop'))")
        await conn.execute(SCHEMA)
