"""Connections to the college's own tables, in the same database as Tasker's.

Each use opens a connection, so it works on any thread and event loop: the routes run on
the application's loop, the handlers on the worker's.
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


@asynccontextmanager
async def connect() -> AsyncIterator[Connection]:
    """Give a connection."""
    database = await asyncio.to_thread(_database)
    conn = await database.connect("campus")
    try:
        yield conn
    finally:
        await conn.close()


async def prepare() -> None:
    """Make the tables that are not there yet."""
    async with connect() as conn, conn.transaction():
        await conn.execute("select pg_advisory_xact_lock(hashtext('campus'))")
        await conn.execute(SCHEMA)


@cache
def _database() -> Database:
    return resolve_database(Settings())
