"""A second connection, for when one call after the other is not enough.

While the database settles one half of a worker's steps, the other half has run as well, and
waits. Then a second call goes out beside the first, so that neither processor waits for the
other, nor for the disk. With little to do there is one call at a time, on one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tasker_core.db.connect import Connection, reconnect
from tasker_core.worker.broken import BROKEN, reason, rest

_log = structlog.get_logger("tasker.worker")


class SecondConnection:
    """Takes turns of the worker's when it is asked to.

    Args:
        connect: Opens a connection; not before it is needed.
        take_turn: Makes one call on a connection, and begins what it brought.
        on_loss: Called when a call was cut off: nobody knows what became of it.
        stopping: Set when the worker is to stop.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        take_turn: Callable[[Connection], Awaitable[object]],
        on_loss: Callable[[], None],
        stopping: asyncio.Event,
    ) -> None:
        self._connect = connect
        self._take_turn = take_turn
        self._on_loss = on_loss
        self._stopping = stopping
        self._asked = asyncio.Event()
        self.idle = asyncio.Lock()  # held during a turn; hold it so that none is taken

    def ask(self) -> None:
        """Take a turn, beside the one that is under way."""
        self._asked.set()

    async def run(self) -> None:
        """Take turns until it is cancelled, over every broken connection."""
        failures = 0
        while True:
            await self._asked.wait()
            conn = await reconnect(self._connect, self._stopping)
            if conn is None:
                return
            try:
                while True:
                    await self._asked.wait()
                    self._asked.clear()
                    async with self.idle:
                        await self._take_turn(conn)
                    failures = 0
            except BROKEN as error:
                _log.warning("worker_disconnected", error=reason(error), connection="second")
                self._on_loss()
                self._asked.set()  # what it carried still waits
            finally:
                conn.terminate()
            await rest(failures, self._stopping)
            failures += 1
