"""Publishers and subscribers, while the modules that made them are imported anew."""

from __future__ import annotations

from collections.abc import Container

from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.publishers import PublisherRegistry
from tasker_core.handlers.events.subscribers import SubscriberRegistry


class Earlier:
    """The registries as they were; from now on the process has empty ones.

    Those subscribers hear of events until a worker attaches others.
    """

    def __init__(self) -> None:
        self._publishers = PublisherRegistry.instance()
        self._subscribers = SubscriberRegistry.instance()
        self._callbacks = EventBus.instance()._callbacks
        PublisherRegistry._instance = SubscriberRegistry._instance = None

    def restore(self) -> None:
        """Have everything as it was."""
        PublisherRegistry._instance = self._publishers
        SubscriberRegistry._instance = self._subscribers
        EventBus.instance()._callbacks = self._callbacks

    def keep_but(self, forgotten: Container[str]) -> None:
        """Add what modules have made that are not forgotten, unless it was made anew."""
        publishers, subscribers = PublisherRegistry.instance(), SubscriberRegistry.instance()
        for name, publisher in self._publishers._publishers.items():
            if type(publisher).__module__ not in forgotten:
                publishers._publishers.setdefault(name, publisher)
        if self._publishers.is_frozen:
            publishers.freeze()
        for kind in self._subscribers._classes:
            if kind.__module__ not in forgotten:
                subscribers.register(kind)
        for name, subscriber in self._subscribers._instances.items():
            if type(subscriber).__module__ not in forgotten:
                subscribers._instances.setdefault(name, subscriber)
        bus = EventBus.instance()
        bus._callbacks = [
            entry
            for entry in bus._callbacks
            if entry not in self._callbacks
            or getattr(entry[1], "__module__", None) not in forgotten
        ]
