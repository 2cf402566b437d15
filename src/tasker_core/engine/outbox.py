"""Durable events: written in the transaction of the outcome that they tell.

A worker sends them along with its results; what nobody can make in a worker is made
here: the events of an operator's action, and those of attempts that were lost. The rules
are in outbox.sql.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from tasker_core.engine.ids import step_uuid
from tasker_core.errors import NotStorable
from tasker_core.event_rules import (
    BY_HAND,
    event_uuid,
    is_durable,
    may_be_due,
    payload_faults,
)
from tasker_core.payload import encode
from tasker_core.templates.model import StepDefinition

MAX_BYTES = 64 * 1024 * 1024  # results are limited where they are made

_log = structlog.get_logger("tasker.engine")


def lost_events(step: StepDefinition) -> str | None:
    """Name what an attempt publishes that is lost with its worker, as JSON; None: nothing.

    Nobody is there to make a payload, so only events are named whose schema allows what is
    known of a lost attempt, or nothing at all.
    """
    known = {"step_name": step.name, "attempt": 1, "error_type": "lost", "error_message": "lost"}
    found = []
    for declared in step.publishes_events:
        if not is_durable(declared.delivery_mode) or not may_be_due(declared.condition, False):
            continue
        is_empty = bool(_faults(known, declared.schema))
        if not (is_empty and _faults({}, declared.schema)):
            found.append(
                {"name": declared.name, "condition": declared.condition, "is_empty": is_empty}
            )
    return encode(found) if found else None


def events_by_hand(
    step: StepDefinition,
    *,
    task_uuid: UUID,
    step_no: int,
    step_name: str,
    namespace: str,
    correlation_id: UUID,
    result: Any,
    actor: str,
) -> str | None:
    """Make what a step publishes that an operator completes, as JSON; None: nothing.

    No publisher of an application is asked: the payload is the result.
    """
    made = []
    its_uuid = step_uuid(task_uuid, step_no)
    payload = result if isinstance(result, Mapping) else {}
    for declared in step.publishes_events:
        if not is_durable(declared.delivery_mode) or not may_be_due(declared.condition, True):
            continue
        faults = _faults(payload, declared.schema)
        if faults:
            _log.error("event_not_published", name=declared.name, step=step_name, faults=faults[:5])
            continue
        metadata = {
            "task_uuid": task_uuid,
            "correlation_id": correlation_id,
            "fired_at": datetime.now(UTC).isoformat(),
            "fired_by": actor,
            "step_uuid": its_uuid,
            "step_name": step_name,
            "namespace": namespace,
        }
        event = {
            "event_id": event_uuid(its_uuid, BY_HAND, declared.name),
            "event_name": declared.name,
            "event_version": "1.0",
            "metadata": metadata,
            "payload": payload,
            "execution_result": {
                "success": True,
                "result": payload,
                "error_message": None,
                "error_type": None,
                "execution_time_ms": None,
            },
        }
        made.append({"condition": declared.condition, "event": event})
    try:
        return encode(made, max_bytes=MAX_BYTES) if made else None
    except NotStorable as error:
        _log.error("events_not_published", step=step_name, reason=str(error))
        return None


def _faults(payload: Any, schema: Mapping[str, Any]) -> list[str]:
    try:
        return payload_faults(payload, schema)
    except ValueError as error:
        return [str(error)]
