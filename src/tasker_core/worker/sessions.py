"""Connections with an open transaction, of the drivers that applications use.

All look alike. The methods of those that block never wait for an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncpg

from tasker_core.db.asking import Asking
from tasker_core.db.connect import Database, libpq_url
from tasker_core.db.drivers import ask_async, ask_sync
from tasker_core.errors import TransactionMisuse

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection as AlchemyConnection
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

NAME = "tasker worker transaction"
MOST_CONNECTIONS = 10  # of each of the worker's own two pools
CALL_SECONDS = 60.0  # a connection that is silent for longer is taken for broken
ROLLBACK_SECONDS = 5.0
# What a handler may have left in a session that others will use.
_CLEAN = "close all; unlisten *; select pg_advisory_unlock_all(); reset all"


class Session(Protocol):
    """A connection in use. `connection` is what the handler gets."""

    connection: Any

    async def begin(self) -> None:
        """Connect, and begin; after an error there is nothing to end."""

    async def ask(self, asking: Asking[T]) -> T:
        """Run statements of the engine in the transaction."""

    async def commit(self) -> None:
        """Commit; after an error, roll back."""

    async def roll_back(self) -> None:
        """Roll back, or break the connection off, which comes to the same. Never raises."""

    async def release(self) -> None:
        """Let go of a connection whose transaction is committed. Never raises."""


class AsyncpgSession:
    """A connection of the worker's own, for async handlers."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def begin(self) -> None:
        self._pool = await self._pools.asyncpg()
        self.connection = await self._pool.acquire()
        try:
            self._transaction = self.connection.transaction(isolation="read_committed")
            await self._transaction.start()
        except BaseException:
            await self._break_off()
            raise

    async def ask(self, asking: Asking[T]) -> T:
        async with asyncio.timeout(CALL_SECONDS):
            return await ask_async(self.connection, asking)

    async def commit(self) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            await self._transaction.commit()

    async def roll_back(self) -> None:
        try:
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await self._transaction.rollback()
        except BaseException:  # a cancellation, too: what was asked for comes to the same
            await self._break_off()
        else:
            await self.release()

    async def release(self) -> None:
        try:
            await self._pool.release(self.connection, timeout=ROLLBACK_SECONDS)
        except BaseException:
            await self._break_off()

    async def _break_off(self) -> None:
        with suppress(asyncpg.InterfaceError, OSError):  # it is closed, or not the pool's any more
            self.connection.terminate()
            await self._pool.release(self.connection)


class PsycopgSession:
    """A connection of the worker's own, for handlers in threads."""

    connection: psycopg.Connection

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def begin(self) -> None:
        self.connection = self._pools.take_psycopg()

    async def ask(self, asking: Asking[T]) -> T:
        return ask_sync(self.connection, asking)

    async def commit(self) -> None:
        self.connection.commit()

    async def roll_back(self) -> None:
        try:
            self.connection.rollback()
        except BaseException:
            self._pools.drop_psycopg(self.connection)
        else:
            await self.release()

    async def release(self) -> None:
        self._pools.put_psycopg(self.connection)


class AlchemySession:
    """A connection of the application's own engine, for handlers in threads."""

    connection: AlchemyConnection

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def begin(self) -> None:
        self.connection = self._engine.connect()
        try:
            self._transaction = self.connection.begin()
        except BaseException:
            self.connection.close()
            raise

    async def ask(self, asking: Asking[T]) -> T:
        answer = ask_sync(self.connection, asking)
        _refuse_autocommit(self.connection.connection.driver_connection)
        return answer

    async def commit(self) -> None:
        self._transaction.commit()

    async def roll_back(self) -> None:
        try:
            self._transaction.rollback()
            self.connection.close()
        except BaseException:
            with suppress(Exception):
                self.connection.invalidate()
                self.connection.close()

    async def release(self) -> None:
        with suppress(Exception):
            self.connection.close()


class AsyncAlchemySession:
    """A connection of the application's own engine, for async handlers."""

    connection: AsyncConnection

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self) -> None:
        self.connection = await self._engine.connect()
        try:
            self._transaction = await self.connection.begin()
        except BaseException:
            await self.connection.close()
            raise

    async def ask(self, asking: Asking[T]) -> T:
        async with asyncio.timeout(CALL_SECONDS):
            answer = await ask_async(self.connection, asking)
            raw = await self.connection.get_raw_connection()
        _refuse_autocommit(raw.driver_connection)
        return answer

    async def commit(self) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            await self._transaction.commit()

    async def roll_back(self) -> None:
        try:
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await self._transaction.rollback()
                await self.connection.close()
        except BaseException:
            with suppress(Exception):
                await self.connection.invalidate()
                await self.connection.close()

    async def release(self) -> None:
        with suppress(Exception):
            await self.connection.close()


class Pools:
    """The worker's own connections for transactions of handlers, opened when first asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._idle: list[psycopg.Connection] = []
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._is_closed = False

    async def asyncpg(self) -> asyncpg.Pool[asyncpg.Record]:
        """Give the pool of the loop."""
        async with self._opening:
            if self._pool is None:
                self._pool = await self._database.pool(NAME, min_size=0, max_size=MOST_CONNECTIONS)
        return self._pool

    def take_psycopg(self) -> psycopg.Connection:
        """Give a connection; blocks while all are in use."""
        try:
            import psycopg
        except ImportError:
            raise TransactionMisuse(
                "a handler in a thread gets a connection of psycopg 3, which is not installed: "
                "pip install 'tasker-py[psycopg]', give context.transaction() a SQLAlchemy "
                "Engine, or make the handler async"
            ) from None
        self._room.acquire()
        try:
            while (conn := self._take_idle()) is not None:
                try:
                    conn.execute("")
                    conn.row_factory = psycopg.rows.tuple_row
                    return conn
                except psycopg.OperationalError:  # its server was restarted meanwhile
                    conn.close()
            conn = psycopg.connect(
                libpq_url(self._database.url), application_name=NAME, connect_timeout=10
            )
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return conn
        except BaseException:
            self._room.release()
            raise

    def _take_idle(self) -> psycopg.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def put_psycopg(self, conn: psycopg.Connection) -> None:
        """Take back a connection without a transaction."""
        try:
            conn.autocommit = True
            conn.execute(_CLEAN)
            conn.autocommit = False
        except BaseException:
            self.drop_psycopg(conn)
        else:
            self._idle.append(conn)
            self._room.release()
            if self._is_closed:  # the worker has stopped without this thread
                self._close_idle()

    def drop_psycopg(self, conn: psycopg.Connection) -> None:
        """Close a connection that is not to be used again."""
        conn.close()
        self._room.release()

    def close(self) -> None:
        """Close what is idle, and break off what the loop has in use. On the loop."""
        self._is_closed = True
        if self._pool is not None:
            self._pool.terminate()
        self._close_idle()

    def _close_idle(self) -> None:
        while (conn := self._take_idle()) is not None:
            conn.close()


def _refuse_autocommit(driver: Any) -> None:
    """See that the driver is in a transaction, if it is one that can tell."""
    info = getattr(driver, "info", None)  # psycopg's; a status of 0 is idle
    is_open = getattr(driver, "is_in_transaction", lambda: True)()
    if not is_open or getattr(info, "transaction_status", 1) == 0:
        raise TransactionMisuse(
            "the engine is in the isolation level AUTOCOMMIT, so there is no transaction: give "
            'context.transaction() engine.execution_options(isolation_level="READ COMMITTED")'
        )
