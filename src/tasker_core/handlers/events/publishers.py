"""Who makes an event's payload, and decides whether it is published at all."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import RLock
from typing import Any, ClassVar
from uuid import uuid4

from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.hooks import finished
from tasker_core.handlers.events.types import (
    DomainEventMetadata,
    InProcessDomainEvent,
    PublishContext,
    StepEventContext,
)

log = logging.getLogger(__name__)

Deliver = Callable[[str, dict[str, Any], dict[str, Any]], None]


class BasePublisher(ABC):
    """Makes the events of the steps that name it in `publishes_events[].publisher`.

    The hooks run in the order in which they are written here, and may be `async def`.
    What a hook raises goes to `on_publish_error`; the step stays as it is. For a step with a
    durable event they run before the outcome is recorded, all but `after_publish`: whether the
    event is published is known only then.

    >>> class Receipts(BasePublisher):
    ...     publisher_name = "receipts"
    ...     def transform_payload(self, ctx):
    ...         return {"total": ctx.result["total"]}
    """

    @property
    @abstractmethod
    def publisher_name(self) -> str:
        """What templates call it; a class attribute does."""

    def should_publish(self, ctx: StepEventContext) -> Any:
        """Say whether there is an event at all."""
        return True

    def transform_payload(self, ctx: StepEventContext) -> Any:
        """Make the payload, a JSON object; by default the step's result."""
        return ctx.result or {}

    def additional_metadata(self, ctx: StepEventContext) -> Any:
        """Give more metadata, a JSON object."""
        return {}

    def before_publish(
        self, event_name: str, payload: dict[str, Any], metadata: dict[str, Any]
    ) -> Any:
        """Look at the event; False holds it back."""
        return True

    def after_publish(
        self, event_name: str, payload: dict[str, Any], metadata: dict[str, Any]
    ) -> Any:
        """Do something after the event has been handed over."""
        return None

    def on_publish_error(self, event_name: str, error: Exception, payload: dict[str, Any]) -> Any:
        """Do something about an error of a hook, or a payload that does not fit its schema."""
        log.error(
            "publisher %s: event %s was not published: %s", self.publisher_name, event_name, error
        )

    def publish(
        self,
        ctx: StepEventContext | PublishContext,
        event_name: str | None = None,
        *,
        deliver: Deliver | None = None,
    ) -> bool:
        """Run the hooks and hand the event over. Never raises.

        Args:
            ctx: What the step was, and its result.
            event_name: None is that of the `PublishContext`, else the step's name.
            deliver: Takes name, payload and metadata; None is the process's bus.

        Returns:
            Whether the event was handed over and no hook failed.
        """
        if isinstance(ctx, PublishContext):
            event_name = event_name or ctx.event_name
            ctx = ctx.as_step_event()
        name = event_name or ctx.step_name
        made = self._make(ctx, name)
        if made is None:
            return False
        try:
            (deliver or _deliver)(name, *made)
            finished(self.after_publish(name, *made))
        except Exception as error:
            self._report(name, error, made[0])
            return False
        return True

    def _make(
        self, ctx: StepEventContext, name: str
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Run the hooks before the event is handed over; give payload and metadata, or None."""
        payload: dict[str, Any] = {}
        try:
            if not finished(self.should_publish(ctx)):
                return None
            payload = finished(self.transform_payload(ctx))
            metadata = {**self._metadata(ctx), **finished(self.additional_metadata(ctx))}
            if not finished(self.before_publish(name, payload, metadata)):
                return None
        except Exception as error:
            self._report(name, error, payload)
            return None
        return payload, metadata

    def _metadata(self, ctx: StepEventContext) -> dict[str, Any]:
        return {
            "publisher": self.publisher_name,
            "published_at": datetime.now(UTC).isoformat(),
            "task_uuid": ctx.task_uuid,
            "step_uuid": ctx.step_uuid,
            "step_name": ctx.step_name,
            "namespace": ctx.namespace,
            "correlation_id": ctx.correlation_id,
            **ctx.metadata,
        }

    def _report(self, name: str, error: Exception, payload: dict[str, Any]) -> None:
        try:
            finished(self.on_publish_error(name, error, payload))
        except Exception:
            log.exception("publisher %s: on_publish_error failed", type(self).__name__)


class DefaultPublisher(BasePublisher):
    """Publishes the step's result as it is."""

    publisher_name = "default"


class PublisherRegistry:
    """The publishers of this process, by the names that templates use."""

    _instance: ClassVar[PublisherRegistry | None] = None
    _instance_lock: ClassVar[RLock] = RLock()

    def __init__(self) -> None:
        self._publishers: dict[str, BasePublisher] = {}
        self._default = DefaultPublisher()
        self._frozen = False

    @classmethod
    def instance(cls) -> PublisherRegistry:
        """Give the process's own registry."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset(cls) -> None:
        """Forget the process's own registry."""
        with cls._instance_lock:
            cls._instance = None

    def register(self, publisher: BasePublisher, name: str | None = None) -> None:
        """Add a publisher; one of the same name is replaced, with a warning.

        Args:
            name: None is the publisher's own.

        Raises:
            ValueError: It is no publisher.
            RuntimeError: The registry is frozen.
        """
        self._check_open("register a publisher")
        if not isinstance(publisher, BasePublisher):
            raise ValueError(f"Expected BasePublisher, got {publisher!r}")
        key = name or publisher.publisher_name
        if key in self._publishers:
            log.warning("publisher %r was %r and is now %r", key, self._publishers[key], publisher)
        self._publishers[key] = publisher

    def get(self, name: str) -> BasePublisher | None:
        """Give the publisher of that name; None if there is none."""
        found = self._publishers.get(name)
        if found is None and name == self._default.publisher_name:
            return self._default
        return found

    def get_or_default(self, name: str | None) -> BasePublisher:
        """Give the publisher of that name, else the default one."""
        return (self.get(name) if name else None) or self.get("default") or self._default

    def validate_required(self, names: Iterable[str]) -> list[str]:
        """Give the names that no publisher has."""
        return [name for name in names if self.get(name) is None]

    def freeze(self) -> None:
        """Let nothing be added or taken away."""
        self._frozen = True

    def unfreeze(self) -> None:
        """Undo `freeze`."""
        self._frozen = False

    @property
    def is_frozen(self) -> bool:
        """Whether nothing can be added."""
        return self._frozen

    def list_publishers(self) -> list[str]:
        """Name the publishers that were registered."""
        return list(self._publishers)

    def clear(self) -> None:
        """Forget all publishers.

        Raises:
            RuntimeError: The registry is frozen.
        """
        self._check_open("clear the registry")
        self._publishers.clear()

    def _check_open(self, action: str) -> None:
        if self._frozen:
            raise RuntimeError(f"cannot {action}: the registry is frozen")


def _deliver(name: str, payload: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Hand an event that no template declares to the process's bus, if anybody listens."""
    bus = EventBus.instance()
    if not bus.subscriber_count:
        return
    own = dict(metadata)
    fired_at, fired_by = own.pop("published_at"), own.pop("publisher")
    bus.publish(
        InProcessDomainEvent(
            event_id=uuid4(),
            event_name=name,
            metadata=DomainEventMetadata(fired_at=fired_at, fired_by=fired_by, **own),
            payload=payload,
        )
    )
