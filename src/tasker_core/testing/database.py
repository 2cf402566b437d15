"""The throw-away database: one a test session, made in about a second, emptied in a moment.

It is an embedded PostgreSQL in a temporary directory, or a database of its own on the
server that TASKER_TEST_DATABASE_URL names. Either is removed at the end. Tests are
mostly not async, so an event loop in a thread of its own does the talking.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from tasker_core.db import embedded
from tasker_core.db.connect import Database, driver_url
from tasker_core.db.migrate import upgrade
from tasker_core.errors import DatabaseNotConfigured, SetupError
from tasker_core.testing import clock

VARIABLE = "TASKER_TEST_DATABASE_URL"

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class NoTestDatabase(DatabaseNotConfigured):
    """There is no PostgreSQL to run workflows on."""

    code = "no_test_database"

    def __init__(self) -> None:
        SetupError.__init__(
            self,
            "tests of whole workflows need PostgreSQL: install the embedded one with "
            "pip install 'tasker-py[embedded]', or let "
            f"{VARIABLE}=postgresql://user@host/postgres name a server on which the user may "
            "create databases",
        )


class Portal:
    """An event loop in a thread, for code that has none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="tasker-test")
        self._loop.set_default_executor(self._executor)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tasker-test", daemon=True
        )
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for it."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("an async handler cannot wait for the run that it is a part of")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._executor.shutdown()
        self._loop.close()


class Guest(Protocol):
    """Who uses a database at the moment."""

    def close(self) -> None:
        """Leave it alone from now on."""


class ThrowAwayDatabase:
    """A database with Tasker's schema and a clock that tests move.

    `url` is its address, for code under test that connects by itself.

    Args:
        server_url: A server to make a database on; None: TASKER_TEST_DATABASE_URL, or an
            embedded one.

    Raises:
        NoTestDatabase: The extra `embedded` is not installed, and no server is named.
        DatabaseUnreachable, EmbeddedDatabaseError: The server does not answer or start.
    """

    def __init__(self, server_url: str | None = None) -> None:
        self._owner = os.getpid()
        self.guest: Guest | None = None
        self.portal = Portal()
        self.clock = clock.Clock(self)
        self._home: Path | None = None
        self._lease: embedded.EmbeddedLease | None = None
        self._server_url = server_url or os.environ.get(VARIABLE)
        self._stack = AsyncExitStack()
        try:
            self.url = self._make()
            self.database = Database(self.url)
            self.portal.call(self._prepare())
        except BaseException:
            self.close()
            raise

    def do(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something with a connection to it, from a test that is not async."""

        async def turn() -> T:
            async with self.turn:
                return await work(self.side)

        return self.portal.call(turn())

    def clean(self) -> None:
        """Empty all tables, and set the clock to the present."""
        self.do(lambda conn: conn.execute(self._clean))

    def close(self) -> None:
        """Remove it. A second call does nothing; a child made by fork removes nothing."""
        if self._owner != os.getpid():
            return
        self._owner = 0
        if self.guest is not None:
            self.guest.close()
        self.portal.call(self._stack.aclose())
        self.portal.close()
        if self._lease is not None:
            self._lease.release()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- making it ----------------------------------------------------------------------

    def _make(self) -> str:
        if self._server_url:
            return self.portal.call(self._create_on(driver_url(self._server_url)))
        self._home = Path(tempfile.mkdtemp(prefix="tasker-kit-"))
        try:
            self._lease = embedded.acquire(self._home)
        except DatabaseNotConfigured:
            raise NoTestDatabase() from None
        return self._lease.url

    async def _create_on(self, server_url: str) -> str:
        name = f"tasker_test_{uuid4().hex}"
        await _execute(server_url, f'create database "{name}"')
        self._stack.push_async_callback(
            _execute, server_url, f'drop database if exists "{name}" with (force)'
        )
        return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))

    async def _prepare(self) -> None:
        self.turn = asyncio.Lock()  # whose turn it is on the connection `side`
        self.side = await self._connect()
        if self._lease is not None:  # no test looks at what survives a power cut
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                await self.side.execute(f"alter system set {setting} = off")
            await self.side.execute("select pg_reload_conf()")
        await self.side.execute("set synchronous_commit = off")
        await upgrade(self.side)
        await self.side.execute(clock.INSTALL)
        self._clean = await _cleaning(self.side)
        self.conn = await self._connect()  # the worker's
        await self.conn.execute("set synchronous_commit = off")

    async def _connect(self) -> Connection:
        conn = await self.database.connect("tasker test")
        self._stack.push_async_callback(conn.close)
        return conn


_shared: ThrowAwayDatabase | None = None
_lock = threading.Lock()


def shared_database() -> ThrowAwayDatabase:
    """Give the database of this process; the first call makes it.

    Raises:
        NoTestDatabase: See `ThrowAwayDatabase`.
    """
    global _shared
    with _lock:
        if _shared is None:
            _shared = ThrowAwayDatabase()
            atexit.register(close_shared_database)
        return _shared


def close_shared_database() -> None:
    """Remove the database of this process, if there is one."""
    global _shared
    with _lock:
        database, _shared = _shared, None
        if database is not None:
            atexit.unregister(close_shared_database)
            database.close()


async def _execute(url: str, sql: str) -> None:
    conn = await Database(url).connect("tasker test")
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


async def _cleaning(conn: Connection) -> str:
    """Write the SQL that empties every table of the schema, those that point first."""
    rows = await conn.fetch(
        "select c.oid::regclass::text as name, "
        "array(select f.confrelid::regclass::text from pg_constraint as f "
        "  where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid) as targets "
        "from pg_class as c where c.relnamespace = 'tasker'::regnamespace "
        "and c.relkind in ('r', 'p') and not c.relispartition "
        "and c.relname not like 'schema\\_%' order by 1"
    )
    order = TopologicalSorter({row["name"]: row["targets"] for row in rows}).static_order()
    deletes = [f"delete from {name};" for name in reversed(list(order))]
    deletes += ["delete from tasker_test.held_ready; delete from tasker_test.held_delayed;"]
    reset = "update tasker_test.hands set at = clock_timestamp(); "
    return "".join([*deletes, reset, "select setval('tasker_test.ticks', 1, false);"])
