"""/v1/tasks/{task_uuid}: read, cancel and retry a task."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Header, Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.db.connect import Connection
from tasker_core.engine import inspect, operate
from tasker_core.errors import TransitionRefused
from tasker_core.server.auth import actor
from tasker_core.server.backend import Backend, backend_of
from tasker_core.server.body import read_request
from tasker_core.server.conditional import has_current, json_of, tagged, wait_of
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.render import task_response
from tasker_core.server.routes import Reason, answer
from tasker_core.server.routes import router as new_router
from tasker_core.states import TaskState
from tasker_core.wire.tasks import CancelRequest, RetryRequest, TaskResponse

router = new_router()

_CANCEL_REQUEST: TypeAdapter[CancelRequest] = TypeAdapter(CancelRequest)
_RETRY_REQUEST: TypeAdapter[RetryRequest] = TypeAdapter(RetryRequest)

CANCEL_REASON = "Cancelled by request"

Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=10`: answer when the task has ended, or after 10 seconds.",
    ),
]
_IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="The ETag of the reply before.")
]


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
    _prefer: Prefer = None,
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
        shown = await look(backend, task_uuid, include_steps, include_results)
        if has_current(request, shown):
            await backend.live.wait_for_news(task_uuid, mark, wait)
    shown = await look(backend, task_uuid, include_steps, include_results)
    return tagged(request, json_of(shown), headers)


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


async def look(
    backend: Backend, task_uuid: UUID, with_steps: bool = True, with_results: bool = False
) -> TaskResponse:
    """Read a task as it is to be shown.

    Raises:
        UnknownTask: There is no such task.
    """
    async with backend.connection() as conn:
        return await _read(conn, task_uuid, with_steps=with_steps, with_results=with_results)


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
