"""/v1/analytics: how tasks and steps do, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import asyncpg
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.analytics import (
    Bottlenecks,
    Performance,
    SlowStep,
    SlowTask,
    find_bottlenecks,
    measure_performance,
)
from tasker_core.server.auth import namespaces_of
from tasker_core.server.backend import backend_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.routes import Word, answer
from tasker_core.server.routes import router as new_router
from tasker_core.states import StepState, TaskState
from tasker_core.wire.analytics import (
    BottleneckResponse,
    PerformanceResponse,
    ResourceUtilization,
    SlowStepResponse,
    SlowTaskResponse,
)

router = new_router()

Hours = Annotated[
    int, Query(ge=1, le=8760, description="How far back the tasks may have been created.")
]
Namespace = Annotated[Word, Query(description="Only tasks of this namespace.")]

# beyond these a recommendation is made
ERROR_RATIO = 0.2
POOL_UTILIZATION = 0.8
SLOW_SECONDS = 30.0


@router.get(
    "/v1/analytics/performance",
    operation_id="getPerformanceMetrics",
    responses={200: {"model": PerformanceResponse}, **problems_of(400, 503)},
    tags=["analytics"],
)
async def performance(request: Request, hours: Hours = 24, namespace: Namespace = None) -> Response:
    """Measure how the tasks of the last hours do."""
    async with backend_of(request).connection() as conn:
        found = await measure_performance(
            conn, hours=hours, namespace=namespace, namespaces=namespaces_of(request)
        )
    return answer(_performance(found))


@router.get(
    "/v1/analytics/bottlenecks",
    operation_id="getBottlenecks",
    responses={200: {"model": BottleneckResponse}, **problems_of(400, 503)},
    tags=["analytics"],
)
async def bottlenecks(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="How many steps, and tasks.")] = 10,
    min_executions: Annotated[
        int, Query(ge=1, le=1_000_000, description="Leave out what ran less often.")
    ] = 5,
    hours: Hours = 24,
    namespace: Namespace = None,
) -> Response:
    """Find the slowest steps and tasks of the last hours."""
    backend = backend_of(request)
    utilization = _utilization(backend.pool)
    async with backend.connection() as conn:
        found = await find_bottlenecks(
            conn,
            hours=hours,
            min_executions=min_executions,
            namespace=namespace,
            namespaces=namespaces_of(request),
        )
    return answer(
        BottleneckResponse(
            window_hours=hours,
            slow_steps=[_slow_step(step) for step in found.slow_steps[:limit]],
            slow_tasks=[_slow_task(task) for task in found.slow_tasks[:limit]],
            resource_utilization=ResourceUtilization(
                database_pool_utilization=utilization, system_health=_system_health(found)
            ),
            recommendations=list(_recommendations(found, utilization)),
        )
    )


# --- what the caller sees ---------------------------------------------------------------


def _performance(found: Performance) -> PerformanceResponse:
    return PerformanceResponse(
        window_hours=found.hours,
        analysis_period_start=found.began_at,
        calculated_at=found.calculated_at,
        total_tasks=found.total_tasks,
        active_tasks=found.active_tasks,
        completed_tasks=found.completed_tasks,
        failed_tasks=found.failed_tasks,
        tasks_by_state=found.tasks,
        completion_rate=round(100 * found.completion_ratio, 2),
        error_rate=round(100 * found.error_ratio, 2),
        completion_ratio=found.completion_ratio,
        error_ratio=found.error_ratio,
        system_health_score=round(found.health_score, 3),
        tasks_per_hour=found.tasks_per_hour,
        steps_per_hour=found.steps_per_hour,
        average_task_duration_seconds=found.task_duration.average,
        p50_task_duration_seconds=found.task_duration.p50,
        p95_task_duration_seconds=found.task_duration.p95,
        average_step_duration_seconds=found.step_duration.average,
        p50_step_duration_seconds=found.step_duration.p50,
        p95_step_duration_seconds=found.step_duration.p95,
        average_queue_wait_seconds=found.queue_wait.average,
        p50_queue_wait_seconds=found.queue_wait.p50,
        p95_queue_wait_seconds=found.queue_wait.p95,
        execution_count=found.executions,
        error_count=found.failed_executions,
        retry_count=found.retries,
    )


def _slow_step(step: SlowStep) -> SlowStepResponse:
    return SlowStepResponse(
        step_name=step.step_name,
        average_queue_wait_seconds=step.queue_wait.average,
        p95_queue_wait_seconds=step.queue_wait.p95,
        **_slow(step),
    )


def _slow_task(task: SlowTask) -> SlowTaskResponse:
    return SlowTaskResponse(average_step_count=task.average_step_count, **_slow(task))


def _slow(one: SlowStep | SlowTask) -> dict[str, Any]:
    return {
        "namespace_name": one.namespace,
        "task_name": one.task_name,
        "version": one.version,
        "average_duration_seconds": one.duration.average,
        "max_duration_seconds": one.duration.longest,
        "p50_duration_seconds": one.duration.p50,
        "p95_duration_seconds": one.duration.p95,
        "p99_duration_seconds": one.duration.p99,
        "execution_count": one.executions,
        "error_count": one.failures,
        "error_rate": one.error_ratio,
        "last_executed_at": one.last_executed_at,
    }


def _system_health(found: Bottlenecks) -> dict[str, int]:
    return {
        **{f"{state}_tasks": found.tasks.get(state, 0) for state in TaskState},
        "total_tasks": sum(found.tasks.values()),
        **{f"{state}_steps": found.steps.get(state, 0) for state in StepState},
        "total_steps": sum(found.steps.values()),
    }


def _utilization(pool: asyncpg.Pool[asyncpg.Record] | None) -> float:
    """Say which share of the connections is in use, before this request takes one."""
    if pool is None:
        return 0.0
    return (pool.get_size() - pool.get_idle_size()) / pool.get_max_size()


def _recommendations(found: Bottlenecks, utilization: float) -> Iterator[str]:
    """Say what to look at; of all steps, not only of those that are shown."""
    worst = max(found.slow_steps, key=lambda step: step.error_ratio, default=None)
    if worst is not None and worst.error_ratio > ERROR_RATIO:
        yield (
            f"{worst.failures} of {worst.executions} executions of step {worst.step_name} of "
            f"{_label(worst)} failed: look at its errors"
        )
    if utilization > POOL_UTILIZATION:
        yield (
            f"{utilization:.0%} of this server's database connections are in use: run another "
            f"server beside it"
        )
    for step in found.slow_steps[:1]:
        if (seconds := step.duration.average or 0.0) > SLOW_SECONDS:
            yield (
                f"step {step.step_name} of {_label(step)} takes {seconds:.1f} seconds on "
                f"average: see whether it can be cut into steps or batches"
            )


def _label(one: SlowStep | SlowTask) -> str:
    return f"{one.namespace}/{one.task_name} {one.version}"
