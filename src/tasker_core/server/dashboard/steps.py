"""/tasks/{task_uuid}/steps/{step_uuid}: one step, its attempts, and what may be done with it."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.server.dashboard.pages import page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.routes import steps, views
from tasker_core.states import STEP_TERMINAL, StepState

router = new_router()


@router.get("/tasks/{task_uuid}/steps/{step_uuid}")
async def show(request: Request, task_uuid: UUID, step_uuid: UUID) -> Response:
    """Show a step with its result, and all that happened to it."""
    step = said(await steps.get_step(request, task_uuid, step_uuid))
    summary = said(await views.get_summary(request, task_uuid))
    (own,) = [one for one in summary["steps"] if one["step_uuid"] == step["step_uuid"]]
    causes = said(await views.explain(request, task_uuid))
    state = StepState(step["current_state"])
    return page(
        request,
        "step.html",
        task=summary["task"],
        step=step,
        parents=[one for one in summary["steps"] if one["name"] in own["dependencies"]],
        children=[one for one in summary["steps"] if step["name"] in one["dependencies"]],
        handlers={one["name"]: one["handler"] for one in summary["template"]["steps"]},
        causes=[one for one in causes if one["step_uuid"] == step["step_uuid"]],
        history=said(await steps.list_audit(request, task_uuid, step_uuid)),
        can_reset=state is StepState.ERROR,
        can_settle=state not in STEP_TERMINAL,
        is_running=state is StepState.IN_PROGRESS,
    )
