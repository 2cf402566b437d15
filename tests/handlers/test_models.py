"""Events as objects, and the whole of a context."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasker_core.handlers.context import StepContext
from tasker_core.handlers.event import StepEvent
from tasker_core.handlers.execution import ResultStatus, StepError, StepExecutionResult
from tasker_core.handlers.models import (
    DependencyResultsWrapper,
    HandlerWrapper,
    StepDefinitionWrapper,
    TaskSequenceStepWrapper,
    TaskWrapper,
    WorkflowStepWrapper,
)

DOCUMENT: dict[str, Any] = {
    "task": {
        "task": {"task_uuid": "t", "context": {"email": "a@b"}, "task_name": "inner"},
        "task_name": "order",
        "task_version": "1.2.0",
        "namespace_name": "shop",
    },
    "workflow_step": {
        "workflow_step_uuid": "s",
        "name": "charge",
        "attempts": 1,
        "max_attempts": 5,
        "inputs": {"a": 1},
        "checkpoint": {"cursor": 3},
        "unknown": "left aside",
    },
    "dependency_results": {"cart": {"result": {"total": 3}}, "bare": 7},
    "step_definition": {
        "name": "charge",
        "handler": {"callable": "charge_card", "method": "refund", "initialization": {"k": 1}},
        "dependencies": ["cart"],
        "publishes_events": [{"name": "payment.charged"}],
    },
}


def test_an_event_can_be_read_as_objects():
    """Every part of it, outer names before inner ones."""
    whole = TaskSequenceStepWrapper.from_dict(DOCUMENT)

    assert (whole.task.task_name, whole.task.task_uuid) == ("order", "t")
    assert (whole.task.namespace_name, whole.task.task_version) == ("shop", "1.2.0")
    assert (whole.workflow_step.attempts, whole.workflow_step.checkpoint) == (1, {"cursor": 3})
    assert whole.step_definition.handler == HandlerWrapper("charge_card", {"k": 1}, "refund", None)
    assert whole.step_definition.publishes_events == [{"name": "payment.charged"}]
    assert whole.step_definition.timeout_seconds == 30
    assert whole.get_task_field("email") == "a@b"
    assert whole.get_task_field("phone") is None
    assert whole.get_dependency_result("cart") == whole.get_results("cart") == {"total": 3}


@pytest.mark.parametrize(
    "kind", [HandlerWrapper, StepDefinitionWrapper, WorkflowStepWrapper, TaskWrapper]
)
def test_what_is_missing_or_null_has_its_default(kind: Any):
    """An empty part is like no part, and like one of nulls."""
    names = list(kind.__dataclass_fields__)

    assert kind.from_dict(None) == kind.from_dict({}) == kind()
    assert kind.from_dict(dict.fromkeys(names)) == kind()
    assert kind.from_dict("nonsense") == kind()


def test_results_can_be_asked_for():
    """With their envelope and without; what is not there is None."""
    results = DependencyResultsWrapper.from_dict(DOCUMENT["dependency_results"])

    assert results.get_result("cart") == results["cart"] == {"result": {"total": 3}}
    assert (results.get_results("cart"), results.get_results("bare")) == ({"total": 3}, 7)
    assert (results["none"], results.get_results("none")) == (None, None)
    assert (results.keys(), list(results), len(results)) == (["cart", "bare"], ["cart", "bare"], 2)
    assert "cart" in results
    assert "none" not in results
    assert DependencyResultsWrapper.from_dict(None).keys() == []


def test_a_context_shows_the_event_that_it_was_made_from():
    """A new object at each access."""
    event = StepEvent(
        event_id="e",
        task_uuid=str(uuid4()),
        step_uuid=str(uuid4()),
        correlation_id=str(uuid4()),
        task_sequence_step=DOCUMENT,
    )
    context = StepContext.from_event(event, "charge_card")

    assert context.task_sequence_step is not context.task_sequence_step
    assert context.task_sequence_step.task.task_name == "order"


def test_a_context_without_an_event_shows_what_it_knows():
    """In the same places."""
    context = StepContext.for_testing(
        input_data={"email": "a@b"},
        dependency_results={"cart": {"total": 3}},
        step_config={"k": 1},
        attempts=1,
        max_attempts=4,
        checkpoint={"cursor": 3},
        handler_name="charge_card",
        step_name="charge",
        task_name="order",
        namespace="shop",
    )
    whole = context.task_sequence_step

    assert whole.task.task_uuid == str(context.task_uuid)
    assert (whole.task.namespace_name, whole.task.task_name) == ("shop", "order")
    assert (whole.workflow_step.attempts, whole.workflow_step.max_attempts) == (1, 4)
    assert whole.workflow_step.checkpoint == {"cursor": 3}
    assert whole.get_dependency_result("cart") == {"total": 3}
    assert whole.get_task_field("email") == "a@b"
    assert whole.step_definition.handler.callable == "charge_card"
    assert whole.step_definition.handler.initialization == {"k": 1}


def test_the_end_of_an_attempt_is_one_document():
    """The status says whether it is done, may pass, or has failed for good."""
    step, task = uuid4(), uuid4()
    done = StepExecutionResult.success_result(step, task, {"a": 1}, 12, "w1", metadata={"x": 1})
    failed = [
        StepExecutionResult.failure_result(
            step, task, StepError(error_type="t", message="m", retryable=r, error_code="C"), 3, "w1"
        )
        for r in (True, False)
    ]

    assert (done.success, done.status, done.result) == (True, "completed", {"a": 1})
    assert done.metadata == {"x": 1}
    assert [f.status for f in failed] == [
        ResultStatus.RETRYABLE_ERROR,
        ResultStatus.PERMANENT_ERROR,
    ]
    assert {f.error_code for f in failed} == {"C"}
    assert StepExecutionResult.model_validate_json(failed[0].model_dump_json()) == failed[0]
    assert ResultStatus.FAILURE.value == "error"
