"""What an operator may do: cancel a task; reset, resolve or complete a step.

Each is one transaction that also moves the task on, and is recorded with actor and
reason. The rules are in operate.sql.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.ids import task_and_step_no
from tasker_core.errors import TransitionRefused, UnknownStep, UnknownTask
from tasker_core.payload import encode


async def cancel_task(conn: Connection, task_uuid: UUID, *, actor: str, reason: str) -> None:
    """Cancel a task: no step of it begins any more, and late results are refused.

    Raises:
        UnknownTask: There is no such task.
        TransitionRefused: The task has ended already.
    """
    row = await conn.fetchrow(
        "select * from tasker.cancel_task($1, $2, $3)", task_uuid, actor, reason
    )
    assert row is not None
    if row["refused_by"] is None:
        return
    if row["state"] is None:
        raise UnknownTask(task_uuid)
    raise TransitionRefused("task", task_uuid, row["state"], "cancel")


async def reset_step(
    conn: Connection,
    task_uuid: UUID,
    step_uuid: UUID,
    *,
    actor: str,
    reason: str,
    drop_checkpoint: bool = False,
) -> None:
    """Run a failed step again, with all its attempts before it.

    While another step of the task is in error, the reset step waits for that one to be
    dealt with too, unless the template says `on_failure: continue`.

    Raises:
        UnknownTask, UnknownStep: There is none.
        TransitionRefused: The step is not in error, or the task has ended for good.
    """
    row = await conn.fetchrow(
        "select * from tasker.reset_step($1, $2, $3, $4, $5)",
        task_uuid,
        step_no_of(task_uuid, step_uuid),
        actor,
        reason,
        drop_checkpoint,
    )
    await _refuse(conn, row, task_uuid, step_uuid, "reset", "only a step in error can be reset")


async def resolve_step(
    conn: Connection,
    task_uuid: UUID,
    step_uuid: UUID,
    *,
    actor: str,
    reason: str,
    force: bool = False,
) -> None:
    """Declare a step settled without a result; its children go on and see none.

    Raises:
        UnknownTask, UnknownStep: There is none.
        TransitionRefused: The step has ended, or is running and `force` is not given.
    """
    row = await conn.fetchrow(
        "select * from tasker.settle_step($1, $2, 'resolved_manually', null, null, $3, $4, $5)",
        task_uuid,
        step_no_of(task_uuid, step_uuid),
        actor,
        reason,
        force,
    )
    await _refuse(conn, row, task_uuid, step_uuid, "resolve", _FORCE)


async def complete_step(
    conn: Connection,
    task_uuid: UUID,
    step_uuid: UUID,
    *,
    result: Any,
    actor: str,
    reason: str,
    metadata: Any = None,
    force: bool = False,
) -> None:
    """Complete a step with a result that an operator supplies, as if a handler had.

    Raises:
        UnknownTask, UnknownStep: There is none.
        NotStorable: The result or the metadata cannot be stored.
        TransitionRefused: The step has ended, or is running and `force` is not given.
    """
    row = await conn.fetchrow(
        "select * from tasker.settle_step($1, $2, 'complete', $3, $4, $5, $6, $7)",
        task_uuid,
        step_no_of(task_uuid, step_uuid),
        encode(result),
        None if metadata is None else encode(metadata),
        actor,
        reason,
        force,
    )
    await _refuse(conn, row, task_uuid, step_uuid, "complete", _FORCE)


_FORCE = "a running step is settled only with force"


def step_no_of(task_uuid: UUID, step_uuid: UUID) -> int:
    """Tell a step's number in its task.

    Raises:
        UnknownStep: The id is not one of a step of this task.
    """
    its_task, step_no = task_and_step_no(step_uuid)
    if its_task != task_uuid or step_no == 0:
        raise UnknownStep(task_uuid, step_uuid)
    return step_no


async def _refuse(
    conn: Connection, row: Any, task_uuid: UUID, step_uuid: UUID, action: str, advice: str
) -> None:
    if row["refused_by"] is None:
        return
    if row["state"] is None:
        known = await conn.fetchval("select true from tasker.tasks where task_uuid = $1", task_uuid)
        raise UnknownStep(task_uuid, step_uuid) if known else UnknownTask(task_uuid)
    if row["refused_by"] == "task":
        raise TransitionRefused("a step of task", task_uuid, row["state"], action)
    raise TransitionRefused("step", step_uuid, row["state"], action, advice)
