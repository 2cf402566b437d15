"""Find tasks by what they have in common.

An id tells when its task was created, so the order of the ids is that of time, and a page
begins where the last one ended however many tasks have come since. No other index serves a
search: what is asked for is looked for in one task after the other, along the ids, until the
page is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.inspect import TASKS, TaskRecord, task_of
from tasker_core.states import TaskState

TaskOrder = Literal["created_at", "-created_at", "priority", "-priority"]
ORDERS: tuple[TaskOrder, ...] = ("created_at", "-created_at", "priority", "-priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list. None and () mean any."""

    states: Sequence[TaskState] = ()
    namespace: str | None = None
    namespaces: Sequence[str] | None = None  # one of these; of no namespace if it is empty
    name: str | None = None
    name_prefix: str | None = None
    version: str | None = None
    initiator: str | None = None
    source_system: str | None = None
    correlation_id: UUID | None = None
    parent_correlation_id: UUID | None = None
    tags: Sequence[str] = ()  # all of them
    created_after: datetime | None = None
    created_before: datetime | None = None
    context: str | None = None  # JSON that the context contains, as `@>` of jsonb has it


class Place(NamedTuple):
    """Where in a list a task stands."""

    task_uuid: UUID
    priority: int


async def list_tasks(
    conn: Connection,
    wanted: TaskFilter,
    *,
    limit: int,
    offset: int = 0,
    order: TaskOrder = "-created_at",
    after: Place | None = None,
) -> list[TaskRecord]:
    """List tasks, the youngest first unless another order is asked for.

    Args:
        after: Where the page before ended.
    """
    conditions, arguments = _conditions(wanted)
    direction, is_past = ("desc", "<") if order.startswith("-") else ("asc", ">")
    key = "task.task_uuid"
    places: list[object] = [] if after is None else [after.task_uuid]
    if order.endswith("priority"):
        key = "task.priority, task.task_uuid"
        places = [] if after is None else [after.priority, after.task_uuid]
    if after is not None:
        marks = ", ".join(f"${len(arguments) + n}" for n in range(1, len(places) + 1))
        conditions.append(f"({key}) {is_past} ({marks})")
        arguments += places
    by = ", ".join(f"{column} {direction}" for column in key.split(", "))
    rows = await conn.fetch(
        f"{TASKS} where task.task_uuid in (select task.task_uuid from {_FROM} "
        f"where {' and '.join(conditions)} order by {by} "
        f"limit ${len(arguments) + 1} offset ${len(arguments) + 2}) order by {by}",
        *arguments,
        limit,
        offset,
    )
    return [task_of(row) for row in rows]


async def count_tasks(conn: Connection, wanted: TaskFilter) -> int:
    """Count the tasks that `list_tasks` would list."""
    conditions, arguments = _conditions(wanted)
    total: int = await conn.fetchval(
        f"select count(*) from {_FROM} where {' and '.join(conditions)}", *arguments
    )
    return total


async def find_identity(conn: Connection, namespace: str, identity: bytes) -> UUID | None:
    """Find the task with this identity."""
    found: UUID | None = await conn.fetchval(
        "select task_uuid from tasker.tasks where namespace = $1 and identity_hash = $2",
        namespace,
        identity,
    )
    return found


_FROM = "tasker.tasks as task join tasker.templates as template using (template_uuid)"

_CONDITIONS = {
    "states": "task.state = any ({}::text[])",
    "namespace": "task.namespace = {}",
    "namespaces": "task.namespace = any ({}::text[])",
    "name": "template.name = {}",
    "name_prefix": "starts_with(template.name, {})",
    "version": "template.version = {}",
    "initiator": "task.initiator = {}",
    "source_system": "task.source_system = {}",
    "correlation_id": "task.correlation_id = {}",
    "parent_correlation_id": "task.parent_correlation_id = {}",
    "tags": "task.tags @> to_jsonb({}::text[])",
    "created_after": "task.created_at > {}",
    "created_before": "task.created_at < {}",
    "context": "task.context::jsonb @> {}::text::jsonb",
}


def _conditions(wanted: TaskFilter) -> tuple[list[str], list[object]]:
    conditions, arguments = ["true"], []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is None or value == ():
            continue
        arguments.append([str(state) for state in value] if name == "states" else value)
        conditions.append(condition.format(f"${len(arguments)}"))
    return conditions, arguments
