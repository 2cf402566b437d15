"""/tasks/{task_uuid}: one task, with everything that there is to know and to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import inspect
from tasker_core.errors import UnknownDlqEntry
from tasker_core.server.auth import may
from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard import graph, timeline
from tasker_core.server.dashboard.pages import page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.picture import graph_of
from tasker_core.server.render import task_response
from tasker_core.server.routes import dlq, events, views
from tasker_core.states import TASK_TERMINAL, StepState, TaskState

router = new_router()

MOST_STEPS = 500  # that a page lists
MOST_EVENTS = 200

RESET_FROM = (TaskState.BLOCKED_BY_FAILURES, TaskState.ERROR)


@router.get("/tasks/{task_uuid}")
async def show(request: Request, task_uuid: UUID) -> Response:
    """Show a task."""
    backend = backend_of(request)
    async with backend.connection() as conn:
        record = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
        attempts = await inspect.list_attempts(conn, task_uuid)
    summary = said(await views.get_summary(request, task_uuid))
    handlers = {step["name"]: step["handler"] for step in summary["template"]["steps"]}
    has_ended = record.state in TASK_TERMINAL
    is_failing = not has_ended and record.count(StepState.ERROR) > 0
    history = said(await views.list_audit(request, task_uuid))
    return page(
        request,
        "task.html",
        task=task_response(record, steps).model_dump(mode="json"),
        steps=summary["steps"][:MOST_STEPS],
        step_count=len(steps),
        handlers=handlers,
        causes=said(await views.explain(request, task_uuid)),
        history=history[:MOST_EVENTS],
        event_count=len(history),
        letters=await _letters(request, task_uuid),
        graph=graph.draw(graph_of(record, steps)),
        timeline=timeline.draw(record, steps, attempts, datetime.now(UTC)),
        has_ended=has_ended,
        can_cancel=not has_ended,
        can_retry=record.state in RESET_FROM or is_failing,
    )


@router.get("/tasks/{task_uuid}/events")
async def follow(request: Request, task_uuid: UUID) -> Response:
    """Tell what happens to the task, so that its page knows when to look again."""
    return await events.follow_task(
        request, task_uuid, last_event_id=request.headers.get("Last-Event-ID")
    )


async def _letters(request: Request, task_uuid: UUID) -> list[Mapping[str, Any]]:
    if not may(request, "dlq:read"):
        return []
    try:
        found: list[Mapping[str, Any]] = said(await dlq.get_entry(request, task_uuid, all=True))
    except UnknownDlqEntry:
        return []
    return found
