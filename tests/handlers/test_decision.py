"""Decisions say which steps come next, in the shape that the engine reads."""

from __future__ import annotations

from typing import Any

import pytest

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.decision import (
    DecisionHandler,
    DecisionMixin,
    DecisionPointOutcome,
    DecisionType,
)
from tasker_core.handlers.result import StepHandlerResult


class Route(DecisionHandler):
    handler_name = "route"
    handler_version = "2.1.0"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.decision_success(["a"])


FACTS = {"decision_handler": "route", "decision_version": "2.1.0"}
CREATE_A_B = {"decision_point_outcome": {"type": "create_steps", "step_names": ["a", "b"]}}
NONE = {"decision_point_outcome": {"type": "no_branches"}}


@pytest.mark.parametrize(
    "steps",
    [["a", "b"], ("a", "b"), DecisionPointOutcome.create_steps(["a", "b"])],
    ids=["list", "tuple", "outcome"],
)
def test_chosen_steps_are_named_in_the_result(steps: Any):
    """A list, a tuple and an outcome say the same."""
    result = Route().decision_success(steps)

    assert (result.success, result.result, result.metadata) == (True, CREATE_A_B, FACTS)


def test_one_name_is_one_step():
    """A string is not taken for a list of letters."""
    outcome = Route().decision_success("review").result["decision_point_outcome"]

    assert outcome["step_names"] == ["review"]


def test_the_routing_context_is_handed_on():
    """Beside the outcome, if there is any; that of the call goes before that of the outcome."""
    outcome = DecisionPointOutcome.create_steps(["a", "b"], routing_context={"x": 1, "y": 1})
    handler = Route()

    assert handler.decision_success(["a", "b"], {"x": 1}).result == {
        **CREATE_A_B,
        "routing_context": {"x": 1},
    }
    assert handler.decision_success(outcome, {"y": 2}).result["routing_context"] == {"x": 1, "y": 2}
    assert outcome.routing_context == {"x": 1, "y": 1}
    assert handler.route_to_steps(["a", "b"], {"x": 1}) == handler.decision_success(
        ["a", "b"], {"x": 1}
    )


def test_dynamic_steps_are_kept():
    """They stand at the top of the result."""
    outcome = DecisionPointOutcome.create_steps(["a", "b"], dynamic_steps=[{"name": "c"}])

    assert Route().decision_success_with_outcome(outcome).result == {
        **CREATE_A_B,
        "dynamic_steps": [{"name": "c"}],
    }


def test_no_steps_is_a_decision_too():
    """Skipping says why, in each of its forms."""
    handler = Route()
    outcome = DecisionPointOutcome.no_branches("small", {"x": 1})
    expected = {**NONE, "reason": "small", "routing_context": {"x": 1}}

    assert handler.skip_branches("small", {"x": 1}).result == expected
    assert handler.decision_no_branches(outcome).result == expected
    assert handler.decision_success_with_outcome(outcome).result == expected
    assert handler.decision_success(outcome).result == expected
    assert handler.decision_success([]).result == {**NONE, "reason": "no steps selected"}


def test_failures_are_final_unless_said_otherwise():
    """Nothing could be decided: trying again decides no better."""
    failed = Route().decision_failure("no rule fits", metadata={"x": 1})

    assert (failed.error_type, failed.retryable) == ("decision_error", False)
    assert failed.metadata == {"x": 1, **FACTS}
    assert Route().decision_failure("later", retryable=True).retryable


def test_the_callers_metadata_stay_as_they_are():
    """They are copied."""
    metadata = {"x": 1}
    Route().decision_success(["a"], metadata=metadata)
    Route().skip_branches("no", metadata=metadata)

    assert metadata == {"x": 1}


def test_both_orders_of_the_bases_work():
    """The mixin may stand before or after `StepHandler`."""

    class After(StepHandler, DecisionMixin):
        handler_name = "after"

        def call(self, context: StepContext) -> StepHandlerResult:
            return self.decision_success(["a"])

    for handler in (After(), Route()):
        assert handler.capabilities == ["process", "decision", "routing"]
        assert handler.decision_capabilities == ["decision", "routing"]
        assert handler.call(StepContext()).success is True


def test_outcomes_survive_json():
    """Both kinds come back as they were."""
    for outcome in (
        DecisionPointOutcome.create_steps(["a"], routing_context={"x": 1}),
        DecisionPointOutcome.no_branches("no"),
    ):
        assert DecisionPointOutcome.model_validate_json(outcome.model_dump_json()) == outcome
    assert DecisionPointOutcome.no_branches("no").decision_type is DecisionType.NO_BRANCHES
