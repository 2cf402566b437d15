"""/v1/tasks: create, read, cancel and retry a task."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Header, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.db.connect import Connection
from tasker_core.engine import inspect, operate
from tasker_core.engine.create import create_task
from tasker_core.errors import DuplicateTask, TransitionRefused
from tasker_core.server.auth import actor
from tasker_core.server.backend import Backend, backend_of, path_of
from tasker_core.server.body import read_request
from tasker_core.server.conditional import has_current, tagged, wait_of
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.render import task_response
from tasker_core.server.requested import (
    KEY_HEADER,
    LONGEST_KEY,
    find_earlier,
    idempotency_key,
    new_task,
)
from tasker_core.server.routes import Reason, answer
from tasker_core.server.routes import router as new_router
from tasker_core.states import TASK_TERMINAL, TaskState
from tasker_core.wire.tasks import CancelRequest, RetryRequest, TaskRequest, TaskResponse

router = new_router()

_TASK_REQUEST: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)
_CANCEL_REQUEST: TypeAdapter[CancelRequest] = TypeAdapter(CancelRequest)
_RETRY_REQUEST: TypeAdapter[RetryRequest] = TypeAdapter(RetryRequest)

CANCEL_REASON = "Cancelled by request"

_Key = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER,
        min_length=1,
        max_length=LONGEST_KEY,
        description="As idempotency_key of the body; a request that is sent again is answered "
        "with the task that exists.",
    ),
]
_Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=10`: answer when the task has ended, or after 10 seconds.",
    ),
]
_IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="The ETag of the reply before.")
]


@router.post(
    "/v1/tasks",
    operation_id="createTask",
    status_code=201,
    responses={
        201: {"model": TaskResponse},
        200: {"model": TaskResponse, "description": "The same request has created it before."},
        202: {"model": TaskResponse, "description": "Begun, and not ended in the time to wait."},
        **problems_of(400, 404, 409, 413, 415, 422, 503),
    },
    openapi_extra=body_of("TaskRequest"),
    tags=["tasks"],
)
async def create(request: Request, _key: _Key = None, _prefer: _Prefer = None) -> Response:
    """Begin a task from a template; with `Prefer: wait=10`, answer with how it ended."""
    asked = await read_request(request, _TASK_REQUEST)
    key = idempotency_key(request, asked)
    new = new_task(request, asked, key)
    backend = backend_of(request)
    status = 201
    headers: dict[str, str] = {}
    await backend.pressure.refuse_if_full(asked.namespace)
    async with backend.connection() as conn:
        try:
            created = await create_task(
                conn,
                backend.shelf,
                new,
                max_context_bytes=backend.settings.max_context_bytes,
            )
            task_uuid = created.task_uuid
        except DuplicateTask:
            earlier = None if key is None else await find_earlier(conn, backend.shelf, new)
            if earlier is None:
                raise
            task_uuid, status = earlier.task_uuid, 200
            headers["Idempotent-Replayed"] = "true"
        wait = wait_of(request)
        if wait is None:
            shown = await _read(conn, task_uuid)
    if wait is not None:
        # without a connection: whoever waits holds nothing that others need
        shown = await _read_once_ended(backend, task_uuid, wait)
        headers["Preference-Applied"] = f"wait={wait}"
        if shown.status not in TASK_TERMINAL:
            status = 202
    headers["Location"] = path_of(request, f"/v1/tasks/{task_uuid}")
    return tagged(request, shown, headers, status)


@router.get(
    "/v1/tasks/{task_uuid}",
    operation_id="getTask",
    responses={
        200: {"model": TaskResponse},
        304: {"description": "It is what If-None-Match names."},
        **problems_of(400, 404, 503),
    },
    tags=["tasks"],
)
async def get_task(
    request: Request,
    task_uuid: UUID,
    include_steps: Annotated[bool, Query(description="false: only the counters.")] = True,
    include_results: Annotated[
        bool, Query(description="Also what the steps returned after which none comes.")
    ] = False,
    _match: _IfNoneMatch = None,
    _prefer: _Prefer = None,
) -> Response:
    """Read a task, with where its steps stand; with `Prefer: wait=10`, once it has ended.

    With `If-None-Match` as well, as soon as it is another one than that.
    """
    backend = backend_of(request)
    wait = wait_of(request)
    headers = {} if wait is None else {"Preference-Applied": f"wait={wait}"}
    if wait is not None and "If-None-Match" not in request.headers:
        await backend.live.wait_until_settled(task_uuid, wait)
    elif wait is not None:
        mark = await backend.live.mark(task_uuid)
        shown = await _look(backend, task_uuid, include_steps, include_results)
        if has_current(request, shown):
            await backend.live.wait_for_news(task_uuid, mark, wait)
    shown = await _look(backend, task_uuid, include_steps, include_results)
    return tagged(request, shown, headers)


@router.delete(
    "/v1/tasks/{task_uuid}",
    operation_id="deleteTask",
    responses={200: {"model": TaskResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("CancelRequest", required=False),
    tags=["tasks"],
)
async def delete(
    request: Request, task_uuid: UUID, reason: Annotated[Reason, Query()] = None
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


@router.post(
    "/v1/tasks/{task_uuid}/retry",
    operation_id="retryTask",
    responses={200: {"model": TaskResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("RetryRequest"),
    tags=["tasks"],
)
async def retry(request: Request, task_uuid: UUID) -> Response:
    """Run every failed step of a task again, with all its attempts before it."""
    asked = await read_request(request, _RETRY_REQUEST)
    async with backend_of(request).connection() as conn:
        await operate.reset_task(
            conn,
            task_uuid,
            actor=actor(request, asked.actor),
            reason=asked.reason,
            drop_checkpoints=asked.drop_checkpoints,
        )
        return answer(await _read(conn, task_uuid))


# --- helpers ----------------------------------------------------------------------------


async def _read(
    conn: Connection, task_uuid: UUID, *, with_steps: bool = True, with_results: bool = False
) -> TaskResponse:
    # the task first: who sees it ended then sees its steps ended
    task = await inspect.get_task(conn, task_uuid)
    if not (with_steps or with_results):
        return task_response(task)
    steps = await inspect.list_steps(conn, task_uuid, with_results=with_results)
    shown = task_response(task, steps, with_results=with_results)
    return shown if with_steps else shown.model_copy(update={"steps": []})


async def _look(
    backend: Backend, task_uuid: UUID, with_steps: bool, with_results: bool
) -> TaskResponse:
    async with backend.connection() as conn:
        return await _read(conn, task_uuid, with_steps=with_steps, with_results=with_results)


async def _read_once_ended(backend: Backend, task_uuid: UUID, seconds: int) -> TaskResponse:
    await backend.live.wait_until_settled(task_uuid, seconds)
    return await _look(backend, task_uuid, True, True)


async def _cancel(request: Request, task_uuid: UUID, reason: str | None) -> Response:
    async with backend_of(request).connection() as conn:
        try:
            await operate.cancel_task(
                conn, task_uuid, actor=actor(request, None), reason=reason or CANCEL_REASON
            )
        except TransitionRefused as refusal:
            if refusal.state != TaskState.CANCELLED:
                raise
        return answer(await _read(conn, task_uuid))
