"""/v1/tasks: create, list, read and cancel tasks."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import inspect, operate
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.why import why
from tasker_core.errors import TransitionRefused
from tasker_core.server.auth import caller
from tasker_core.server.backend import backend_of
from tasker_core.server.body import read_request
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.render import cause_response, task_list, task_response, transition_response
from tasker_core.server.routes import Word, answer, answer_list
from tasker_core.server.routes import router as new_router
from tasker_core.states import TASK_TERMINAL, TaskState
from tasker_core.wire.steps import TransitionResponse
from tasker_core.wire.tasks import (
    CancelRequest,
    StepCause,
    TaskListResponse,
    TaskRequest,
    TaskResponse,
)

router = new_router()

_TASK_REQUEST: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)
_CANCEL_REQUEST: TypeAdapter[CancelRequest] = TypeAdapter(CancelRequest)
_TRANSITIONS = TypeAdapter(list[TransitionResponse])
_CAUSES = TypeAdapter(list[StepCause])

_ALIASES = {"completed": TaskState.COMPLETE}
_ACTIVE = tuple(state for state in TaskState if state not in TASK_TERMINAL)

CANCEL_REASON = "Cancelled by request"


@router.post(
    "/v1/tasks",
    operation_id="createTask",
    status_code=201,
    responses={201: {"model": TaskResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("TaskRequest"),
    tags=["tasks"],
)
async def create(request: Request) -> Response:
    """Begin a task from a template."""
    asked = await read_request(request, _TASK_REQUEST)
    backend = backend_of(request)
    await backend.pressure.refuse_if_full(asked.namespace)
    async with backend.connection() as conn:
        created = await create_task(
            conn,
            backend.shelf,
            NewTask(
                name=asked.name,
                namespace=asked.namespace,
                version=asked.version,
                context=asked.context,
                initiator=asked.initiator or caller(request),
                source_system=asked.source_system,
                reason=asked.reason,
                tags=asked.tags,
                priority=asked.priority or 0,
                correlation_id=asked.correlation_id,
                parent_correlation_id=asked.parent_correlation_id,
                idempotency_key=asked.idempotency_key,
            ),
            max_context_bytes=backend.settings.max_context_bytes,
        )
        task = await inspect.get_task(conn, created.task_uuid)
        steps = await inspect.list_steps(conn, created.task_uuid, with_results=False)
    return answer(task_response(task, steps), 201, Location=f"/v1/tasks/{created.task_uuid}")


def _states(text: str) -> tuple[TaskState, ...]:
    """Read a list of states."""
    states = []
    for word in map(str.strip, text.split(",")):
        try:
            states.append(_ALIASES.get(word) or TaskState(word))
        except ValueError:
            known = ", ".join(TaskState)
            raise ValueError(f"{word!r} is no state of a task; states: {known}") from None
    return tuple(states)


def _check_states(text: str | None) -> str | None:
    if text is not None:
        _states(text)
    return text


class TaskQuery(BaseModel):
    """Which tasks to list."""

    page: int = Field(1, ge=1, le=1_000_000_000)
    per_page: int = Field(25, ge=1, le=100)
    namespace: Word = None
    name: Word = None
    version: Word = None
    status: Annotated[Word, AfterValidator(_check_states)] = Field(
        None, description="A state, or several with commas; `completed` is `complete`."
    )
    active: bool = Field(False, description="Only tasks that have not ended.")
    initiator: Word = None
    source_system: Word = None
    correlation_id: UUID | None = None

    def states(self) -> tuple[TaskState, ...] | None:
        """Give the states that `status` and `active` leave; None: all of them."""
        named = None if self.status is None else _states(self.status)
        if not self.active:
            return named
        return _ACTIVE if named is None else tuple(state for state in named if state in _ACTIVE)


@router.get(
    "/v1/tasks",
    operation_id="listTasks",
    responses={200: {"model": TaskListResponse}, **problems_of(400, 503)},
    tags=["tasks"],
)
async def list_tasks(request: Request, wanted: Annotated[TaskQuery, Query()]) -> Response:
    """List tasks, the youngest first."""
    states = wanted.states()
    tasks: list[inspect.TaskRecord] = []
    total = 0
    if states != ():  # an engine's filter without states has all of them
        filtered = inspect.TaskFilter(
            states=states or (),
            namespace=wanted.namespace,
            name=wanted.name,
            version=wanted.version,
            initiator=wanted.initiator,
            source_system=wanted.source_system,
            correlation_id=wanted.correlation_id,
        )
        offset = (wanted.page - 1) * wanted.per_page
        async with backend_of(request).connection() as conn:
            total = await inspect.count_tasks(conn, filtered)
            if offset < total:
                tasks = await inspect.list_tasks(
                    conn, filtered, limit=wanted.per_page, offset=offset
                )
    return answer(task_list(tasks, page=wanted.page, per_page=wanted.per_page, total=total))


@router.get(
    "/v1/tasks/{task_uuid}",
    operation_id="getTask",
    responses={200: {"model": TaskResponse}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def get_task(
    request: Request,
    task_uuid: UUID,
    include_steps: Annotated[bool, Query(description="false: only the counters.")] = True,
) -> Response:
    """Read a task, with where its steps stand."""
    async with backend_of(request).connection() as conn:
        # the task first: who sees it ended then sees its steps ended
        task = await inspect.get_task(conn, task_uuid)
        steps = (
            await inspect.list_steps(conn, task_uuid, with_results=False) if include_steps else []
        )
    return answer(task_response(task, steps))


@router.delete(
    "/v1/tasks/{task_uuid}",
    operation_id="deleteTask",
    responses={200: {"model": TaskResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("CancelRequest", required=False),
    tags=["tasks"],
)
async def delete(
    request: Request, task_uuid: UUID, reason: Annotated[Word, Query(max_length=500)] = None
) -> Response:
    """Cancel a task, which is then kept; to cancel it twice is no error."""
    body = await read_request(request, _CANCEL_REQUEST, optional=True)
    return await _cancel(request, task_uuid, body.reason or reason)


@router.post(
    "/v1/tasks/{task_uuid}/cancel",
    operation_id="cancelTask",
    responses={200: {"model": TaskResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("CancelRequest", required=False),
    tags=["tasks"],
)
async def cancel(request: Request, task_uuid: UUID) -> Response:
    """Cancel a task; to cancel it twice is no error."""
    body = await read_request(request, _CANCEL_REQUEST, optional=True)
    return await _cancel(request, task_uuid, body.reason)


@router.get(
    "/v1/tasks/{task_uuid}/transitions",
    operation_id="listTaskTransitions",
    responses={200: {"model": list[TransitionResponse]}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def list_transitions(request: Request, task_uuid: UUID) -> Response:
    """List every change of state of a task and its steps, the oldest first."""
    async with backend_of(request).connection() as conn:
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
        moves = await inspect.list_transitions(conn, task_uuid)
    names = {step.step_no: step.name for step in steps}
    return answer_list(
        _TRANSITIONS, [transition_response(task_uuid, move, names) for move in moves]
    )


@router.get(
    "/v1/tasks/{task_uuid}/why",
    operation_id="explainTask",
    responses={200: {"model": list[StepCause]}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def explain(request: Request, task_uuid: UUID) -> Response:
    """Say of each step that is neither running nor done why it is not."""
    backend = backend_of(request)
    async with backend.connection() as conn:
        causes = await why(conn, backend.shelf, task_uuid)
    return answer_list(_CAUSES, [cause_response(task_uuid, cause) for cause in causes])


# --- helpers ----------------------------------------------------------------------------


async def _cancel(request: Request, task_uuid: UUID, reason: str | None) -> Response:
    async with backend_of(request).connection() as conn:
        try:
            await operate.cancel_task(
                conn, task_uuid, actor=caller(request), reason=reason or CANCEL_REASON
            )
        except TransitionRefused as refusal:
            if refusal.state != TaskState.CANCELLED:
                raise
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
    return answer(task_response(task, steps))
