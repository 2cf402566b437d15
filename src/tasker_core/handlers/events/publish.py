"""Publish the events of one outcome.

The outcome has been recorded, and nothing that happens here changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid5

import orjson

from tasker_core.errors import ValidationError
from tasker_core.handlers.events.bus import EventBus
from tasker_core.handlers.events.publishers import PublisherRegistry
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


def publish_step_events(
    declarations: Iterable[Declared],
    context: StepContext,
    result: StepHandlerResult,
    will_retry: bool,
    bus: EventBus | None = None,
    registry: PublisherRegistry | None = None,
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

    Returns:
        The events that were published, those that are only durable among them.
    """
    published: list[InProcessDomainEvent] = []
    try:
        if result.checkpoint is not None:
            return published
        bus = EventBus.instance() if bus is None else bus
        registry = PublisherRegistry.instance() if registry is None else registry
        for declared in declarations:
            if _is_due(declared.condition, result.success, will_retry):
                _publish(declared, context, result, bus, registry, published)
    except Exception:
        log.exception("events of step %s were not published", context.step_name)
    return published


def _is_due(condition: str | None, success: bool, will_retry: bool) -> bool:
    return {
        "success": success,
        "failure": not success,
        "retryable_failure": not success and will_retry,
        "permanent_failure": not success and not will_retry,
        "always": True,
    }.get(condition or "success", False)


def _publish(
    declared: Declared,
    context: StepContext,
    result: StepHandlerResult,
    bus: EventBus,
    registry: PublisherRegistry,
    published: list[InProcessDomainEvent],
) -> None:
    if declared.publisher and registry.get(declared.publisher) is None:
        log.warning(
            "event %s: there is no publisher %r, the default one is used",
            declared.name,
            declared.publisher,
        )

    def deliver(name: str, payload: dict[str, Any], metadata: dict[str, Any]) -> None:
        event = _event(name, payload, metadata, context, result)
        _check(event, declared.schema)
        published.append(event)
        if declared.delivery_mode in ("fast", "broadcast"):
            bus.publish(event)

    metadata = {key: value for key, value in result.metadata.items() if key != "traceback"}
    facts = StepEventContext.from_step_context(context, result.result, metadata)
    registry.get_or_default(declared.publisher).publish(facts, declared.name, deliver=deliver)


def _event(
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
        event_id=_event_id(context.step_uuid, context.attempt, name),
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


def _event_id(step_uuid: UUID, attempt: int, name: str) -> UUID:
    """Give the same id for the same event, so that a consumer can tell it has it already."""
    return uuid5(step_uuid, f"{attempt}:{name}")


def _check(event: InProcessDomainEvent, schema: Mapping[str, Any] | None) -> None:
    if not schema:
        return
    validator = _validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
    faults = [
        f"/{'/'.join(map(str, fault.instance_path))}: {fault.message}"
        for fault in validator.iter_errors(event.payload)
    ]
    if faults:
        raise ValidationError(
            f"the payload of {event.event_name} does not fit its schema: {'; '.join(faults[:5])}"
        )


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(orjson.loads(schema))
