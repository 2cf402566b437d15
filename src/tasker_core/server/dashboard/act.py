"""Forms → what an operator may do with a task or a step, as the API does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.errors import UnknownTask
from tasker_core.server.auth import caller_of
from tasker_core.server.body import read_bytes
from tasker_core.server.dashboard.pages import asking, go_to, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.problems import Refusal
from tasker_core.server.routes import actions, dlq, steps

router = new_router()

FORM = "application/x-www-form-urlencoded"
NOBODY = "dashboard"  # acts where nobody is asked, and nobody says


@router.post("/tasks/{task_uuid}/cancel")
async def cancel(request: Request, task_uuid: UUID) -> Response:
    """Cancel a task."""
    return await _act_on_task(request, task_uuid, "cancel")


@router.post("/tasks/{task_uuid}/retry")
async def retry(request: Request, task_uuid: UUID) -> Response:
    """Run every failed step of a task again."""
    return await _act_on_task(request, task_uuid, "reset")


@router.post("/tasks/{task_uuid}/resolve")
async def resolve(request: Request, task_uuid: UUID) -> Response:
    """Declare a task settled as a whole."""
    return await _act_on_task(request, task_uuid, "resolve")


@router.post("/tasks/{task_uuid}/dlq")
async def put_aside(request: Request, task_uuid: UUID) -> Response:
    """Put a task aside for a person."""
    form = await read_form(request)
    asked = {
        "task_uuid": str(task_uuid),
        "reason": form.get("reason"),
        "entered_by": who(request, form),
    }
    entry = said(await dlq.create(asking(request, asked)))
    return go_to(request, f"dlq/{entry['dlq_entry_uuid']}")


@router.post("/tasks/{task_uuid}/steps/{step_uuid}")
async def act_on_step(request: Request, task_uuid: UUID, step_uuid: UUID) -> Response:
    """Reset, resolve or complete a step."""
    form = await read_form(request)
    actor = who(request, form)
    asked: dict[str, Any] = {
        "action_type": form.get("action_type"),
        "reason": form.get("reason"),
        "reset_by": actor,
        "resolved_by": actor,
        "completed_by": actor,
        "drop_checkpoint": "drop_checkpoint" in form,
        "force": "force" in form,
    }
    if asked["action_type"] == "complete_manually":
        asked["completion_data"] = {"result": _result(form.get("result", ""))}
    await steps.change_step(asking(request, asked), task_uuid, step_uuid)
    return go_to(request, f"tasks/{task_uuid}/steps/{step_uuid}")


async def read_form(request: Request) -> Mapping[str, str]:
    """Read what a form has sent; an empty field is none.

    Raises:
        Refusal: It is no form, or too large.
    """
    if request.headers.get("Content-Type", "").split(";")[0].strip().lower() != FORM:
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", f"Content-Type must be {FORM}")
    try:
        return dict(parse_qsl((await read_bytes(request)).decode("ascii"), errors="strict"))
    except ValueError:
        raise Refusal(400, "BAD_REQUEST", "the form is not text in UTF-8") from None


def who(request: Request, form: Mapping[str, str]) -> str:
    """Say who acts: the caller; where nobody is asked, who the form says it is."""
    caller = caller_of(request)
    return form.get("actor", NOBODY) if caller.method == "none" else caller.name


async def _act_on_task(request: Request, task_uuid: UUID, action: str) -> Response:
    form = await read_form(request)
    asked = {
        "action": action,
        "task_uuids": [str(task_uuid)],
        "reason": form.get("reason"),
        "actor": who(request, form),
        "drop_checkpoints": "drop_checkpoints" in form,
    }
    (outcome,) = said(await actions.act(asking(request, asked)))["items"]
    if outcome["outcome"] == "not_found":
        raise UnknownTask(task_uuid)
    if outcome["outcome"] not in ("done", "unchanged"):
        raise Refusal(409, "CONFLICT", outcome["detail"])
    return go_to(request, f"tasks/{task_uuid}")


def _result(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refusal(422, "VALIDATION_ERROR", f"the result is not JSON: {error}") from None
