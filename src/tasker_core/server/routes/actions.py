"""/v1/tasks/actions: the same action on many tasks."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.operate_many import ActedOn, TaskSelection, act_on_tasks, select_tasks
from tasker_core.server.auth import actor, check_permission, namespaces_of
from tasker_core.server.backend import backend_of
from tasker_core.server.body import read_request
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.actions import TaskActionOutcome, TaskActionsRequest, TaskActionsResponse

router = new_router()

NEEDED = {"cancel": "tasks:cancel", "resolve": "steps:resolve", "reset": "steps:resolve"}

_REQUEST: TypeAdapter[TaskActionsRequest] = TypeAdapter(TaskActionsRequest)


@router.post(
    "/v1/tasks/actions",
    operation_id="actOnTasks",
    responses={200: {"model": TaskActionsResponse}, **problems_of(400, 413, 415, 422, 503)},
    openapi_extra=body_of("TaskActionsRequest"),
    tags=["tasks"],
)
async def act(request: Request) -> Response:
    """Cancel, resolve or reset many tasks, each for itself; or say what would become of them."""
    asked = await read_request(request, _REQUEST)
    check_permission(request, NEEDED[asked.action])
    limited = namespaces_of(request)
    wanted = _selection(asked, limited)
    next_cursor: UUID | None = None
    async with backend_of(request).connection() as conn:
        if asked.task_uuids is None:
            assert wanted is not None
            found = await select_tasks(
                conn, asked.action, wanted, after=asked.cursor, limit=asked.limit
            )
            next_cursor = found[-1] if len(found) == asked.limit else None
        else:
            found = asked.task_uuids
        acted = await act_on_tasks(
            conn,
            asked.action,
            found,
            actor=actor(request, asked.actor),
            reason=asked.reason,
            wanted=wanted,
            namespaces=limited,
            drop_checkpoints=asked.drop_checkpoints,
            dry_run=asked.dry_run,
        )
    return answer(
        TaskActionsResponse(
            action=asked.action,
            dry_run=asked.dry_run,
            items=[_outcome(one) for one in acted],
            counts=Counter(one.outcome for one in acted),
            next_cursor=next_cursor,
        )
    )


def _selection(asked: TaskActionsRequest, limited: list[str] | None) -> TaskSelection | None:
    where = asked.where
    if where is None:
        return None
    return TaskSelection(
        states=where.status,
        namespace=where.namespace,
        name=where.name,
        version=where.version,
        failed_step=where.failed_step,
        error_type=where.error_type,
        created_after=where.created_after,
        created_before=where.created_before,
        namespaces=limited,
    )


def _outcome(one: ActedOn) -> TaskActionOutcome:
    return TaskActionOutcome(
        task_uuid=one.task_uuid,
        outcome=one.outcome,
        status=one.state,
        detail=one.detail,
        namespace=one.namespace,
        name=one.name,
        version=one.version,
    )
