"""/v1/tasks/{task_uuid}/…: a task from one side or the other; nothing here changes it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import dlq, inspect
from tasker_core.engine.why import why
from tasker_core.server.backend import backend_of, path_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.picture import dot, graph_of, mermaid
from tasker_core.server.render import cause_response, transition_response
from tasker_core.server.render_views import audit, context, summary
from tasker_core.server.routes import answer, answer_list
from tasker_core.server.routes import router as new_router
from tasker_core.states import DlqStatus
from tasker_core.wire.graph import TaskAudit, TaskContextResponse, TaskGraph, TaskSummary
from tasker_core.wire.steps import TransitionResponse
from tasker_core.wire.tasks import StepCause

router = new_router()

_TRANSITIONS = TypeAdapter(list[TransitionResponse])
_CAUSES = TypeAdapter(list[StepCause])
_AUDIT = TypeAdapter(list[TaskAudit])

MERMAID_TYPE, DOT_TYPE = "text/vnd.mermaid", "text/vnd.graphviz"


@router.get(
    "/v1/tasks/{task_uuid}/summary",
    operation_id="getTaskSummary",
    responses={200: {"model": TaskSummary}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def get_summary(request: Request, task_uuid: UUID) -> Response:
    """Read everything that a page about one task shows."""
    backend = backend_of(request)
    async with backend.connection() as conn:
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
        registered = await backend.shelf.get(conn, task.template_uuid)
        pending = dlq.DlqFilter(status=DlqStatus.PENDING, task_uuid=task_uuid)
        entries = await dlq.list_entries(conn, pending, limit=1)
    entry = entries[0] if entries else None
    base = path_of(request, "/v1")
    return answer(summary(task, registered.template, steps, entry, base))


@router.get(
    "/v1/tasks/{task_uuid}/graph",
    operation_id="getTaskGraph",
    responses={
        200: {
            "model": TaskGraph,
            "content": {
                MERMAID_TYPE: {"schema": {"type": "string"}},
                DOT_TYPE: {"schema": {"type": "string"}},
            },
        },
        **problems_of(400, 404, 503),
    },
    tags=["tasks"],
)
async def get_graph(
    request: Request,
    task_uuid: UUID,
    format: Annotated[
        Literal["json", "mermaid", "dot"] | None,
        Query(description="Left out: what the header Accept asks for, else json."),
    ] = None,
) -> Response:
    """Draw the steps that exist by now, as JSON, for Mermaid or for Graphviz."""
    async with backend_of(request).connection() as conn:
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
    accepted = request.headers.get("Accept", "")
    if format == "mermaid" or (format is None and MERMAID_TYPE in accepted):
        return Response(mermaid(steps), media_type=MERMAID_TYPE)
    if format == "dot" or (format is None and DOT_TYPE in accepted):
        return Response(dot(task, steps), media_type=DOT_TYPE)
    return answer(graph_of(task, steps))


@router.get(
    "/v1/tasks/{task_uuid}/audit",
    operation_id="listTaskAudit",
    responses={200: {"model": list[TaskAudit]}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def list_audit(request: Request, task_uuid: UUID) -> Response:
    """List what happened to a task and its steps, and who did it, the newest first."""
    async with backend_of(request).connection() as conn:
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
        attempts = await inspect.list_attempts(conn, task_uuid)
        moves = await inspect.list_transitions(conn, task_uuid)
    names = {step.step_no: step.name for step in steps}
    return answer_list(_AUDIT, audit(task, attempts, moves, names), exclude_none=True)


@router.get(
    "/v1/tasks/{task_uuid}/context",
    operation_id="getTaskContext",
    responses={200: {"model": TaskContextResponse}, **problems_of(400, 404, 503)},
    tags=["tasks"],
)
async def get_context(request: Request, task_uuid: UUID) -> Response:
    """Read what a task was asked with, and what its steps have returned."""
    async with backend_of(request).connection() as conn:
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid)
    return answer(context(task, steps))


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
