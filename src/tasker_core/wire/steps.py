"""Steps, their results and their history, and what an operator may do with them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from tasker_core.states import StepState
from tasker_core.wire.common import Answer, Moment, Request, Text


class StepReadiness(Answer):
    """Where a step stands, without its result."""

    workflow_step_uuid: UUID
    task_uuid: UUID
    named_step_uuid: UUID = Field(description="The same for this step of every such task.")
    name: str
    current_state: StepState
    dependencies_satisfied: bool
    retry_eligible: bool
    ready_for_execution: bool = Field(description="Claimable now.")
    last_failure_at: Moment | None
    next_retry_at: Moment | None
    total_parents: int
    completed_parents: int
    attempts: int = Field(description="Since the last reset.")
    max_attempts: int
    backoff_request_seconds: int | None = Field(
        description="What a handler asked for is part of next_retry_at; this is null."
    )
    last_attempted_at: Moment | None


class ResultMetadata(Answer):
    """The circumstances of an attempt."""

    execution_time_ms: int | None = Field(description="From the claim to the recorded result.")
    retryable: bool
    completed_at: Moment
    started_at: Moment | None
    worker_id: str | None
    handler_version: str | None
    error_code: str | None
    error_type: str | None
    custom: dict[str, Any] = Field(description="What the handler, or the operator, added.")
    checkpoint: dict[str, Any] | None = Field(
        default=None, description="The last one of a step that is complete, without its history."
    )
    manually_completed: bool | None = None
    completed_by: str | None = None
    completion_reason: str | None = None


class ResultError(Answer):
    """Why an attempt failed."""

    message: str
    error_type: str | None
    error_code: str | None
    retryable: bool
    status_code: int | None
    backtrace: list[str] | None
    context: dict[str, Any]


class ExecutionResult(Answer):
    """How the last attempt of a step ended."""

    step_uuid: UUID
    success: bool
    result: Any
    status: Literal["completed", "failed"]
    metadata: ResultMetadata
    error: ResultError | None


class StepResponse(Answer):
    """One step, with the result of its last attempt."""

    step_uuid: UUID
    task_uuid: UUID
    name: str
    created_at: Moment
    updated_at: Moment
    completed_at: Moment | None
    results: ExecutionResult | None
    current_state: StepState
    dependencies_satisfied: bool
    retry_eligible: bool
    ready_for_execution: bool
    total_parents: int
    completed_parents: int
    attempts: int
    max_attempts: int
    last_failure_at: Moment | None
    next_retry_at: Moment | None
    last_attempted_at: Moment | None


class StepAudit(Answer):
    """One thing that happened to a step; what does not apply is left out."""

    audit_uuid: UUID
    workflow_step_uuid: UUID
    transition_uuid: UUID
    task_uuid: UUID
    recorded_at: Moment
    kind: Literal["worker_result", "operator_action"]
    worker_uuid: UUID | None = None
    correlation_id: UUID | None = None
    attempt: int | None = None
    success: bool
    execution_time_ms: int | None = None
    result: ExecutionResult | None = None
    step_name: str
    from_state: str | None = None
    to_state: str
    action: str | None = None
    actor: str | None = None
    reason: str | None = None


class TransitionResponse(Answer):
    """One change of state of a task (`step_uuid` null) or a step."""

    task_uuid: UUID
    step_uuid: UUID | None
    step_name: str | None
    from_state: str
    to_state: str
    moved_at: Moment
    attempt: int | None
    action: str | None = Field(
        description="An operator's; `advance` when a task went on by itself."
    )
    actor: str | None
    reason: str | None


# --- what an operator may do --------------------------------------------------------

Actor = Annotated[Text, Field(min_length=1, max_length=255)]
Reason = Annotated[Text, Field(min_length=1, max_length=500)]


class ResetForRetry(Request):
    """Run a failed step again, with all its attempts before it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"action_type": "reset_for_retry", "reason": "the bank is back", "reset_by": "ada"}
            ]
        }
    )

    action_type: Literal["reset_for_retry"]
    reason: Reason
    reset_by: Actor
    drop_checkpoint: bool = Field(False, description="Begin a batch from its start.")


class ResolveManually(Request):
    """Declare a step settled, without a result."""

    action_type: Literal["resolve_manually"]
    reason: Reason
    resolved_by: Actor
    force: bool = Field(False, description="Even while it is running.")


class CompletionData(Request):
    """The result that an operator supplies."""

    result: Any
    metadata: Any = None


class CompleteManually(Request):
    """Complete a step with a result that an operator supplies."""

    action_type: Literal["complete_manually"]
    completion_data: CompletionData
    reason: Reason
    completed_by: Actor
    force: bool = Field(False, description="Even while it is running.")


StepAction = Annotated[
    ResetForRetry | ResolveManually | CompleteManually, Field(discriminator="action_type")
]
