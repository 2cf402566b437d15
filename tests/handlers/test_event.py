"""An event becomes a context, however many of its parts are null."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pydantic
import pytest

from tasker_core.handlers.context import StepContext
from tasker_core.handlers.event import FfiStepEvent, StepEvent


def event(**sections: Any) -> StepEvent:
    return StepEvent(
        event_id=str(uuid4()),
        task_uuid=str(uuid4()),
        step_uuid=str(uuid4()),
        correlation_id=str(uuid4()),
        task_sequence_step=sections,
    )


def test_an_event_fills_the_context():
    """Each part of the event is found again under its accessor."""
    made = event(
        task={
            "task": {"context": {"sku": "a"}},
            "task_name": "order",
            "task_version": "1.2.0",
            "namespace_name": "shop",
        },
        workflow_step={
            "name": "charge",
            "attempts": 1,
            "max_attempts": 2,
            "inputs": {"cursor": 1},
            "checkpoint": {"cursor": 5},
        },
        dependency_results={"cart": {"result": {"total": 3}}},
        step_definition={"handler": {"callable": "charge", "initialization": {"url": "x"}}},
    )

    context = StepContext.from_event(made, "charge")

    assert (context.event, str(context.task_uuid)) == (made, made.task_uuid)
    assert (context.handler_name, context.step_name) == ("charge", "charge")
    assert (context.namespace, context.task_name, context.task_version) == (
        "shop",
        "order",
        "1.2.0",
    )
    assert context.get_input("sku") == "a"
    assert context.get_dependency_result("cart") == {"total": 3}
    assert context.get_config("url") == "x"
    assert context.step_inputs == {"cursor": 1}
    assert (context.attempt, context.is_last_retry(), context.checkpoint_cursor) == (2, True, 5)


def test_a_flat_task_is_read_too():
    """The inner task may be missing; its fields then stand in the outer one."""
    context = StepContext.from_event(event(task={"context": {"sku": "a"}}), "x")

    assert context.get_input("sku") == "a"


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {
            "task": None,
            "workflow_step": None,
            "dependency_results": None,
            "step_definition": None,
        },
        {
            "task": {"task": {"context": None}},
            "workflow_step": {"attempts": None, "max_attempts": 0, "inputs": None, "checkpoint": 3},
            "step_definition": {"handler": None},
        },
        {"step_definition": {"handler": {"initialization": None}}},
    ],
)
def test_null_is_as_good_as_missing(sections: dict[str, Any]):
    """No part has to be there."""
    context = StepContext.from_ffi_event(event(**sections), "x")

    assert (context.input_data, context.step_config, context.step_inputs) == ({}, {}, {})
    assert (context.retry_count, context.max_retries, context.checkpoint) == (0, 3, None)
    assert context.get_dependency_result("a") is None


def test_events_do_not_change():
    """An event is a record of what was sent."""
    assert FfiStepEvent is StepEvent
    with pytest.raises(pydantic.ValidationError):
        event().event_id = "other"
