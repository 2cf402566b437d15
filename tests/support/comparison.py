"""The tables of the engine, held against the model of it."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from support.invariants import check_history, check_invariants
from support.model import SILENT, Model
from tasker_core.payload import decode

_STEPS = """
with causes as materialized (
    select task.task_uuid, why.step_no, why.cause
    from tasker.tasks as task cross join lateral tasker.why(task.task_uuid, $1) as why
)

select
    seen.task_uuid, seen.step_no, seen.state, seen.attempt, seen.forgiven, seen.parents_left,
    step.is_held, seen.worker_uuid, causes.cause, step.checkpoint, step.result
from tasker.step_states as seen
join tasker.steps as step using (task_uuid, step_no)
left join causes using (task_uuid, step_no)
order by task_uuid, step_no
"""

_TASKS = """
select task.task_uuid, task.state, task.failed_count, entry.dlq_reason
from tasker.tasks as task left join tasker.dlq_entries as entry using (task_uuid)
order by task_uuid
"""


async def compare(conn: asyncpg.Connection, model: Model, now: datetime) -> set[str]:
    """Fail unless the tables say what the model says; tell which states and causes were met."""
    steps = [
        (*row[:-2], decode(row["checkpoint"]), decode(row["result"]))
        for row in await conn.fetch(_STEPS, SILENT)
    ]
    assert steps == [
        (
            task.uuid,
            step.no,
            step.state,
            step.executions + (step.state == "in_progress"),
            step.forgiven,
            task.parents_left(step),
            step.is_held,
            step.holder,
            model.cause(task, step, now),
            step.checkpoint,
            step.result,
        )
        for _, task in sorted(model.tasks.items())
        for _, step in sorted(task.steps.items())
    ]
    tasks = [tuple(row) for row in await conn.fetch(_TASKS)]
    assert tasks == [
        (task.uuid, task.state, len(task.failed), task.letter)
        for _, task in sorted(model.tasks.items())
    ]
    await check_invariants(conn)
    await check_history(conn)
    return {
        *(f"step: {row[2]}" for row in steps),
        *(f"why: {row[8]}" for row in steps),
        *(f"task: {row[1]}" for row in tasks),
        *(f"dead letter: {row[3]}" for row in tasks),
    }
