"""Handlers that decide which steps come next.

A decision's result names steps of the template; finish creates them in the same
transaction. Steps that no decision names never come into being.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.result import ErrorType, StepHandlerResult

NO_STEPS = "no steps selected"


class DecisionType(StrEnum):
    """What a decision does."""

    CREATE_STEPS = "create_steps"
    NO_BRANCHES = "no_branches"


class DecisionPointOutcome(BaseModel):
    """What was decided; make one with `create_steps` or `no_branches`."""

    decision_type: DecisionType
    next_step_names: list[str] = Field(default_factory=list)  # steps of the template
    dynamic_steps: list[dict[str, Any]] | None = None  # kept in the result, not used by Tasker
    reason: str | None = None  # why nothing is to be done
    routing_context: dict[str, Any] = Field(default_factory=dict)  # for the steps that follow

    @classmethod
    def create_steps(
        cls,
        step_names: Sequence[str],
        dynamic_steps: Sequence[Mapping[str, Any]] | None = None,
        routing_context: Mapping[str, Any] | None = None,
    ) -> DecisionPointOutcome:
        """Decide for these steps."""
        return cls(
            decision_type=DecisionType.CREATE_STEPS,
            next_step_names=list(step_names),
            dynamic_steps=[dict(step) for step in dynamic_steps] if dynamic_steps else None,
            routing_context=dict(routing_context or {}),
        )

    @classmethod
    def no_branches(
        cls, reason: str, routing_context: Mapping[str, Any] | None = None
    ) -> DecisionPointOutcome:
        """Decide for none."""
        return cls(
            decision_type=DecisionType.NO_BRANCHES,
            reason=reason,
            routing_context=dict(routing_context or {}),
        )


class DecisionMixin:
    """Makes a `StepHandler` decide; in either order of the bases.

    The result of a decision is one of::

        {"decision_point_outcome": {"type": "create_steps", "step_names": [str]},
         "routing_context": {}, "dynamic_steps": [{}]}     # the last two if there are any
        {"decision_point_outcome": {"type": "no_branches"}, "reason": str,
         "routing_context": {}}

    Later steps read `routing_context` from it like from any result. The metadata get
    `decision_handler` and `decision_version`.

    >>> class Route(DecisionMixin, StepHandler):
    ...     handler_name = "route"
    ...     def call(self, context):
    ...         return self.decision_success(["manual_review"], {"why": "large"})
    >>> Route().call(None).result["decision_point_outcome"]
    {'type': 'create_steps', 'step_names': ['manual_review']}
    """

    decision_capabilities: ClassVar[list[str]] = ["decision", "routing"]

    def decision_success(
        self,
        steps: Sequence[str] | DecisionPointOutcome,
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide for these steps; none of them is a decision, too.

        Args:
            steps: Names of steps in the template, or one name, or an outcome.
            routing_context: For the steps that follow.
            metadata: Facts about the attempt. Copied.
        """
        if isinstance(steps, DecisionPointOutcome):
            merged = {**steps.routing_context, **(routing_context or {})}
            outcome = steps.model_copy(update={"routing_context": merged})
        else:
            names = [steps] if isinstance(steps, str) else steps
            outcome = DecisionPointOutcome.create_steps(names, routing_context=routing_context)
        return self.decision_success_with_outcome(outcome, metadata)

    def decision_success_with_outcome(
        self, outcome: DecisionPointOutcome, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Decide as an outcome says; its `dynamic_steps` and its reason are kept."""
        if outcome.decision_type is DecisionType.NO_BRANCHES:
            return self.decision_no_branches(outcome, metadata)
        if not outcome.next_step_names and not outcome.dynamic_steps:
            nothing = DecisionPointOutcome.no_branches(NO_STEPS, outcome.routing_context)
            return self.decision_no_branches(nothing, metadata)
        result: dict[str, Any] = {
            "decision_point_outcome": {
                "type": DecisionType.CREATE_STEPS.value,
                "step_names": list(outcome.next_step_names),
            }
        }
        if outcome.dynamic_steps:
            result["dynamic_steps"] = outcome.dynamic_steps
        return self._decided(result, outcome, metadata)

    def decision_no_branches(
        self, outcome: DecisionPointOutcome, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Decide for no steps, with an outcome that says why."""
        result: dict[str, Any] = {
            "decision_point_outcome": {"type": DecisionType.NO_BRANCHES.value},
            "reason": outcome.reason,
        }
        return self._decided(result, outcome, metadata)

    def skip_branches(
        self,
        reason: str,
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide for no steps, and say why."""
        outcome = DecisionPointOutcome.no_branches(reason, routing_context)
        return self.decision_no_branches(outcome, metadata)

    def route_to_steps(
        self,
        step_names: Sequence[str],
        routing_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Decide for these steps, as `decision_success` does."""
        return self.decision_success(step_names, routing_context, metadata)

    def decision_failure(
        self,
        message: str,
        error_type: str | ErrorType = "decision_error",
        retryable: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Say that nothing could be decided; unlike other failures, not retried by default."""
        return StepHandlerResult.failure(message, error_type, retryable, self._facts(metadata))

    def _decided(
        self,
        result: dict[str, Any],
        outcome: DecisionPointOutcome,
        metadata: Mapping[str, Any] | None,
    ) -> StepHandlerResult:
        if outcome.routing_context:
            result["routing_context"] = outcome.routing_context
        return StepHandlerResult.success(result, self._facts(metadata))

    def _facts(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            **(metadata or {}),
            "decision_handler": getattr(self, "name", type(self).__name__),
            "decision_version": getattr(self, "version", ""),
        }


class DecisionHandler(DecisionMixin, StepHandler):
    """A `StepHandler` that decides which steps come next."""
