"""Events from publishers to subscribers within one process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any, ClassVar

from tasker_core.handlers.events.hooks import finished
from tasker_core.handlers.events.types import InProcessDomainEvent

log = logging.getLogger(__name__)


class EventBus:
    """Hands each event to everybody who asked for its name, in the publisher's thread.

    At most once, and only while the process lives: for more, declare an event durable.

    >>> bus = EventBus()
    >>> detach = bus.subscribe("payment.*", lambda event: print(event.event_name))
    >>> bus.subscriber_count
    1
    """

    _instance: ClassVar[EventBus | None] = None
    _instance_lock: ClassVar[Lock] = Lock()

    def __init__(self) -> None:
        self._callbacks: list[tuple[str, Callable[[InProcessDomainEvent], Any]]] = []
        self._lock = Lock()
        self.delivered_count = 0  # an event counts for each that it was handed to
        self.failed_count = 0  # likewise, where it raised something

    @classmethod
    def instance(cls) -> EventBus:
        """Give the process's own bus, which its worker publishes to."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset(cls) -> None:
        """Forget the process's own bus, and everybody who listens to it."""
        with cls._instance_lock:
            cls._instance = None

    def subscribe(
        self, pattern: str, callback: Callable[[InProcessDomainEvent], Any]
    ) -> Callable[[], None]:
        """Have events whose name fits a pattern handed to a function, sync or async.

        Args:
            pattern: A name; `*` stands for any characters: `payment.*`, `*.failed`, `*`.
            callback: Gets a copy of its own. What it raises is logged.

        Returns:
            A function that ends the subscription; it may be called twice.
        """
        entry = (pattern, callback)
        with self._lock:
            self._callbacks = [*self._callbacks, entry]

        def detach() -> None:
            with self._lock:
                self._callbacks = [kept for kept in self._callbacks if kept is not entry]

        return detach

    def on_event(self, callback: Callable[[InProcessDomainEvent], Any]) -> Callable[[], None]:
        """Have every event handed to a function, as `subscribe` does."""
        return self.subscribe("*", callback)

    def publish(self, event: InProcessDomainEvent) -> int:
        """Hand an event round; one that fails does not keep it from the others.

        Returns:
            How many took it without an error.
        """
        taken = 0
        for pattern, callback in self._callbacks:
            if not fnmatchcase(event.event_name, pattern):
                continue
            try:
                finished(callback(event.model_copy(deep=True)))
                taken += 1
            except Exception:
                self.failed_count += 1
                log.exception("a subscriber of %r failed on %s", pattern, event.event_name)
        self.delivered_count += taken
        return taken

    @property
    def pattern_count(self) -> int:
        """How many different patterns they are for."""
        return len({pattern for pattern, _ in self._callbacks})

    @property
    def subscriber_count(self) -> int:
        """How many subscriptions there are."""
        return len(self._callbacks)
