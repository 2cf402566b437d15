"""Tell subscribers in this process what was recorded.

After an outcome is recorded, the `fast` and `broadcast` events that its step declares are
published: one after the other, in a thread of their own, so that a slow subscriber holds
up nobody. Durable ones are in the outbox by then.
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import structlog

from tasker_core.worker.attempt import Ended

if TYPE_CHECKING:
    from tasker_core.handlers.events.subscribers import SubscriberRegistry
    from tasker_core.handlers.events.types import InProcessDomainEvent

MOST_WAITING = 1000
CLOSE_SECONDS = 5.0

_EVENTS = "tasker_core.handlers.events"

_log = structlog.get_logger("tasker.worker")


class Announcer:
    """Publishes the events of recorded outcomes, in the order in which they were recorded."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: set[Future[Any]] = set()
        self._subscribers: SubscriberRegistry | None = None
        self.told: Counter[str] = Counter()  # events, by their delivery mode
        self.dropped = 0  # outcomes whose events nobody kept up with

    def attach(self) -> None:
        """Attach the subscribers that the application has registered, in place of earlier ones."""
        if _EVENTS not in sys.modules:  # then nobody has registered any
            return
        from tasker_core.handlers.events.subscribers import SubscriberRegistry

        registered = SubscriberRegistry.instance()
        if self._subscribers is not None and self._subscribers is not registered:
            self._subscribers.stop_all()
        self._subscribers = registered
        registered.start_all()

    def announce(self, ended: Ended) -> None:
        """Publish what the step declares; returns at once. What nobody keeps up with is dropped."""
        if not ended.plan.events or ended.context is None or ended.checkpoint is not None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tasker-events")
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            _log.warning("events_dropped", task_uuid=str(ended.task_uuid), waiting=MOST_WAITING)
            return
        published = self._thread.submit(self._publish, ended)
        self._waiting.add(published)
        published.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        """Publish what is left, for five seconds at most, and detach the subscribers."""
        if self._thread is not None:
            wait(list(self._waiting), CLOSE_SECONDS)
            self._thread.shutdown(wait=False, cancel_futures=True)
        if self._subscribers is not None:
            self._subscribers.stop_all()

    def _publish(self, ended: Ended) -> list[InProcessDomainEvent]:
        """Publish the events of one outcome, in the thread, and count them; give them."""
        events = self._hand_over(ended)
        modes = {one.name: one.delivery_mode for one in ended.plan.events}
        self.told.update(modes[one.event_name] for one in events)
        return events

    def _hand_over(self, ended: Ended) -> list[InProcessDomainEvent]:
        from tasker_core.handlers.events.publish import hand_over, publish_step_events

        assert ended.context is not None
        outcome, will_retry = ended.outcome, ended.will_retry
        if ended.prepared is not None:
            return hand_over(ended.prepared, outcome.success, will_retry)
        return publish_step_events(
            ended.plan.events, ended.context, outcome, will_retry, attempt=ended.attempt
        )
