"""A task as a picture: its graph, and the one document that a page about it needs."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from tasker_core.states import StepState, TaskState
from tasker_core.wire.common import Answer, Moment
from tasker_core.wire.tasks import ExecutionStatus, RecommendedAction


class GraphNode(Answer):
    """One step."""

    step_uuid: UUID
    name: str
    state: StepState
    attempts: int
    max_attempts: int


class GraphEdge(Answer):
    """One step that waits for another."""

    parent: UUID = Field(description="The step that is done first.")
    child: UUID


class TaskGraph(Answer):
    """The steps of a task that exist by now, parents before children."""

    task_uuid: UUID
    name: str
    status: TaskState
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class SummaryTask(Answer):
    """The task of a summary, without its context."""

    task_uuid: UUID
    name: str
    namespace: str
    version: str
    status: TaskState
    created_at: Moment
    updated_at: Moment
    completed_at: Moment | None
    initiator: str
    source_system: str
    reason: str
    correlation_id: UUID
    total_steps: int
    pending_steps: int
    in_progress_steps: int
    completed_steps: int
    failed_steps: int
    completion_percentage: float
    health_status: Literal["healthy", "blocked"]
    execution_status: ExecutionStatus
    recommended_action: RecommendedAction


class SummaryTemplateStep(Answer):
    """A step as the template has it, whether or not the task has it by now."""

    name: str
    step_type: str
    handler: str
    dependencies: list[str]
    retryable: bool
    max_attempts: int


class SummaryTemplate(Answer):
    """What the task was made from."""

    steps: list[SummaryTemplateStep]


class SummaryError(Answer):
    """Why the last attempt of a step failed."""

    message: str
    error_type: str | None
    retryable: bool
    status_code: int | None


class SummaryStep(Answer):
    """Where a step stands."""

    step_uuid: UUID
    name: str
    current_state: StepState
    created_at: Moment
    completed_at: Moment | None
    last_attempted_at: Moment | None
    attempts: int
    max_attempts: int
    dependencies: list[str] = Field(description="Names of the steps before it.")
    dependencies_satisfied: bool
    retry_eligible: bool
    error: SummaryError | None


class SummaryDlq(Answer):
    """Whether somebody is to look into the task."""

    in_dlq: bool
    dlq_reason: str | None
    resolution_status: str | None


class SummaryLinks(Answer):
    """Where there is more."""

    task: str
    steps: str
    dlq: str
    events: str
    graph: str
    summary: str


class TaskSummary(Answer):
    """Everything that a page about one task shows, without contexts and results."""

    task: SummaryTask
    template: SummaryTemplate
    steps: list[SummaryStep]
    dlq: SummaryDlq
    links: SummaryLinks


class TaskAudit(Answer):
    """One thing that happened to a task or a step of it; what does not apply is left out."""

    recorded_at: Moment
    kind: Literal["created", "task_change", "worker_result", "operator_action"]
    actor: str | None = Field(None, description="A person, or the worker of a result.")
    reason: str | None = None
    action: str | None = None
    step_uuid: UUID | None = None
    step_name: str | None = None
    from_state: str | None = None
    to_state: str
    attempt: int | None = None
    success: bool | None = None
    execution_time_ms: int | None = None
    error: dict[str, Any] | None = None


class TaskContextResponse(Answer):
    """What a task was asked with, and what its steps have returned."""

    inputs: dict[str, Any]
    outputs: dict[str, Any] = Field(description="Results by step, of those that are complete.")
    merged: dict[str, Any] = Field(
        description="The inputs, and over them the results that are objects, in their order."
    )
