"""Make the events of one outcome, and publish them.

Durable events are made before the outcome is recorded, because they are recorded with
it; the others are made and published after it. Nothing that happens here changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from tasker_core.errors import ValidationError
from tasker_core.event_rules import event_uuid, is_due, is_durable, may_be_due, payload_faults
from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.hooks import finished
from tasker_core.handlers.events.publishers import BasePublisher, PublisherRegistry
from tasker_core.handlers.events.types import (
    DomainEventMetadata,
    ExecutionResult,
    InProcessDomainEvent,
    StepEventContext,
)
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.payload import decode, encode

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext

log = logging.getLogger(__name__)


class Declared(Protocol):
    """What a template says of an event: its own declaration, or an `EventDeclaration`."""

    @property
    def name(self) -> str: ...
    @property
    def condition(self) -> str | None: ...
    @property
    def delivery_mode(self) -> str | None: ...
    @property
    def publisher(self) -> str | None: ...
    @property
    def schema(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class PreparedEvent:
    """An event that is published if the outcome meets its condition."""

    event: InProcessDomainEvent
    condition: str
    is_durable: bool
    is_fast: bool
    _publisher: BasePublisher
    _made: tuple[dict[str, Any], dict[str, Any]]  # what the publisher made of it

    def hand_over(self, bus: EventBus) -> None:
        """Publish it in this process, as far as it is fast; a durable part goes its own way."""
        if self.is_fast:
            bus.publish(self.event)
        try:
            finished(self._publisher.after_publish(self.event.event_name, *self._made))
        except Exception as error:
            self._publisher._report(self.event.event_name, error, self._made[0])


def prepare_step_events(
    declarations: Iterable[Declared],
    context: StepContext,
    result: StepHandlerResult,
    *,
    attempt: int | None = None,
    registry: PublisherRegistry | None = None,
) -> list[PreparedEvent]:
    """Make the events that may follow from how an attempt ended. Never raises.

    Whether a failed step is tried again need not be known: such events are made for either
    case. A checkpoint is no end: nothing is made.

    Args:
        declarations, context, result, registry: As for `publish_step_events`.
        attempt: The execution, counted over an operator's resets; None: the context's attempt.
    """
    prepared: list[PreparedEvent] = []
    try:
        if result.checkpoint is not None:
            return prepared
        registry = PublisherRegistry.instance() if registry is None else registry
        metadata = {key: value for key, value in result.metadata.items() if key != "traceback"}
        facts = StepEventContext.from_step_context(context, result.result, metadata)
        attempt = context.attempt if attempt is None else attempt
        for declared in declarations:
            if may_be_due(declared.condition, result.success):
                made = _prepare(declared, facts, context, result, attempt, registry)
                if made is not None:
                    prepared.append(made)
    except Exception:
        log.exception("events of step %s were not published", context.step_name)
    return prepared


def publish_step_events(
    declarations: Iterable[Declared],
    context: StepContext,
    result: StepHandlerResult,
    will_retry: bool,
    bus: EventBus | None = None,
    registry: PublisherRegistry | None = None,
    *,
    attempt: int | None = None,
) -> list[InProcessDomainEvent]:
    """Publish what a step declares, as far as its outcome asks for it. Never raises.

    Each event goes through its own publisher. `fast` and `broadcast` ones are handed to
    the bus in this thread, so that it takes as long as hooks and subscribers take; the
    `durable` part is for whoever has the database.

    Args:
        declarations: The step's `publishes_events`.
        context: The attempt's.
        result: How it ended. A checkpoint is no end: it publishes nothing.
        will_retry: Whether a failed step is tried again.
        bus: None is the process's own; likewise the registry.
        attempt: The execution, counted over an operator's resets; None: the context's attempt.

    Returns:
        The events that were published, those that are only durable among them.
    """
    try:
        due = [one for one in declarations if is_due(one.condition, result.success, will_retry)]
    except Exception:
        log.exception("events of step %s were not published", context.step_name)
        return []
    prepared = prepare_step_events(due, context, result, attempt=attempt, registry=registry)
    return hand_over(prepared, result.success, will_retry, bus)


def hand_over(
    prepared: Iterable[PreparedEvent], success: bool, will_retry: bool, bus: EventBus | None = None
) -> list[InProcessDomainEvent]:
    """Publish those events of which the outcome meets the condition; give them."""
    bus = EventBus.instance() if bus is None else bus
    due = [one for one in prepared if is_due(one.condition, success, will_retry)]
    for one in due:
        one.hand_over(bus)
    return [one.event for one in due]


def _prepare(
    declared: Declared,
    facts: StepEventContext,
    context: StepContext,
    result: StepHandlerResult,
    attempt: int,
    registry: PublisherRegistry,
) -> PreparedEvent | None:
    if declared.publisher and registry.get(declared.publisher) is None:
        log.warning(
            "event %s: there is no publisher %r, the default one is used",
            declared.name,
            declared.publisher,
        )
    publisher = registry.get_or_default(declared.publisher)
    made = publisher._make(facts, declared.name)
    if made is None:
        return None
    payload, metadata = made
    try:
        event_id = event_uuid(context.step_uuid, attempt, declared.name)
        event = _event(event_id, declared.name, payload, metadata, context, result)
        faults = payload_faults(event.payload, declared.schema)
        if faults:
            raise ValidationError(
                f"the payload of {declared.name} does not fit its schema: {'; '.join(faults[:5])}"
            )
    except Exception as error:
        publisher._report(declared.name, error, payload)
        return None
    return PreparedEvent(
        event=event,
        condition=declared.condition or "success",
        is_durable=is_durable(declared.delivery_mode),
        is_fast=declared.delivery_mode in ("fast", "broadcast"),
        _publisher=publisher,
        _made=made,
    )


def _event(
    event_id: UUID,
    name: str,
    payload: Any,
    metadata: dict[str, Any],
    context: StepContext,
    result: StepHandlerResult,
) -> InProcessDomainEvent:
    own: dict[str, Any] = {
        **metadata,
        "task_uuid": context.task_uuid,
        "step_uuid": context.step_uuid,
        "correlation_id": context.correlation_id,
        "fired_at": datetime.now(UTC).isoformat(),
        "fired_by": context.handler_name or context.step_name,
    }
    return InProcessDomainEvent(
        event_id=event_id,
        event_name=name,
        metadata=DomainEventMetadata(**own),
        payload=decode(encode(payload)),
        execution_result=ExecutionResult(
            success=result.success,
            result=decode(encode(result.result)) if result.success else None,
            error_message=result.error_message,
            error_type=result.error_type,
        ),
    )
