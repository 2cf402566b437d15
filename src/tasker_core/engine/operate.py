"""What an operator may do: cancel, resolve or reset a task; reset, resolve or complete a step.

Each is one transaction that also moves the task on, and is recorded with actor and
reason. The rules are in operate_task.sql and operate.sql; many tasks at once are the
business of operate_many.py.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from tasker_core.db.connect import Connection
from tasker_core.engine.expand import plan_expansion, plan_resolution
from tasker_core.engine.finish import GROWN
from tasker_core.engine.ids import task_and_step_no
from tasker_core.engine.outbox import events_by_hand
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import TransitionRefused, UnknownStep, UnknownTask
from tasker_core.payload import encode
from tasker_core.states import TASK_TERMINAL, TaskState
from tasker_core.templates.fate import GATES


async def cancel_task(conn: Connection, task_uuid: UUID, *, actor: str, reason: str) -> None:
    """Cancel a task: no step of it begins any more, and late results are refused.

    Raises:
        UnknownTask: There is no such task.
        TransitionRefused: The task has ended already.
    """
    row = await conn.fetchrow(
        "select * from tasker.cancel_task($1, $2, $3)", task_uuid, actor, reason
    )
    _refuse_task(row, task_uuid, "cancel")


async def resolve_task(conn: Connection, task_uuid: UUID, *, actor: str, reason: str) -> None:
    """Declare a task settled as a whole: its steps stay as they are, and none begins any more.

    Steps that run are cancelled, and their late results are refused.

    Raises:
        UnknownTask: There is no such task.
        TransitionRefused: The task has ended already.
    """
    row = await conn.fetchrow(
        "select * from tasker.resolve_task($1, $2, $3)", task_uuid, actor, reason
    )
    _refuse_task(row, task_uuid, "resolve")


async def reset_task(
    conn: Connection, task_uuid: UUID, *, actor: str, reason: str, drop_checkpoints: bool = False
) -> None:
    """Run every failed step of a task again, each with all its attempts before it.

    A task in `error` is open again, also if no step of it has failed.

    Raises:
        UnknownTask: There is no such task.
        TransitionRefused: No step of it is in error, or the task has ended for good.
    """
    row = await conn.fetchrow(
        "select * from tasker.reset_task($1, $2, $3, $4)",
        task_uuid,
        actor,
        reason,
        drop_checkpoints,
    )
    _refuse_task(row, task_uuid, "reset", "no step of it is in error")


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

    A decision or a batchable step adds nothing then; what waited to see that goes on.

    Raises:
        UnknownTask, UnknownStep: There is none.
        InvalidExpansion: What waited for the step is to be waited for by one that has begun.
        TransitionRefused: The step has ended, or is running and `force` is not given.
    """
    row = await _settle(
        conn,
        TemplateShelf(),
        task_uuid,
        step_uuid,
        "resolved_manually",
        actor=actor,
        reason=reason,
        force=force,
    )
    await _refuse(conn, row, task_uuid, step_uuid, "resolve", _FORCE)


async def complete_step(
    conn: Connection,
    shelf: TemplateShelf,
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

    The result of a decision or of a batchable step is followed: it adds the same steps. Durable
    events that the step declares for a success are published, as fired by the actor.

    Raises:
        UnknownTask, UnknownStep: There is none.
        InvalidExpansion: The result of a decision or a batchable step cannot be followed.
        NotStorable: The result or the metadata cannot be stored.
        TransitionRefused: The step has ended, or is running and `force` is not given.
    """
    row = await _settle(
        conn,
        shelf,
        task_uuid,
        step_uuid,
        "complete",
        result=result,
        metadata=metadata,
        actor=actor,
        reason=reason,
        force=force,
    )
    await _refuse(conn, row, task_uuid, step_uuid, "complete", _FORCE)


_FORCE = "a running step is settled only with force"


async def _settle(
    conn: Connection,
    shelf: TemplateShelf,
    task_uuid: UUID,
    step_uuid: UUID,
    next_state: str,
    *,
    result: Any = None,
    metadata: Any = None,
    actor: str,
    reason: str,
    force: bool,
) -> asyncpg.Record | None:
    """Settle a step with all that follows; plan again when the task has moved on."""
    step_no = step_no_of(task_uuid, step_uuid)
    is_complete = next_state == "complete"
    while True:
        try:
            return await conn.fetchrow(
                "select * from tasker.settle_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                task_uuid,
                step_no,
                next_state,
                encode(result) if is_complete else None,
                None if metadata is None else encode(metadata),
                *await _consequences(conn, shelf, task_uuid, step_no, result, is_complete, actor),
                actor,
                reason,
                force,
            )
        except asyncpg.PostgresError as error:
            if error.sqlstate != GROWN:
                raise


async def _consequences(
    conn: Connection,
    shelf: TemplateShelf,
    task_uuid: UUID,
    step_no: int,
    result: Any,
    is_complete: bool,
    actor: str,
) -> tuple[str | None, str | None]:
    """Plan what an operator's word adds to the task and what it publishes, as a result would."""
    row = await conn.fetchrow(
        "select task.template_uuid, task.namespace, task.correlation_id, "
        "step.name, coalesce(step.template_step, step.name) as template_step "
        "from tasker.steps as step join tasker.tasks as task using (task_uuid) "
        "where step.task_uuid = $1 and step.step_no = $2 "
        "and step.state not in ('complete', 'cancelled', 'resolved_manually')",
        task_uuid,
        step_no,
    )
    if row is None:
        return None, None
    template = (await shelf.get(conn, row["template_uuid"])).template
    step = template.step(row["template_step"])
    expansion = events = None
    if step.type in GATES and is_complete:
        expansion = await plan_expansion(conn, template, step, task_uuid, result)
    elif step.type in GATES:
        expansion = await plan_resolution(conn, template, step, task_uuid)
    if is_complete and step.publishes_events:
        events = events_by_hand(
            step,
            task_uuid=task_uuid,
            step_no=step_no,
            step_name=row["name"],
            namespace=row["namespace"],
            correlation_id=row["correlation_id"],
            result=result,
            actor=actor,
        )
    return expansion, events


def step_no_of(task_uuid: UUID, step_uuid: UUID) -> int:
    """Tell a step's number in its task.

    Raises:
        UnknownStep: The id is not one of a step of this task.
    """
    its_task, step_no = task_and_step_no(step_uuid)
    if its_task != task_uuid or step_no == 0:
        raise UnknownStep(task_uuid, step_uuid)
    return step_no


def _refuse_task(row: Any, task_uuid: UUID, action: str, otherwise: str = "") -> None:
    """Raise what forbids an action; `otherwise` says it of a task that has not ended."""
    if row["refused_by"] is None:
        return
    if row["state"] is None:
        raise UnknownTask(task_uuid)
    advice = "" if TaskState(row["state"]) in TASK_TERMINAL else otherwise
    raise TransitionRefused("task", task_uuid, row["state"], action, advice)


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
