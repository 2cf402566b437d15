"""Durable events for the subscribers of this process that ask for them.

The process whose relay holds the lock delivers, so every worker registers the same
subscribers. One event at a time: it is delivered when all of them have handled it.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tasker_core.engine.relay import OutboxEvent

if TYPE_CHECKING:
    from tasker_core.handlers.events.subscribers import SubscriberRegistry

_EVENTS = "tasker_core.handlers.events"


def wants_durable_events() -> bool:
    """Say whether a subscriber of this process asks for durable events."""
    if _EVENTS not in sys.modules:  # then nobody has registered any
        return False
    return _registry().has_durable()


class SubscriberSink:
    """Hands events to the subscribers that the process has started."""

    name = "subscribers"
    width = 1

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Have a thread for the subscribers; raise if none is there to take durable events."""
        if not _registry().has_active_durable():
            raise RuntimeError("no durable subscriber of this process is active")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tasker-durable-events")

    async def deliver(self, event: OutboxEvent) -> None:
        """Return when every subscriber that wants it has handled it; raise if one failed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, hand_over, event)

    async def close(self) -> None:
        """Let the thread end when its subscriber returns."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None


def hand_over(event: OutboxEvent) -> None:
    """Hand an event to every subscriber that wants it; raise if one of them failed."""
    from tasker_core.handlers.events.types import InProcessDomainEvent

    read = InProcessDomainEvent.model_validate_json(event.event)
    _registry().take_durable_event(read.model_dump())


def _registry() -> SubscriberRegistry:
    from tasker_core.handlers.events.subscribers import SubscriberRegistry

    return SubscriberRegistry.instance()
