"""POST /v1/tasks: begin a task."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.create import NewTask
from tasker_core.errors import DuplicateTask
from tasker_core.server.as_begun import as_begun
from tasker_core.server.backend import Backend, backend_of, path_of
from tasker_core.server.body import read_request
from tasker_core.server.conditional import json_of, tagged, wait_of
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.problems import LONGEST_KEY, LeanRoute
from tasker_core.server.requested import (
    KEY_HEADER,
    find_earlier,
    idempotency_key,
    new_task,
)
from tasker_core.server.routes.tasks import Prefer, look
from tasker_core.states import TASK_TERMINAL
from tasker_core.wire.tasks import TaskRequest, TaskResponse

router = APIRouter(default_response_class=Response, route_class=LeanRoute)

_TASK_REQUEST: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)

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
async def create(request: Request, _key: _Key = None, _prefer: Prefer = None) -> Response:
    """Begin a task from a template; with `Prefer: wait=10`, answer with how it ended."""
    asked = await read_request(request, _TASK_REQUEST)
    key = idempotency_key(request, asked)
    new = new_task(request, asked, key)
    backend = backend_of(request)
    await backend.pressure.refuse_if_full(asked.namespace)
    status = 201
    headers: dict[str, str] = {}
    try:
        created = await backend.creations.create(new)
        task_uuid, content = created.task_uuid, as_begun(created, new)
    except DuplicateTask:
        earlier = None if key is None else await _read_earlier(backend, new)
        if earlier is None:
            raise
        task_uuid, content = earlier.task_uuid, json_of(earlier)
        status = 200
        headers["Idempotent-Replayed"] = "true"
    wait = wait_of(request)
    if wait is not None:
        # without a connection: whoever waits holds nothing that others need
        shown = await _read_once_ended(backend, task_uuid, wait)
        content = json_of(shown)
        headers["Preference-Applied"] = f"wait={wait}"
        if shown.status not in TASK_TERMINAL:
            status = 202
    headers["Location"] = path_of(request, f"/v1/tasks/{task_uuid}")
    return tagged(request, content, headers, status)


# --- helpers ----------------------------------------------------------------------------


async def _read_earlier(backend: Backend, new: NewTask) -> TaskResponse | None:
    """Read the task that a request with the same key has created; None: it has left since."""
    async with backend.connection() as conn:
        earlier = await find_earlier(conn, backend.shelf, new)
    return None if earlier is None else await look(backend, earlier.task_uuid)


async def _read_once_ended(backend: Backend, task_uuid: UUID, seconds: int) -> TaskResponse:
    await backend.live.wait_until_settled(task_uuid, seconds)
    return await look(backend, task_uuid, with_results=True)
