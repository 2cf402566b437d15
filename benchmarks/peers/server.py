"""The PostgreSQL of all systems: the embedded one, an empty database for each turn."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from tasker_core.db import embedded, layout

DATABASE = "peers"
_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")


class Logged:
    """How many statements were logged."""

    statements = 0


class Server:
    """A server, and a connection to its database `postgres`."""

    def __init__(self, home: Path, conn: asyncpg.Connection) -> None:
        self._home, self._conn = home, conn

    async def version(self) -> str:
        """Say which server it is."""
        return str(await self._conn.fetchval("show server_version"))

    async def empty_database(self) -> str:
        """Drop the database of the turn before, make a new one; give its URL.

        A checkpoint comes first, so that nobody writes for another.
        """
        await self._conn.execute(f"drop database if exists {DATABASE} with (force)")
        await self._conn.execute(f"create database {DATABASE}")
        await self._conn.execute("checkpoint")
        return layout.url(self._home, DATABASE)

    async def counters(self) -> dict[str, float]:
        """Read what was committed and written so far."""
        await self._conn.execute("select pg_stat_clear_snapshot()")
        row = await self._conn.fetchrow(
            "select xact_commit as commits, tup_inserted + tup_updated + tup_deleted as rows, "
            "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float as wal "
            "from pg_stat_database where datname = $1",
            DATABASE,
        )
        assert row is not None
        return {name: float(value) for name, value in row.items()}

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Logged]:
        """Count the statements of all sessions inside."""
        logged, log = Logged(), layout.log_file(self._home)
        await self._log("all")
        begins = log.stat().st_size
        yield logged
        with log.open("rb") as file:
            file.seek(begins)
            logged.statements = len(_STATEMENT.findall(file.read()))
        await self._log("none")

    async def _log(self, what: str) -> None:
        await self._conn.execute(f"alter system set log_statement = '{what}'")
        await self._conn.execute("select pg_reload_conf()")
        await asyncio.sleep(0.3)


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """Run a server with fsync and synchronous commits, as the engine's users have it."""
    with tempfile.TemporaryDirectory(prefix="tasker-peers-") as directory:
        lease = await asyncio.to_thread(embedded.acquire, Path(directory) / "home")
        try:
            conn = await asyncpg.connect(layout.url(lease.home, "postgres"))
            yield Server(lease.home, conn)
            await conn.close()
        finally:
            await asyncio.to_thread(lease.release)
