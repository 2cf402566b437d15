"""What asks for a task, and what a task looks like."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, Strict

from tasker_core.states import StepState, TaskState
from tasker_core.wire.common import Answer, Moment, Request, Text
from tasker_core.wire.steps import StepReadiness

ExecutionStatus = Literal[
    "has_ready_steps",
    "processing",
    "blocked_by_failures",
    "all_complete",
    "waiting_for_dependencies",
]

RecommendedAction = Literal[
    "execute_ready_steps",
    "wait_for_completion",
    "handle_failures",
    "finalize_task",
    "wait_for_dependencies",
    "none",
]


class TaskRequest(Request):
    """A request for a task. Only the template's name is mandatory."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "refund", "namespace": "shop", "context": {"order_number": "A-17"}}
            ]
        }
    )

    name: Text = Field(min_length=1, max_length=255)
    namespace: Text = Field("default", min_length=1, max_length=255)
    version: Text | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="Left out or null: the newest registered version.",
    )
    context: dict[str, Any] = Field({}, description="What the steps work on.")
    initiator: Text | None = Field(
        None, min_length=1, max_length=255, description="Left out or null: whoever calls."
    )
    source_system: Text = Field("api", min_length=1, max_length=255)
    reason: Text = Field("Task requested", min_length=1, max_length=500)
    tags: list[Annotated[Text, Field(min_length=1, max_length=255)]] = Field([])
    priority: Annotated[int, Strict()] | None = Field(
        0, ge=-100, le=100, description="The higher goes first."
    )
    correlation_id: UUID | None = Field(None, description="Left out or null: a new one.")
    parent_correlation_id: UUID | None = None
    idempotency_key: Text | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="What makes a task the same task; overrules the template's identity_strategy.",
    )
    options: dict[str, Any] | None = Field(None, description="Accepted, without effect.")
    requested_at: Any = Field(
        None, description="Accepted, without effect: the database's clock counts."
    )


class CancelRequest(Request):
    """Why a task is cancelled; the whole body may be left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "ordered twice"}]})

    reason: Text | None = Field(None, min_length=1, max_length=500)


class RetryRequest(Request):
    """Why every failed step of a task is run again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "the bank is back", "actor": "ada"}]}
    )

    reason: Text = Field(min_length=1, max_length=500)
    actor: Text | None = Field(
        None, min_length=1, max_length=255, description="Left out or null: whoever calls."
    )
    drop_checkpoints: Annotated[bool, Strict()] = Field(
        False, description="The steps begin from their start."
    )


class TaskResponse(Answer):
    """One task, with its steps counted by state. `total_steps` is the sum of the counters
    but `ready_steps`, which counts the enqueued ones once more."""

    task_uuid: UUID
    name: str
    namespace: str
    version: str
    status: TaskState
    created_at: Moment
    updated_at: Moment
    completed_at: Moment | None = Field(description="Set in every terminal state.")
    context: dict[str, Any]
    initiator: str
    source_system: str
    reason: str
    priority: int
    tags: list[str]
    correlation_id: UUID
    parent_correlation_id: UUID | None
    total_steps: int
    pending_steps: int
    enqueued_steps: int
    in_progress_steps: int
    waiting_for_retry_steps: int
    completed_steps: int = Field(description="Complete or resolved manually.")
    failed_steps: int = Field(description="In error.")
    cancelled_steps: int
    ready_steps: int = Field(description="Claimable now: the same as enqueued_steps.")
    execution_status: ExecutionStatus
    recommended_action: RecommendedAction
    completion_percentage: float = Field(description="0 to 100, with two decimals.")
    health_status: Literal["healthy", "blocked"]
    steps: list[StepReadiness] = Field(description="Empty in lists.")
    results: dict[str, Any] | None = Field(
        None,
        description="By step, what those returned after which none comes; null unless asked for.",
    )


class StepCause(Answer):
    """Why one step is neither running nor done."""

    step_uuid: UUID | None = Field(description="null: it is not known yet whether it comes.")
    name: str
    state: StepState | None
    cause: Literal[
        "failed",
        "cancelled",
        "task_ended",
        "waits_for_parents",
        "blocked_by_failures",
        "waits_for_batch",
        "waits_for_retry",
        "no_worker_in_namespace",
        "no_worker_with_handler",
        "waits_for_worker",
        "waits_for_decision",
    ]
    explanation: str = Field(description="The same in a sentence.")
    detail: dict[str, Any] = Field(description="What the sentence is made of.")


class Pagination(Answer):
    """Where in a list this page is. With a cursor, pages have no number."""

    page: int | None = Field(description="Counted from 1; null with a cursor.")
    per_page: int
    total_count: int | None = Field(description="null with a cursor, unless asked for.")
    total_pages: int | None
    has_next: bool
    has_previous: bool
    next_cursor: str | None = Field(description="Where the next page begins; null: none comes.")


class TaskListResponse(Answer):
    """A page of tasks, the youngest first unless another order was asked for."""

    tasks: list[TaskResponse]
    pagination: Pagination
