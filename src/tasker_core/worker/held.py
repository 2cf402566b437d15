"""Results of tasks that somebody else holds: they wait, and keep no others waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import asyncpg
import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.finish import Finished
from tasker_core.worker.record import Recorder

LOCK_SECONDS = 2.0  # a task that somebody else holds for longer is left for later
SHORT_LOCK_SECONDS = 0.02  # likewise, when it is tried again
HELD_SECONDS = 1.0  # until then

_log = structlog.get_logger("tasker.worker")


async def limit_lock_waits(conn: Connection, seconds: float | None = None) -> None:
    """Let a call on this connection wait for a task no longer than this; None: as is usual."""
    await conn.execute(f"set lock_timeout = '{LOCK_SECONDS if seconds is None else seconds} s'")


class HeldResults:
    """The results of calls that would have had to wait.

    Args:
        wake: Called, on the event loop, when those that are left are to be tried again.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.results: list[Finished] = []
        self._next_at = 0.0  # time.monotonic()

    def add(self, results: Iterable[Finished]) -> None:
        """Take the results of a call; each is tried by itself at once."""
        self.results += results
        self._next_at = 0.0

    @property
    def are_due(self) -> bool:
        """Whether there are any to try."""
        return bool(self.results) and time.monotonic() >= self._next_at

    async def record(
        self, conn: Connection, recorder: Recorder, note: Callable[[list[Finished]], None]
    ) -> None:
        """Record them one by one, noting what counted; those whose task is held wait on."""
        await limit_lock_waits(conn, SHORT_LOCK_SECONDS)
        for one in list(self.results):
            try:
                note(await recorder.record_alone(conn, one))
                self.results.remove(one)
            except asyncpg.LockNotAvailableError:
                _log.warning("task_held", task_uuid=str(one.task_uuid), step_no=one.step_no)
        await limit_lock_waits(conn)
        if self.results:
            self._next_at = time.monotonic() + HELD_SECONDS
            asyncio.get_running_loop().call_later(HELD_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._next_at = 0.0
        self._wake()
