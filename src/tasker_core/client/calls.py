"""What each function of the clients asks for, and how the answer is read.

A call is a value. Both clients send it, one with `await`; nothing here talks to anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID

import orjson

from tasker_core.client.answers import (
    BulkCreateResponse,
    HealthResponse,
    StepAuditResponse,
    StepCause,
    StepResponse,
    TaskActionsResponse,
    TaskListResponse,
    TaskResponse,
    WhoamiResponse,
)
from tasker_core.client.errors import TaskerClientError, error_for

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_TASK_STATES_ENDED = frozenset({"complete", "error", "cancelled", "resolved_manually"})

LONGEST_REST_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 25  # that the server waits for a task

_KEY_HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the way to read its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] | None = None
    body: Any = None
    accepts: tuple[int, ...] = ()  # statuses from 400 that are answers, not errors
    headers: Mapping[str, str] | None = None
    is_text: bool = False  # the answer is no JSON

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in ("GET", "DELETE") or _KEY_HEADER in (self.headers or ())


def read_answer(call: Call[T], status: int, content: bytes, content_type: str) -> T:
    """Read the answer to a call.

    Raises:
        TaskerClientError: The server refused it, or it is not an answer of Tasker's.
    """
    if call.is_text and status < 400:
        return call.read(content.decode())
    try:
        document = orjson.loads(content)
    except ValueError:
        raise TaskerClientError(
            f"{call.method} {call.path} was answered with {status} and "
            f"{content_type or 'no content type'}, not with JSON; is this a Tasker server?",
            status_code=status,
            recoverable=status >= 500,
            details={"body": content[:500].decode("utf-8", "replace")},
        ) from None
    if status >= 400 and status not in call.accepts:
        raise error_for(status, document if isinstance(document, dict) else {"body": document})
    return call.read(document)


def stream_error(call: Call[Any], response: httpx.Response) -> TaskerClientError:
    """Say why a stream was not opened."""
    content_type = response.headers.get("Content-Type", "")
    try:
        read_answer(call, response.status_code, response.content, content_type)
    except TaskerClientError as error:
        return error
    return TaskerClientError(
        f"GET {call.path} was answered with {response.status_code}, not with a stream",
        status_code=response.status_code,
    )


def may_repeat(call: Call[T], status: int) -> bool:
    """Say whether the same call may do better in a moment."""
    return call.repeatable and status in (429, 502, 503, 504) and status not in call.accepts


def rest_before(retry: int, asked_for: str | None) -> float:
    """Say how long to rest before a retry, counted from 1, in seconds.

    Half a second, doubled each time, drawn between nothing and that; or what the
    server asked for in Retry-After. At most 30 seconds.
    """
    if asked_for is not None and asked_for.isdigit():
        return min(float(asked_for), LONGEST_REST_SECONDS)
    return random.uniform(0, min(0.25 * 2.0 ** min(retry, 10), LONGEST_REST_SECONDS))


def has_ended(task: TaskResponse) -> bool:
    """Say whether nothing more will happen to a task by itself."""
    return task.status in _TASK_STATES_ENDED


# --- the calls --------------------------------------------------------------------------


def create_task(
    name: str,
    *,
    namespace: str,
    context: Mapping[str, Any] | None,
    version: str | None,
    initiator: str,
    source_system: str,
    reason: str,
    wait: int | None,
    or_get: bool,
    more: Mapping[str, Any],
) -> Call[TaskResponse]:
    headers = {} if wait is None else {"Prefer": f"wait={wait}"}
    if or_get:
        key = more.get("idempotency_key")
        if not key:
            raise ValueError("or_get needs an idempotency_key: which task is it to get?")
        headers[_KEY_HEADER] = str(key)
    body = {
        "name": name,
        "namespace": namespace,
        "version": version,
        "context": dict(context or {}),
        "initiator": initiator,
        "source_system": source_system,
        "reason": reason,
        **more,
    }
    return Call("POST", "/v1/tasks", TaskResponse.from_dict, body=body, headers=headers)


def create_tasks(
    tasks: Iterable[Mapping[str, Any]], atomic: bool, initiator: str, source_system: str
) -> Call[BulkCreateResponse]:
    said = {"initiator": initiator, "source_system": source_system}
    body = {"tasks": [{**said, **task} for task in tasks], "atomic": atomic}
    return Call("POST", "/v1/tasks/bulk", BulkCreateResponse.from_dict, body=body)


def await_task(task_uuid: UUID | str, seconds: int) -> Call[TaskResponse]:
    return Call(
        "GET",
        task_path(task_uuid),
        TaskResponse.from_dict,
        query={"include_results": "true"},
        headers={"Prefer": f"wait={seconds}"},
    )


def retry_task(
    task_uuid: UUID | str, reason: str, actor: str, drop_checkpoints: bool
) -> Call[TaskResponse]:
    body = {"reason": reason, "actor": actor, "drop_checkpoints": drop_checkpoints}
    return Call("POST", f"{task_path(task_uuid)}/retry", TaskResponse.from_dict, body=body)


def get_task_view(task_uuid: UUID | str, view: str) -> Call[dict[str, Any]]:
    return Call("GET", f"{task_path(task_uuid)}/{view}", dict)


def get_task_audit(task_uuid: UUID | str) -> Call[list[dict[str, Any]]]:
    return Call("GET", f"{task_path(task_uuid)}/audit", list)


def draw_task(task_uuid: UUID | str, format: str) -> Call[str]:
    return Call("GET", f"{task_path(task_uuid)}/graph", str, query={"format": format}, is_text=True)


def list_workers() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/workers", dict)


def get_task(task_uuid: UUID | str, *, include_steps: bool = True) -> Call[TaskResponse]:
    query = None if include_steps else {"include_steps": "false"}
    return Call("GET", task_path(task_uuid), TaskResponse.from_dict, query=query)


def list_tasks(limit: int, offset: int, filters: Mapping[str, Any]) -> Call[TaskListResponse]:
    if limit < 1 or offset < 0:
        raise ValueError(f"limit must be at least 1 and offset at least 0, not {limit}, {offset}")
    query = {"page": offset // limit + 1, "per_page": limit, **_filters(filters)}
    return Call("GET", "/v1/tasks", TaskListResponse.from_dict, query=query)


def page_of_tasks(
    limit: int, cursor: str | None, filters: Mapping[str, Any]
) -> Call[TaskListResponse]:
    query = {"limit": limit, **_given(cursor=cursor), **_filters(filters)}
    return Call("GET", "/v1/tasks", TaskListResponse.from_dict, query=query)


def cancel_task(task_uuid: UUID | str, reason: str | None) -> Call[dict[str, bool]]:
    query = None if reason is None else {"reason": reason}
    return Call("DELETE", task_path(task_uuid), lambda _: {"cancelled": True}, query=query)


def act_on_tasks(
    action: str,
    *,
    task_uuids: Iterable[UUID | str] | None,
    where: Mapping[str, Any] | None,
    reason: str,
    actor: str,
    drop_checkpoints: bool,
    dry_run: bool,
    limit: int,
    cursor: UUID | str | None,
) -> Call[TaskActionsResponse]:
    body: dict[str, Any] = {
        "action": action,
        "reason": reason,
        "actor": actor,
        "drop_checkpoints": drop_checkpoints,
        "dry_run": dry_run,
        "limit": limit,
    }
    if task_uuids is not None:
        body["task_uuids"] = [str(_uuid("task_uuids", one)) for one in task_uuids]
    if where is not None:
        body["where"] = dict(where)
    if cursor is not None:
        body["cursor"] = str(_uuid("cursor", cursor))
    return Call("POST", "/v1/tasks/actions", TaskActionsResponse.from_dict, body=body)


def list_task_steps(task_uuid: UUID | str) -> Call[list[StepResponse]]:
    return Call("GET", f"{task_path(task_uuid)}/workflow_steps", _each(StepResponse.from_dict))


def list_task_transitions(task_uuid: UUID | str) -> Call[list[dict[str, Any]]]:
    return Call("GET", f"{task_path(task_uuid)}/transitions", list)


def explain_task(task_uuid: UUID | str) -> Call[list[StepCause]]:
    return Call("GET", f"{task_path(task_uuid)}/why", _each(StepCause.from_dict))


def get_step(task_uuid: UUID | str, step_uuid: UUID | str) -> Call[StepResponse]:
    return Call("GET", _step(task_uuid, step_uuid), StepResponse.from_dict)


def get_step_audit_history(
    task_uuid: UUID | str, step_uuid: UUID | str
) -> Call[list[StepAuditResponse]]:
    path = f"{_step(task_uuid, step_uuid)}/audit"
    return Call("GET", path, _each(StepAuditResponse.from_dict))


def change_step(
    task_uuid: UUID | str, step_uuid: UUID | str, action: Mapping[str, Any]
) -> Call[StepResponse]:
    return Call("PATCH", _step(task_uuid, step_uuid), StepResponse.from_dict, body=dict(action))


def list_templates(namespace: str | None) -> Call[dict[str, Any]]:
    query = None if namespace is None else {"namespace": namespace}
    return Call("GET", "/v1/templates", dict, query=query)


def get_template(namespace: str, name: str, version: str) -> Call[dict[str, Any]]:
    path = "/".join(quote(part, safe="") for part in (namespace, name, version))
    return Call("GET", f"/v1/templates/{path}", dict)


def get_performance_metrics(hours: int, namespace: str | None) -> Call[dict[str, Any]]:
    query = _given(hours=hours, namespace=namespace)
    return Call("GET", "/v1/analytics/performance", dict, query=query)


def get_bottlenecks(
    limit: int, min_executions: int, hours: int, namespace: str | None
) -> Call[dict[str, Any]]:
    query = _given(limit=limit, min_executions=min_executions, hours=hours, namespace=namespace)
    return Call("GET", "/v1/analytics/bottlenecks", dict, query=query)


def list_dlq_entries(
    limit: int, offset: int, filters: Mapping[str, Any]
) -> Call[list[dict[str, Any]]]:
    query = _given(limit=limit, offset=offset, **filters)
    return Call("GET", "/v1/dlq", list, query=query)


def get_dlq_entry(task_uuid: UUID | str) -> Call[dict[str, Any]]:
    return Call("GET", f"/v1/dlq/task/{_uuid('task_uuid', task_uuid)}", dict)


def create_dlq_entry(
    task_uuid: UUID | str, reason: str, actor: str, metadata: Mapping[str, Any] | None
) -> Call[dict[str, Any]]:
    body = {
        "task_uuid": str(_uuid("task_uuid", task_uuid)),
        "reason": reason,
        "entered_by": actor,
        "metadata": metadata,
    }
    return Call("POST", "/v1/dlq", dict, body=body)


def update_dlq_investigation(
    dlq_entry_uuid: UUID | str,
    *,
    resolution_status: str | None,
    resolution_notes: str | None,
    resolved_by: str | None,
    metadata: Mapping[str, Any] | None,
    reopen: bool,
    initiator: str,
) -> Call[dict[str, Any]]:
    changes = {
        "resolution_status": resolution_status,
        "resolution_notes": resolution_notes,
        "resolved_by": resolved_by or (initiator if resolution_status else None),
        "metadata": metadata,
        "reopen": reopen or None,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    path = f"/v1/dlq/entry/{_uuid('dlq_entry_uuid', dlq_entry_uuid)}"
    return Call("PATCH", path, dict, body=given)


def get_dlq_stats() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/dlq/stats", list)


def get_investigation_queue(limit: int) -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/dlq/investigation-queue", list, query={"limit": limit})


def get_staleness_monitoring(limit: int) -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/dlq/staleness", list, query={"limit": limit})


def health_check() -> Call[HealthResponse]:
    return Call("GET", "/health", _health)


def whoami() -> Call[WhoamiResponse]:
    return Call("GET", "/v1/whoami", WhoamiResponse.from_dict)


def readiness() -> Call[dict[str, Any]]:
    return Call("GET", "/health/ready", dict, accepts=(503,))


def reset_action(reason: str, actor: str, drop_checkpoint: bool) -> dict[str, Any]:
    return {
        "action_type": "reset_for_retry",
        "reason": reason,
        "reset_by": actor,
        "drop_checkpoint": drop_checkpoint,
    }


def resolve_action(reason: str, actor: str, force: bool) -> dict[str, Any]:
    return {
        "action_type": "resolve_manually",
        "reason": reason,
        "resolved_by": actor,
        "force": force,
    }


def complete_action(
    result: Any, metadata: Any, reason: str, actor: str, force: bool
) -> dict[str, Any]:
    return {
        "action_type": "complete_manually",
        "completion_data": {"result": result, "metadata": metadata},
        "reason": reason,
        "completed_by": actor,
        "force": force,
    }


# --- helpers ------------------------------------------------------------------------------


def _health(document: Mapping[str, Any]) -> HealthResponse:
    status = str(document.get("status", ""))
    return HealthResponse(status == "healthy", status, str(document.get("timestamp", "")))


def _each(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda documents: [read(document) for document in documents]


def _filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    for key, value in filters.items():
        if isinstance(value, bool):
            query[key] = "true" if value else "false"
        elif isinstance(value, list | tuple):
            query[key] = [str(one) for one in value]
        elif isinstance(value, Mapping):
            query[key] = orjson.dumps(value).decode()
        elif isinstance(value, datetime):
            query[key] = value.isoformat()
        elif value is not None:
            query[key] = str(value)
    return query


def _given(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def task_path(task_uuid: UUID | str) -> str:
    return f"/v1/tasks/{_uuid('task_uuid', task_uuid)}"


def _step(task_uuid: UUID | str, step_uuid: UUID | str) -> str:
    return f"{task_path(task_uuid)}/workflow_steps/{_uuid('step_uuid', step_uuid)}"


def _uuid(what: str, value: UUID | str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{what} is {value!r}, but must be a UUID") from None
