"""/v1/tasks/{task_uuid}/workflow_steps: read steps, and act on them."""

from __future__ import annotations

from uuid import UUID

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.db.connect import Connection
from tasker_core.engine import inspect, operate
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import NotStorable
from tasker_core.payload import encode
from tasker_core.server.auth import actor
from tasker_core.server.backend import backend_of
from tasker_core.server.body import read_request
from tasker_core.server.openapi import problems_of, step_action_body
from tasker_core.server.render import is_completed_by_hand, step_audit, step_response
from tasker_core.server.routes import answer, answer_list
from tasker_core.server.routes import router as new_router
from tasker_core.wire.steps import (
    CompleteManually,
    CompletionData,
    ResetForRetry,
    ResolveManually,
    StepAction,
    StepAudit,
    StepResponse,
)

router = new_router()

_STEPS = TypeAdapter(list[StepResponse])
_AUDIT = TypeAdapter(list[StepAudit])
_ACTION: TypeAdapter[ResetForRetry | ResolveManually | CompleteManually] = TypeAdapter(StepAction)


@router.get(
    "/v1/tasks/{task_uuid}/workflow_steps",
    operation_id="listTaskSteps",
    responses={200: {"model": list[StepResponse]}, **problems_of(400, 404, 503)},
    tags=["workflow_steps"],
)
async def list_steps(request: Request, task_uuid: UUID) -> Response:
    """List the steps of a task with their results, parents before children."""
    async with backend_of(request).connection() as conn:
        steps = await inspect.list_steps(conn, task_uuid)
        moves = []
        if any(is_completed_by_hand(step) for step in steps):
            moves = await inspect.list_transitions(conn, task_uuid)
    return answer_list(_STEPS, [step_response(step, moves) for step in steps])


@router.get(
    "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
    operation_id="getStep",
    responses={200: {"model": StepResponse}, **problems_of(400, 404, 503)},
    tags=["workflow_steps"],
)
async def get_step(request: Request, task_uuid: UUID, step_uuid: UUID) -> Response:
    """Read one step with its result."""
    async with backend_of(request).connection() as conn:
        return answer(await _read(conn, task_uuid, step_uuid))


@router.patch(
    "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
    operation_id="changeStep",
    responses={200: {"model": StepResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=step_action_body(),
    tags=["workflow_steps"],
)
async def change_step(request: Request, task_uuid: UUID, step_uuid: UUID) -> Response:
    """Reset, resolve or complete a step by hand."""
    action = await read_request(request, _ACTION, tagged=True)
    if isinstance(action, CompleteManually):
        _check_storable(action.completion_data)
    backend = backend_of(request)
    async with backend.connection() as conn:
        await _act(request, conn, backend.shelf, task_uuid, step_uuid, action)
        return answer(await _read(conn, task_uuid, step_uuid))


@router.get(
    "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit",
    operation_id="listStepAudit",
    responses={200: {"model": list[StepAudit]}, **problems_of(400, 404, 503)},
    tags=["workflow_steps"],
)
async def list_audit(request: Request, task_uuid: UUID, step_uuid: UUID) -> Response:
    """List what happened to a step, the newest first."""
    step_no = operate.step_no_of(task_uuid, step_uuid)
    async with backend_of(request).connection() as conn:
        step = await inspect.get_step(conn, task_uuid, step_no)
        attempts = await inspect.list_attempts(conn, task_uuid, step_no)
        moves = await inspect.list_transitions(conn, task_uuid, step_no)
    return answer_list(_AUDIT, step_audit(step, attempts, moves), exclude_none=True)


# --- helpers ----------------------------------------------------------------------------


async def _read(conn: Connection, task_uuid: UUID, step_uuid: UUID) -> StepResponse:
    step_no = operate.step_no_of(task_uuid, step_uuid)
    step = await inspect.get_step(conn, task_uuid, step_no)
    if not is_completed_by_hand(step):
        return step_response(step)
    return step_response(step, await inspect.list_transitions(conn, task_uuid, step_no))


async def _act(
    request: Request,
    conn: Connection,
    shelf: TemplateShelf,
    task_uuid: UUID,
    step_uuid: UUID,
    action: ResetForRetry | ResolveManually | CompleteManually,
) -> None:
    if isinstance(action, ResetForRetry):
        await operate.reset_step(
            conn,
            task_uuid,
            step_uuid,
            actor=actor(request, action.reset_by),
            reason=action.reason,
            drop_checkpoint=action.drop_checkpoint,
        )
    elif isinstance(action, ResolveManually):
        await operate.resolve_step(
            conn,
            task_uuid,
            step_uuid,
            actor=actor(request, action.resolved_by),
            reason=action.reason,
            force=action.force,
        )
    else:
        await operate.complete_step(
            conn,
            shelf,
            task_uuid,
            step_uuid,
            result=action.completion_data.result,
            metadata=action.completion_data.metadata,
            actor=actor(request, action.completed_by),
            reason=action.reason,
            force=action.force,
        )


def _check_storable(given: CompletionData) -> None:
    """Refuse what cannot be stored, with the place where it stands in the body."""
    for name, value in (("result", given.result), ("metadata", given.metadata)):
        try:
            encode(value)
        except NotStorable as error:
            raise NotStorable(f"/completion_data/{name}{error.pointer}", error.reason) from None
