"""What is known of one task, or of all: a window of events, and a bell.

Events are numbered from 1 without a gap. A window holds the latest of them; a reader that
is behind its beginning is too slow for it. Readers hold a number and nothing else, so a
thousand of them cost no more than their connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

E = TypeVar("E")


class Behind(Exception):
    """The reader is so far behind that events it has not read are gone from the window."""


class Window(Generic[E]):
    """The latest events, up to `size` of them."""

    def __init__(self, size: int, count: int = 0) -> None:
        self._events: deque[E] = deque(maxlen=size)
        self.count = count  # how many there have been
        self.end: str | None = None  # why no more will come
        self._bell = asyncio.Event()

    @property
    def first(self) -> int:
        """The number of the oldest event that is held."""
        return self.count - len(self._events) + 1

    def add(self, events: list[E]) -> None:
        """Take in what comes next, and wake whoever waits."""
        self._events.extend(events)
        self.count += len(events)
        self.ring()

    def close(self, why: str) -> None:
        """Let no more come."""
        self.end = self.end or why
        self.ring()

    def ring(self) -> None:
        """Wake whoever waits; there may be nothing new."""
        self._bell.set()
        self._bell = asyncio.Event()

    def after(self, number: int, limit: int) -> list[E]:
        """Give the events after this one.

        Raises:
            Behind: Some of them are not held any more.
        """
        if number + 1 < self.first:
            raise Behind
        begin = number + 1 - self.first
        return [
            self._events[place] for place in range(begin, min(begin + limit, len(self._events)))
        ]

    async def wait(self, number: int, seconds: float) -> bool:
        """Wait until there is more than this, or an end; False: there is not in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.count <= number and self.end is None:
            bell = self._bell
            try:
                async with asyncio.timeout_at(deadline):
                    await bell.wait()
            except TimeoutError:
                return False
        return True
