"""When a worker that nobody wakes looks by itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from tasker_core.engine.claim import Work
from tasker_core.worker.lookout import Lookout

SHORTEST_WAIT_SECONDS = 0.02
CLOCK_SECONDS = 0.002  # by which a loop's timer may be early


class Alarm:
    """Rings when the next delayed step is due, and when it is time to look everywhere.

    Args:
        lookout: What is told where to look.
        wake: Called then, on the event loop.
    """

    def __init__(self, lookout: Lookout, wake: Callable[[], None]) -> None:
        self._lookout = lookout
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = -math.inf  # time of the loop
        self._due_at = math.inf  # likewise: the next delayed step, as far as is known

    def set(self, work: Work | None) -> None:
        """Set it anew, after a call for work or after none."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if work is not None and work.due_in is not None:
            due_in = max(SHORTEST_WAIT_SECONDS, work.due_in.total_seconds())
            self._due_at = min(self._due_at, now + due_in)
        at = min(self._due_at, now + self._lookout.seconds_to_poll)
        at = max(at, now + SHORTEST_WAIT_SECONDS)
        if now < self._rings_at <= at:
            return
        self.cancel()
        self._rings_at = at
        self._timer = loop.call_later(at - now, self._ring)

    def cancel(self) -> None:
        """Let it not ring before it is set again."""
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = -math.inf

    def _ring(self) -> None:
        self._rings_at = -math.inf
        if self._due_at <= asyncio.get_running_loop().time() + CLOCK_SECONDS:
            self._due_at = math.inf
            self._lookout.is_due = True
        if self._lookout.seconds_to_poll <= CLOCK_SECONDS:
            self._lookout.look_everywhere()
        self._wake()
