"""Who hears of events in this process."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from threading import Lock, RLock
from typing import Any, ClassVar, Self

from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.hooks import finished

log = logging.getLogger(__name__)

REMEMBERED_EVENTS = 1000


class BaseSubscriber(ABC):
    """Handles the events that it asks for, each once. The hooks may be `async def`.

    An event is `{"event_id": UUID, "event_name": str, "event_version": str, "metadata":
    {"task_uuid": UUID, "correlation_id": UUID, "fired_at": str, "fired_by": str, …},
    "payload": {}, "execution_result": {"success": bool, "result": {}, …}}`.

    >>> class Mail(BaseSubscriber):
    ...     @classmethod
    ...     def subscribes_to(cls):
    ...         return ["payment.*"]
    ...     def handle(self, event):
    ...         print(event["payload"])
    >>> Mail().matches("payment.charged")
    True

    Attributes:
        durable: Get durable events, too, at least once: an event that a hook fails on comes
            again. Where the settings name a broker, they go there instead.
    """

    durable: ClassVar[bool] = False
    _active: bool
    _subscriptions: list[str]
    _detach: list[Callable[[], Any]]
    _seen: OrderedDict[Any, None]
    _explained: OrderedDict[Any, None]
    _lock: Lock
    _turn: RLock

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Not in __init__: a subclass may have one of its own that forgets to call this.
        made = super().__new__(cls)
        made._active = False
        made._subscriptions, made._detach = [], []
        made._seen, made._explained = OrderedDict(), OrderedDict()
        made._lock, made._turn = Lock(), RLock()
        return made

    @classmethod
    @abstractmethod
    def subscribes_to(cls) -> list[str]:
        """Give the names it wants; `*` stands for any characters: `payment.*`."""

    @abstractmethod
    def handle(self, event: dict[str, Any]) -> Any:
        """Do something about an event."""

    def before_handle(self, event: dict[str, Any]) -> Any:
        """Look at an event first; False passes it over."""
        return True

    def after_handle(self, event: dict[str, Any]) -> Any:
        """Do something when `handle` is through."""
        return None

    def on_handle_error(self, event: dict[str, Any], error: Exception) -> Any:
        """Do something about what a hook has raised.

        It is logged, with its traceback unless the same was raised on this event before.
        """
        with self._lock:
            is_new = _noted(self._explained, (event.get("event_id"), repr(error)))
        log.error(
            "subscriber %s failed on %s: %s%s",
            type(self).__name__,
            event.get("event_name"),
            error,
            "" if is_new else ", again",
            exc_info=error if is_new else None,
        )

    @property
    def active(self) -> bool:
        """Whether it hears of events."""
        return self._active

    @property
    def subscriptions(self) -> list[str]:
        """The patterns that it has been started with."""
        return list(self._subscriptions)

    def matches(self, event_name: str) -> bool:
        """Say whether it wants events of that name."""
        return any(fnmatchcase(event_name, pattern) for pattern in self.subscribes_to())

    def start(self, bus: Any = None) -> None:
        """Begin to hear of events; a second call does nothing.

        Args:
            bus: Anything with `on_event(callback)`; None is the process's own bus.
        """
        if self._active:
            return
        source = EventBus.instance() if bus is None else bus
        self._active = True
        self._subscriptions = list(self.subscribes_to())
        for pattern in self._subscriptions:
            detach = source.on_event(partial(self._handle_if_matches, pattern=pattern))
            if callable(detach):
                self._detach.append(detach)

    def stop(self) -> None:
        """Hear of no more events; a second call does nothing."""
        self._active = False
        detaching, self._detach = self._detach, []
        for detach in detaching:
            detach()
        self._subscriptions = []

    def handle_event_safely(self, event: dict[str, Any]) -> None:
        """Run the hooks for an event. Never raises; does nothing when stopped."""
        if self._active:
            self._handle(event)

    def handle_durable_event(self, event: dict[str, Any]) -> None:
        """Run the hooks for a durable event, unless it has been handled here.

        Raises:
            Exception: What a hook raised: the event is to come again.
        """
        with self._turn:
            if not self._is_new(event):
                return
            error = self._handle(event)
            if error is not None:
                self._forget(event)
                raise error

    def _handle(self, event: dict[str, Any]) -> Exception | None:
        """Run the hooks; give what one of them raised."""
        try:
            if finished(self.before_handle(event)):
                finished(self.handle(event))
                finished(self.after_handle(event))
        except Exception as error:
            try:
                finished(self.on_handle_error(event, error))
            except Exception:
                log.exception("subscriber %s: on_handle_error failed", type(self).__name__)
            return error
        return None

    def _handle_if_matches(self, event: Any, pattern: str) -> None:
        document = dict(event) if isinstance(event, Mapping) else event.model_dump()
        if not fnmatchcase(str(document.get("event_name")), pattern):
            return
        if not self.durable:
            if self._is_new(document):
                self.handle_event_safely(document)
            return
        with self._turn:  # its durable copy waits, and is handled if this one is not
            if self._active and self._is_new(document) and self._handle(document) is not None:
                self._forget(document)

    def _forget(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._seen.pop(event.get("event_id"), None)

    def _is_new(self, event: dict[str, Any]) -> bool:
        """Several patterns may fit one event, and an event may come twice."""
        event_id = event.get("event_id")
        if event_id is None:
            return True
        with self._lock:
            return _noted(self._seen, event_id)


class SubscriberRegistry:
    """The subscribers of this process; the worker starts and stops them."""

    _instance: ClassVar[SubscriberRegistry | None] = None
    _instance_lock: ClassVar[RLock] = RLock()

    def __init__(self) -> None:
        self._classes: list[type[BaseSubscriber]] = []
        self._instances: dict[str, BaseSubscriber] = {}
        self._started: list[BaseSubscriber] = []

    @classmethod
    def instance(cls) -> SubscriberRegistry:
        """Give the process's own registry."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset(cls) -> None:
        """Stop all subscribers and forget the process's own registry."""
        with cls._instance_lock:
            found, cls._instance = cls._instance, None
        if found is not None:
            found.stop_all()

    def register(self, subscriber_class: type[BaseSubscriber]) -> None:
        """Add a class; `start_all` makes an instance of it, without arguments.

        Raises:
            ValueError: It is no subscriber class.
        """
        if not (
            isinstance(subscriber_class, type) and issubclass(subscriber_class, BaseSubscriber)
        ):
            raise ValueError(f"Expected BaseSubscriber subclass, got {subscriber_class!r}")
        if subscriber_class not in self._classes:
            self._classes.append(subscriber_class)

    def register_instance(self, subscriber: BaseSubscriber, name: str | None = None) -> None:
        """Add a subscriber that exists; None names it after its class.

        Raises:
            ValueError: It is no subscriber.
        """
        if not isinstance(subscriber, BaseSubscriber):
            raise ValueError(f"Expected BaseSubscriber instance, got {subscriber!r}")
        self._instances[name or type(subscriber).__name__] = subscriber

    def start_all(self, bus: Any = None) -> int:
        """Start every subscriber that is not started yet; give how many were.

        One that cannot be made or started is logged, and the rest are started.

        Args:
            bus: As for `BaseSubscriber.start`.
        """
        made = {type(subscriber) for subscriber in self._started}
        waiting: list[Callable[[], BaseSubscriber]] = [
            kind for kind in self._classes if kind not in made
        ]
        waiting += [partial(_same, s) for s in self._instances.values() if not s.active]
        count = 0
        for make in waiting:
            try:
                subscriber = make()
                subscriber.start(bus)
            except Exception:
                log.exception("subscriber %r cannot be started", make)
                continue
            self._started.append(subscriber)
            count += 1
        return count

    def stop_all(self) -> int:
        """Stop every subscriber; give how many were active."""
        stopping, self._started = self._started, []
        active = [subscriber for subscriber in stopping if subscriber.active]
        for subscriber in active:
            try:
                subscriber.stop()
            except Exception:
                log.exception("subscriber %r cannot be stopped", subscriber)
        return len(active)

    def list_registered(self) -> dict[str, list[str]]:
        """Give `{"classes": [class name], "instances": [name]}`."""
        return {
            "classes": [kind.__name__ for kind in self._classes],
            "instances": list(self._instances),
        }

    def has_durable(self) -> bool:
        """Say whether any subscriber wants durable events."""
        return any(kind.durable for kind in self._classes) or any(
            subscriber.durable for subscriber in self._instances.values()
        )

    def has_active_durable(self) -> bool:
        """Say whether any subscriber takes durable events at the moment."""
        return any(subscriber.durable and subscriber.active for subscriber in self._started)

    def take_durable_event(self, event: dict[str, Any]) -> None:
        """Hand a durable event to every active subscriber that wants it.

        Raises:
            RuntimeError: There is no active subscriber for durable events.
            Exception: What the first of those raised that failed; the others have it.
        """
        takers = [one for one in self._started if one.durable and one.active]
        if not takers:
            raise RuntimeError("no durable subscriber of this process is active")
        errors = []
        for subscriber in takers:
            if subscriber.matches(event["event_name"]):
                try:
                    subscriber.handle_durable_event(event)
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    @property
    def active_count(self) -> int:
        """How many subscribers hear of events."""
        return sum(subscriber.active for subscriber in self._started)

    def stats(self) -> dict[str, Any]:
        """Count: `{"registered_classes", "registered_instances", "active_subscribers",
        "subscriptions": [{"class": str, "patterns": [str], "active": bool}]}`."""
        return {
            "registered_classes": len(self._classes),
            "registered_instances": len(self._instances),
            "active_subscribers": self.active_count,
            "subscriptions": [
                {"class": type(s).__name__, "patterns": s.subscriptions, "active": s.active}
                for s in self._started
            ],
        }

    def clear(self) -> None:
        """Stop and forget all subscribers."""
        self.stop_all()
        self._classes.clear()
        self._instances.clear()


def _same(subscriber: BaseSubscriber) -> BaseSubscriber:
    return subscriber


def _noted(seen: OrderedDict[Any, None], what: Any) -> bool:
    """Remember it, and forget what is oldest; False if it was there."""
    if what in seen:
        return False
    seen[what] = None
    if len(seen) > REMEMBERED_EVENTS:
        seen.popitem(last=False)
    return True
