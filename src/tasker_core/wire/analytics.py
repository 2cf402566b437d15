"""How tasks and steps do, and where the time goes. Durations are in seconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tasker_core.states import TaskState
from tasker_core.wire.common import Answer, Moment

_RATIO = "0 to 1."


def _to_microseconds(figure: float) -> float:
    return round(figure, 6)


Figure = Annotated[float, AfterValidator(_to_microseconds)]


class PerformanceResponse(Answer):
    """How the tasks do that were created within the window; a figure is null when there is
    nothing to measure."""

    window_hours: int
    analysis_period_start: Moment
    calculated_at: Moment
    total_tasks: int
    active_tasks: int = Field(description="Not ended; blocked ones count.")
    completed_tasks: int
    failed_tasks: int = Field(description="In error, or blocked by failures.")
    tasks_by_state: dict[TaskState, int] = Field(description="Only states that occur.")
    completion_rate: Figure = Field(description="completion_ratio in per cent.")
    error_rate: Figure = Field(description="error_ratio in per cent.")
    completion_ratio: Figure = Field(description=f"Complete tasks in all; 0 if none. {_RATIO}")
    error_ratio: Figure = Field(description=f"Failed tasks in all; 0 if none. {_RATIO}")
    system_health_score: Figure = Field(
        description=f"Complete tasks in the complete and the failed ones; 1 if none. {_RATIO}"
    )
    tasks_per_hour: Figure = Field(description="Complete tasks.")
    steps_per_hour: Figure = Field(description="Steps that workers completed.")
    average_task_duration_seconds: Figure | None = Field(
        description="Of complete tasks, from creation to completion."
    )
    p50_task_duration_seconds: Figure | None
    p95_task_duration_seconds: Figure | None
    average_step_duration_seconds: Figure | None = Field(
        description="Of executions, from the claim to the result."
    )
    p50_step_duration_seconds: Figure | None
    p95_step_duration_seconds: Figure | None
    average_queue_wait_seconds: Figure | None = Field(
        description="Of executions, from the queue to the claim."
    )
    p50_queue_wait_seconds: Figure | None
    p95_queue_wait_seconds: Figure | None
    execution_count: int = Field(description="Attempts that ended by themselves.")
    error_count: int = Field(description="Executions that failed.")
    retry_count: int = Field(description="Executions of a step after its first.")


class _Slow(Answer):
    """What a slow step and slow tasks have in common."""

    namespace_name: str
    task_name: str
    version: str
    average_duration_seconds: Figure | None
    max_duration_seconds: Figure | None
    p50_duration_seconds: Figure | None
    p95_duration_seconds: Figure | None
    p99_duration_seconds: Figure | None
    execution_count: int
    error_count: int
    error_rate: Figure = Field(description=_RATIO)
    last_executed_at: Moment | None


class SlowStepResponse(_Slow):
    """One step of a version of a template: its attempts, from the claim to the result."""

    step_name: str
    average_queue_wait_seconds: Figure | None
    p95_queue_wait_seconds: Figure | None


class SlowTaskResponse(_Slow):
    """The complete and failed tasks of a version of a template."""

    average_step_count: Figure


class ResourceUtilization(Answer):
    """How busy the server is, and how the window's tasks and steps stand."""

    database_pool_utilization: Figure = Field(description=f"This server's connections. {_RATIO}")
    system_health: dict[str, int] = Field(
        description="`<state>_tasks`, `<state>_steps` for every state, and `total_…`."
    )


class BottleneckResponse(Answer):
    """Where the time goes, the slowest by average first."""

    window_hours: int
    slow_steps: list[SlowStepResponse]
    slow_tasks: list[SlowTaskResponse]
    resource_utilization: ResourceUtilization
    recommendations: list[str]
