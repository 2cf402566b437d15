"""StepService: the requests that its calls stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from grpc import StatusCode

from tasker_core.engine.operate import step_no_of
from tasker_core.errors import UnknownStep
from tasker_core.server.rpc.api import Api, Codes, part

Given = Mapping[str, Any]

# By the action, what the API calls whoever does it.
_BY = {
    "reset_for_retry": "reset_by",
    "resolve_manually": "resolved_by",
    "complete_manually": "completed_by",
}


async def get_step(api: Api, given: Given) -> Given:
    """Read one step."""
    return {"step": (await api.ask("GET", _path(given), codes=_codes(given))).document}


async def list_steps(api: Api, given: Given) -> Given:
    """List the steps of a task."""
    path = f"/v1/tasks/{part(given.get('task_uuid'))}/workflow_steps"
    return {"steps": (await api.ask("GET", path)).document}


async def get_step_audit(api: Api, given: Given) -> Given:
    """List what happened to a step."""
    reply = await api.ask("GET", f"{_path(given)}/audit", codes=_codes(given))
    return {"audit_records": reply.document}


async def resolve_step(api: Api, given: Given) -> Given:
    """Reset, resolve or complete a step by hand."""
    action = given.get("action_type")
    body = {name: given[name] for name in ("reason", "force", "drop_checkpoint") if name in given}
    if action is not None:
        body |= {"action_type": action, _BY[action]: given.get("performed_by")}
    if "result" in given:
        body["completion_data"] = {name: given.get(name) for name in ("result", "metadata")}
    reply = await api.ask("PATCH", _path(given), body=body, codes=_codes(given))
    return {"step": reply.document}


UNARY = {
    "GetStep": get_step,
    "ListSteps": list_steps,
    "GetStepAudit": get_step_audit,
    "ResolveStep": resolve_step,
}


# --- helpers --------------------------------------------------------------------------


def _path(given: Given) -> str:
    task, step = part(given.get("task_uuid")), part(given.get("step_uuid"))
    return f"/v1/tasks/{task}/workflow_steps/{step}"


def _codes(given: Given) -> Codes:
    """A step of another task is a wrong argument; its id tells, whatever there is."""
    try:
        step_no_of(UUID(given["task_uuid"]), UUID(given["step_uuid"]))
    except UnknownStep:
        return {404: StatusCode.INVALID_ARGUMENT}
    except (KeyError, ValueError):  # no ids at all, which is told by itself
        pass
    return {}
