"""Say why a step is not running.

For every step that is neither running nor done there is exactly one cause; the rules
are in why.sql. Steps that do not exist yet are told, too, as long as they may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.expand import read_course
from tasker_core.engine.inspect import WORKER_SEEN_WITHIN
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import UnknownTask
from tasker_core.payload import decode
from tasker_core.templates.fate import steps_that_may_come


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one step is not running."""

    name: str
    step_no: int | None  # None: the step does not exist yet
    state: str | None
    cause: str  # one of those in why.sql, or waits_for_decision
    detail: dict[str, Any]


async def why(
    conn: Connection,
    shelf: TemplateShelf,
    task_uuid: UUID,
    *,
    seen_within: timedelta = WORKER_SEEN_WITHIN,
) -> list[Cause]:
    """Give the cause for every step of a task that is neither running nor done.

    Args:
        seen_within: A worker that has not been seen for longer does not count.

    Raises:
        UnknownTask: There is no such task.
    """
    task = await conn.fetchrow(
        "select template_uuid, completed_at from tasker.tasks where task_uuid = $1", task_uuid
    )
    if task is None:
        raise UnknownTask(task_uuid)
    rows = await conn.fetch("select * from tasker.why($1, $2)", task_uuid, seen_within)
    causes = [
        Cause(
            row["name"],
            row["step_no"],
            row["state"],
            row["cause"],
            {key: value for key, value in (decode(row["detail"]) or {}).items() if value},
        )
        for row in rows
    ]
    if task["completed_at"] is None:
        template = (await shelf.get(conn, task["template_uuid"])).template
        course = await read_course(conn, template, task_uuid)
        gates = sorted(course.open_gates)
        causes += [
            Cause(name, None, None, "waits_for_decision", {"steps": gates})
            for name in steps_that_may_come(template, course)
        ]
    return causes


def explain(cause: Cause) -> str:
    """Say it in a sentence.

    >>> explain(Cause("pay", 2, "pending", "blocked_by_failures", {"steps": [{"name": "check"}]}))
    'blocked until check, which failed, is reset, resolved or completed'
    """
    detail = cause.detail
    steps = [one for one in detail.get("steps", ()) if isinstance(one, dict)]
    match cause.cause:
        case "failed":
            error = detail.get("error") or {}
            return (
                f"failed for good after {_times(detail.get('attempts', 0))}: "
                f"{error.get('error_type', 'error')}: {error.get('message', '')}"
            )
        case "cancelled":
            return "cancelled"
        case "task_ended":
            return f"the task has ended: {detail.get('task_state')}"
        case "waits_for_parents":
            more = detail.get("count", 0) - len(detail.get("steps", ()))
            names = ", ".join(f"{one['name']} ({one['state']}{_error(one)})" for one in steps)
            return f"waits for {names}{f' and {more} more' if more > 0 else ''}"
        case "blocked_by_failures":
            names = ", ".join(f"{one['name']}{_error(one, ' ({})')}" for one in steps)
            return f"blocked until {names}, which failed, is reset, resolved or completed"
        case "waits_for_batch":
            return f"waits for its turn: {detail.get('parallelism')} of its batch run at a time"
        case "waits_for_retry":
            return (
                f"waits for its retry at {detail.get('due_at')}, "
                f"{_times(detail.get('attempts', 0))} of {detail.get('max_attempts')} made"
                f"{_error(detail)}"
            )
        case "no_worker_in_namespace":
            return f"no live worker serves the namespace {detail.get('namespace')}"
        case "no_worker_with_handler":
            return f"no live worker has the handler {detail.get('callable')}"
        case "waits_for_worker":
            return f"enqueued, with {detail.get('steps_before', 0)} steps before it"
        case _:
            return f"not known yet whether it comes: {' and '.join(detail.get('steps', ()))} decide"


def _error(failed: Mapping[str, Any], form: str = ": {}") -> str:
    """Say how the last attempt failed; nothing if it did not."""
    error = failed.get("error")
    return form.format(f"{error['error_type']}: {error['message']}") if error else ""


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
