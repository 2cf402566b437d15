"""TaskService: the requests that its calls stand for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from grpc import StatusCode

from tasker_core.server.rpc.api import Api, part
from tasker_core.server.rpc.status import Refused, refused

Given = Mapping[str, Any]

DEFAULT_LIMIT = 50

_RENAMED = {"name_prefix": "q", "tags": "tag"}
_NEWS = {"task.state_changed", "task.finished", "step.state_changed"}
_ENDED = {  # why a stream ends that has not told the end of the task
    "draining": (503, "SERVICE_UNAVAILABLE", "the server stops; go on with `since`, elsewhere"),
    "expired": (401, "AUTHENTICATION_FAILED", "the credential has expired"),
    "too_slow": (429, "RATE_LIMITED", "the reader fell behind; go on with `since`"),
}


async def create_task(api: Api, given: Given) -> Given:
    """Begin a task."""
    codes = {404: StatusCode.INVALID_ARGUMENT, 409: StatusCode.ALREADY_EXISTS}
    reply = await api.ask("POST", "/v1/tasks", body=given, codes=codes)
    return {"task": reply.document, "replayed": "idempotent-replayed" in reply.headers}


async def get_task(api: Api, given: Given) -> Given:
    """Read a task, and what is asked for besides."""
    with_steps = given.get("include_steps", False)
    reply = await api.ask("GET", _path(given), query={"include_steps": with_steps})
    answer = {"task": reply.document, "steps": reply.document["steps"]}
    if given.get("include_context"):
        answer |= await get_task_context(api, given)
    return answer


async def list_tasks(api: Api, given: Given) -> Given:
    """List a page of tasks."""
    wanted = dict(given)
    page = wanted.pop("pagination", {})
    offset = page.get("offset", 0)
    query = {_RENAMED.get(name, name): value for name, value in wanted.items()}
    if states := query.pop("states", None):
        query["status"] = ",".join(states)
    query |= {"per_page": page.get("limit", DEFAULT_LIMIT), "offset": offset}
    found = (await api.ask("GET", "/v1/tasks", query=query)).document
    total = found["pagination"]["total_count"]
    count = len(found["tasks"])
    pagination = {
        "total": total,
        "count": count,
        "offset": offset,
        "has_more": found["pagination"]["has_next"],
    }
    return {"tasks": found["tasks"], "pagination": pagination}


async def cancel_task(api: Api, given: Given) -> Given:
    """Cancel a task; say why it is too late, if it is."""
    reason = given.get("reason")
    body = {} if reason is None else {"reason": reason}
    try:
        reply = await api.ask("POST", f"{_path(given)}/cancel", body=body)
    except Refused as refusal:
        if refusal.status != 409:
            raise
        shown = {"success": False, "message": refusal.problem["detail"]}
        try:
            return {**shown, "task": (await api.ask("GET", _path(given))).document}
        except Refused:  # who may cancel need not be allowed to read
            return shown
    return {"task": reply.document, "success": True}


async def get_task_context(api: Api, given: Given) -> Given:
    """Read what went in and what came out."""
    return {"context": (await api.ask("GET", f"{_path(given)}/context")).document}


async def get_task_summary(api: Api, given: Given) -> Given:
    """Read everything that a page about the task shows."""
    return {"summary": (await api.ask("GET", f"{_path(given)}/summary")).document}


async def stream_task_status(api: Api, given: Given) -> AsyncGenerator[Given]:
    """Tell how the task stands, and then what happens, until it has ended."""
    query = {"include_steps": given.get("include_steps", False), "since": given.get("since")}
    async for event in api.follow(f"{_path(given)}/events", query=query):
        if event["type"] == "stream.end":
            if (ended := _ENDED.get(event["data"]["cause"])) is not None:
                raise refused(*ended, retry_after_seconds=1)
            return
        if event["type"] == "task.snapshot" or event["type"] in _NEWS:
            yield _update(event)


UNARY = {
    "CreateTask": create_task,
    "GetTask": get_task,
    "ListTasks": list_tasks,
    "CancelTask": cancel_task,
    "GetTaskContext": get_task_context,
    "GetTaskSummary": get_task_summary,
}
STREAMS = {"StreamTaskStatus": stream_task_status}


# --- helpers --------------------------------------------------------------------------


def _path(given: Given) -> str:
    return f"/v1/tasks/{part(given.get('task_uuid'))}"


def _update(event: Given) -> Given:
    kind, data = event["type"], event["data"]
    update = {"update_type": kind, "timestamp": event["occurred_at"], "event_id": event["id"]}
    if kind == "task.snapshot":
        return {**update, "task_state": data["status"], "task": data, "steps": data["steps"]}
    if kind != "step.state_changed":
        return {**update, "task_state": data["to"], "error_message": data.get("reason")}
    step = {
        "step_uuid": data["step_uuid"],
        "name": data["step"],
        "from_state": data["from"],
        "to_state": data["to"],
        "attempt": data.get("attempt"),
        "action": data.get("action"),
        "actor": data.get("actor"),
    }
    error = data.get("error") or {}
    said = error.get("message") or data.get("reason")
    return {**update, "step_update": step, "error_message": said}
