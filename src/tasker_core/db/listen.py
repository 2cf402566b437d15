"""Hear what PostgreSQL notifies, over every broken connection.

A notification is a hint to look, never the truth: it may be lost with a connection.
So after every connection, the first one too, the callback is called with None, which
means: look for yourself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from tasker_core.db.connect import reconnect
from tasker_core.errors import DatabaseUnreachable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

CHECK_SECONDS = 15.0  # a network that drops packets breaks connections in silence
CHECK_TIMEOUT_SECONDS = 5.0

_BROKEN = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # killed in the middle of a message
)

_log = structlog.get_logger("tasker.db")


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification."""

    channel: str
    payload: str  # "" when the sender gave none


class Listener:
    """One connection that listens on channels, for as long as the context is open.

    Args:
        connect: Opens a connection, such as `lambda: database.connect("listener")`.
        channels: What to listen on.
        callback: Called in the event loop with each notice, and with None after each
            connection. It must not block or raise; usually it sets an event.
        check_seconds: How often to see whether a silent connection still works.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
        channels: Sequence[str],
        callback: Callable[[Notice | None], None],
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._connect = connect
        self._channels = tuple(channels)
        self._callback = callback
        self._check_seconds = check_seconds
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background; the callback's first None says that it listens."""
        self._task = asyncio.create_task(self._run(), name="tasker-listener")

    async def stop(self) -> None:
        """Close the connection. A second call does nothing.

        Raises:
            Exception: What ended the listener before its time, if anything did.
        """
        self._stop.set()
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def __aenter__(self) -> Listener:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        while (conn := await reconnect(self._open, self._stop)) is not None:
            try:
                self._callback(None)
                await self._watch(conn)
            except _BROKEN as error:
                _log.warning("listener_disconnected", error=str(error) or type(error).__name__)
            finally:
                conn.terminate()

    async def _open(self) -> asyncpg.Connection[asyncpg.Record]:
        conn = await self._connect()
        try:
            for channel in self._channels:
                await conn.add_listener(channel, self._hear)
        except BaseException as error:
            conn.terminate()
            if isinstance(error, _BROKEN):  # a rest before the next attempt
                raise DatabaseUnreachable("LISTEN", str(error)) from error
            raise
        return conn

    async def _watch(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        """Return never; raise one of `_BROKEN` when the connection is gone."""
        closed = asyncio.Event()
        conn.add_termination_listener(lambda _: closed.set())
        while not (closed.is_set() or conn.is_closed()):
            try:
                await asyncio.wait_for(closed.wait(), self._check_seconds)
            except TimeoutError:
                await conn.execute("select", timeout=CHECK_TIMEOUT_SECONDS)
        raise ConnectionResetError("the server closed the connection")

    def _hear(
        self,
        conn: asyncpg.Connection[Any] | PoolConnectionProxy[Any],
        pid: int,
        channel: str,
        payload: object,
    ) -> None:
        self._callback(Notice(channel, str(payload)))
