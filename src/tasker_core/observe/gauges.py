"""What is measured in the database, read once for all who ask at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from tasker_core.db.connect import Connection
from tasker_core.engine.gauges import (
    Gauges,
    LongTransaction,
    list_long_transactions,
    read_gauges,
)

LONG_TRANSACTION = timedelta(seconds=10)
READ_SECONDS = 3.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured, and when."""

    gauges: Gauges
    held: list[LongTransaction]  # of more than LONG_TRANSACTION, the oldest first
    read_at: float  # time.monotonic()


async def read(conn: Connection) -> Reading:
    """Measure now."""
    gauges = await read_gauges(conn)
    held = await list_long_transactions(conn, longer_than=LONG_TRANSACTION)
    return Reading(gauges, held, time.monotonic())


class Watch:
    """Measures when asked, once for all who ask while it does.

    Args:
        connect: Lends a connection.
        measure: What to do with it.
    """

    def __init__(
        self, connect: Connect, measure: Callable[[Connection], Awaitable[Reading]] = read
    ) -> None:
        self._connect = connect
        self._measure = measure
        self._last: Reading | None = None
        self._under_way: asyncio.Task[Reading] | None = None

    async def reading(self, *, max_age: float = 0.0) -> Reading:
        """Give a reading of at most this age, in seconds.

        Raises:
            DatabaseUnreachable: There is none, and the database does not answer.
            TimeoutError: Not in time.
        """
        last = self._last
        if last is not None and time.monotonic() - last.read_at < max_age:
            return last
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._read())
            self._under_way.add_done_callback(self._forget)
        return await asyncio.shield(self._under_way)

    async def _read(self) -> Reading:
        async with asyncio.timeout(READ_SECONDS), self._connect() as conn:
            self._last = await self._measure(conn)
        return self._last

    def _forget(self, done: asyncio.Task[Reading]) -> None:
        self._under_way = None
        if not done.cancelled():
            done.exception()  # whoever asked has it; nobody may be left
