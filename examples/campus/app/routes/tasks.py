"""Create a task and answer 202; follow one, and wait for its end at the server."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tasker_core.client import AsyncTaskerClient, StepResponse, TaskResponse, TaskWaitTimeout

MAX_WAIT_SECONDS = 30

router = APIRouter(tags=["tasks"])


class StepProgress(BaseModel):
    name: str
    state: str
    attempts: int
    result: Any = None
    error: str | None = None
    error_code: str | None = None


class TaskProgress(BaseModel):
    task_uuid: str
    namespace: str
    name: str
    status: str
    parent_correlation_id: str | None
    correlation_id: str
    steps: list[StepProgress]


async def accept(
    request: Request,
    template: str,
    *,
    namespace: str,
    context: dict[str, Any],
    idempotency_key: str | None = None,
    reason: str,
) -> JSONResponse:
    """Create a task, and say where it can be followed: 202, with a Location."""
    tasker: AsyncTaskerClient = request.app.state.tasker
    more = {} if idempotency_key is None else {"idempotency_key": idempotency_key}
    task = await tasker.create_task(
        template, namespace=namespace, context=context, reason=reason, **more
    )
    place = f"/tasks/{task.task_uuid}"
    return JSONResponse({"task_uuid": task.task_uuid, "follow": place}, 202, {"Location": place})


@router.get("/tasks/{task_uuid}")
async def follow(
    task_uuid: UUID,
    request: Request,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
) -> TaskProgress:
    """Say how far a task has come; with `wait`, as soon as it has ended or time is up."""
    tasker: AsyncTaskerClient = request.app.state.tasker
    task = await wait_for_end(tasker, task_uuid, wait)
    return _progress(task, await tasker.list_task_steps(task_uuid))


async def wait_for_end(tasker: AsyncTaskerClient, task_uuid: UUID, seconds: float) -> TaskResponse:
    """Give the task when it has ended, or as it is when the time is up.

    A task that is blocked by a failure counts as ended: nothing more happens to it by
    itself.
    """
    try:
        return await tasker.wait_for_completion(
            task_uuid, timeout=seconds, poll_interval=0.05, failure_grace=0
        )
    except TaskWaitTimeout as too_late:
        return too_late.task


def _progress(task: TaskResponse, steps: list[StepResponse]) -> TaskProgress:
    return TaskProgress(
        task_uuid=task.task_uuid,
        namespace=task.namespace,
        name=task.name,
        status=task.status,
        correlation_id=task.correlation_id,
        parent_correlation_id=task.parent_correlation_id,
        steps=[_step(step) for step in steps],
    )


def _step(step: StepResponse) -> StepProgress:
    results = step.results or {}
    error = results.get("error") or {}
    return StepProgress(
        name=step.name,
        state=step.current_state,
        attempts=step.attempts,
        result=results.get("result"),
        error=error.get("message"),
        error_code=error.get("error_code"),
    )
