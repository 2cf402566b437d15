"""What an operator may do with many tasks at once: cancel, resolve or reset them.

The tasks are named, or found by what they have in common. Each is changed in a
transaction of its own: one that refuses does not keep the others, and what was found
is looked at again once the task is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.inspect import namespace_of_task
from tasker_core.engine.operate import cancel_task, reset_task, resolve_task
from tasker_core.errors import TransitionRefused, UnknownTask
from tasker_core.states import TASK_TERMINAL, TaskState

TaskAction = Literal["cancel", "resolve", "reset"]
Outcome = Literal["done", "unchanged", "skipped", "refused", "not_found"]

_OPEN = tuple(state for state in TaskState if state not in TASK_TERMINAL)
_FAILED = (TaskState.BLOCKED_BY_FAILURES, TaskState.ERROR)
_ALREADY = {"cancel": TaskState.CANCELLED, "resolve": TaskState.RESOLVED_MANUALLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSelection:
    """What the tasks that an operator means have in common. None and () mean any."""

    states: Sequence[TaskState] = ()
    namespace: str | None = None
    name: str | None = None
    version: str | None = None
    failed_step: str | None = None  # of a step in error, here or in the template
    error_type: str | None = None  # of the last attempt of a step in error
    created_after: datetime | None = None
    created_before: datetime | None = None
    namespaces: Sequence[str] | None = None  # and in one of these


@dataclass(frozen=True, slots=True)
class ActedOn:
    """What became of one task."""

    task_uuid: UUID
    outcome: Outcome
    state: TaskState | None  # the one that it has now; None: there is no such task
    detail: str | None = None  # why it was not done
    namespace: str | None = None
    name: str | None = None
    version: str | None = None


_SELECTED = """
select task.task_uuid
from tasker.tasks as task
join tasker.templates as template using (template_uuid)
where ($1::uuid[] is null or task.task_uuid = any ($1))
    and ($2::text[] is null or task.state = any ($2))
    and ($3::text is null or task.namespace = $3)
    and ($4::text is null or template.name = $4)
    and ($5::text is null or template.version = $5)
    and ($6::timestamptz is null or task.created_at > $6)
    and ($7::timestamptz is null or task.created_at < $7)
    and (
        ($8::text is null and $9::text is null)
        or exists (
            select from tasker.steps as step
            where step.task_uuid = task.task_uuid and step.has_failed
                and ($8 is null or $8 in (step.name, step.template_step))
                and ($9 is null or $9 = (
                    select past.error ->> 'error_type' from tasker.attempts as past
                    where past.task_uuid = step.task_uuid and past.step_no = step.step_no
                    order by past.attempt desc limit 1
                ))
        )
    )
    and ($10::uuid is null or task.task_uuid > $10)
    and ($11::text[] is null or task.namespace = any ($11))
order by task.task_uuid
limit $12
"""


async def select_tasks(
    conn: Connection,
    action: TaskAction,
    wanted: TaskSelection,
    *,
    among: Sequence[UUID] | None = None,
    after: UUID | None = None,
    limit: int,
) -> list[UUID]:
    """Find tasks by what they have in common, the oldest first.

    Args:
        action: A selection without states has those in which this may be done: of a reset
            they are `blocked_by_failures` and `error`.
        wanted: What they have in common.
        among: None is all tasks.
        after: The last one that was found before.
        limit: How many at most.
    """
    rows = await conn.fetch(
        _SELECTED,
        among,
        [str(state) for state in _states(action, wanted)],
        wanted.namespace,
        wanted.name,
        wanted.version,
        wanted.created_after,
        wanted.created_before,
        wanted.failed_step,
        wanted.error_type,
        after,
        wanted.namespaces,
        limit,
    )
    return [row["task_uuid"] for row in rows]


def _states(action: TaskAction, wanted: TaskSelection) -> Sequence[TaskState]:
    return wanted.states or (_FAILED if action == "reset" else _OPEN)


async def act_on_tasks(
    conn: Connection,
    action: TaskAction,
    task_uuids: Sequence[UUID],
    *,
    actor: str,
    reason: str,
    wanted: TaskSelection | None = None,
    namespaces: Sequence[str] | None = None,
    drop_checkpoints: bool = False,
    dry_run: bool = False,
) -> list[ActedOn]:
    """Do the same with each of these tasks.

    Args:
        conn: A connection that is in no transaction.
        action: `cancel`, `resolve` or `reset`; see the functions of operate.py.
        task_uuids: The tasks; one that is named twice is acted on once.
        actor, reason: Who and why; kept in the history of each.
        wanted: Leave out those that do not fit this, or do not any more.
        namespaces: Tasks of others are not found; None is all.
        drop_checkpoints: Of a reset: the steps begin from their start.
        dry_run: Change nothing, and say what would become of each.

    Returns:
        What became of each, in the order given: `done`; `unchanged`, it was cancelled or
        resolved before; `skipped`, it does not fit; `refused`; `not_found`.
    """
    distinct = list(dict.fromkeys(task_uuids))
    acted = []
    for task_uuid in distinct:
        if not await _is_in(conn, namespaces, task_uuid):
            acted.append(ActedOn(task_uuid, "not_found", None, str(UnknownTask(task_uuid))))
            continue
        transaction = conn.transaction()
        await transaction.start()
        try:
            outcome, detail = await _act(
                conn, action, task_uuid, wanted, actor, reason, drop_checkpoints
            )
            facts = await _facts(conn, task_uuid)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if dry_run else transaction.commit())
        acted.append(ActedOn(task_uuid, outcome, detail=detail, **facts))
    return acted


async def _is_in(conn: Connection, namespaces: Sequence[str] | None, task_uuid: UUID) -> bool:
    return namespaces is None or await namespace_of_task(conn, task_uuid) in namespaces


async def _act(
    conn: Connection,
    action: TaskAction,
    task_uuid: UUID,
    wanted: TaskSelection | None,
    actor: str,
    reason: str,
    drop_checkpoints: bool,
) -> tuple[Outcome, str | None]:
    if wanted is not None:
        # a statement of its own: the next one then sees what the one before it left
        await conn.execute("select from tasker.lock_tasks(array[$1::uuid])", task_uuid)
        if not await select_tasks(conn, action, wanted, among=[task_uuid], limit=1):
            misfit = await _misfit(conn, action, wanted, task_uuid)
            if misfit is not None:
                return "skipped", misfit
    try:
        if action == "cancel":
            await cancel_task(conn, task_uuid, actor=actor, reason=reason)
        elif action == "resolve":
            await resolve_task(conn, task_uuid, actor=actor, reason=reason)
        else:
            await reset_task(
                conn, task_uuid, actor=actor, reason=reason, drop_checkpoints=drop_checkpoints
            )
    except UnknownTask as error:
        return "not_found", str(error)
    except TransitionRefused as error:
        if error.state == _ALREADY.get(action):
            return "unchanged", None
        return "refused", str(error)
    return "done", None


async def _misfit(
    conn: Connection, action: TaskAction, wanted: TaskSelection, task_uuid: UUID
) -> str | None:
    """Say what a task that was not selected does not have; None if there is no such task."""
    row = await conn.fetchrow(
        "select task.state, task.namespace, template.name, template.version, task.created_at "
        "from tasker.tasks as task join tasker.templates as template using (template_uuid) "
        "where task.task_uuid = $1",
        task_uuid,
    )
    if row is None:
        return None
    states = [str(state) for state in _states(action, wanted)]
    if row["state"] not in states:
        return f"it is {row['state']}, not {' or '.join(states)}"
    for what in ("namespace", "name", "version"):
        asked = getattr(wanted, what)
        if asked not in (None, row[what]):
            return f"its {what} is {row[what]}, not {asked}"
    created = row["created_at"].isoformat()
    if wanted.created_after is not None and row["created_at"] <= wanted.created_after:
        return f"it was created at {created}, not after {wanted.created_after.isoformat()}"
    if wanted.created_before is not None and row["created_at"] >= wanted.created_before:
        return f"it was created at {created}, not before {wanted.created_before.isoformat()}"
    step = f"step {wanted.failed_step}" if wanted.failed_step is not None else "step"
    kind = f" with error type {wanted.error_type}" if wanted.error_type is not None else ""
    return f"no {step} of it is in error{kind}"


async def _facts(conn: Connection, task_uuid: UUID) -> dict[str, Any]:
    row = await conn.fetchrow(
        "select task.state, task.namespace, template.name, template.version "
        "from tasker.tasks as task join tasker.templates as template using (template_uuid) "
        "where task.task_uuid = $1",
        task_uuid,
    )
    if row is None:
        return {"state": None}
    return {**row, "state": TaskState(row["state"])}
