"""What holds in the tables of the engine between any two commits.

Each entry is a sentence and a query for what contradicts it. The numbers are those
of the invariants that the engine promises.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import asyncpg

from tasker_core.states import STEP_TRANSITIONS, TASK_TRANSITIONS, StepState, TaskState

_ALIVE = """
with hot as (
    select task_uuid, step_no, 'ready' as place, attempt from tasker.ready
    union all select task_uuid, step_no, 'delayed', attempt from tasker.delayed
    union all select task_uuid, step_no, 'leases', attempt - 1 from tasker.leases
),

satisfied as (
    select child.task_uuid, child.step_no,
        count(*) filter (where parent.state not in ('complete', 'resolved_manually')) as missing
    from tasker.steps as child
    cross join lateral unnest(child.parents) as up (step_no)
    join tasker.steps as parent
        on parent.task_uuid = child.task_uuid and parent.step_no = up.step_no
    group by child.task_uuid, child.step_no
),

seen as (
    select step.*, task.state as task_state,
        exists (
            select from tasker.steps as failed
            where failed.task_uuid = step.task_uuid and failed.state = 'error'
                and case
                    when failed.batch_of = step.batch_of then step.failure_strategy = 'fail_fast'
                    else task.halts_on_failure
                end
        ) as is_halted,
        coalesce(satisfied.missing, 0) as missing,
        (select count(*) from hot
            where hot.task_uuid = step.task_uuid and hot.step_no = step.step_no) as places
    from tasker.steps as step
    join tasker.tasks as task using (task_uuid)
    left join satisfied using (task_uuid, step_no)
)
"""

_RULES = {
    "a step that may run is in exactly one of ready, delayed and leases (I14)": """
        select * from seen
        where state = 'pending' and missing = 0 and not is_halted and not is_held and places <> 1
            and task_state not in ('complete', 'error', 'cancelled', 'resolved_manually')""",
    "a step is in at most one of ready, delayed and leases (I6)": """
        select * from seen where places > 1""",
    "a settled step is in none of ready, delayed and leases (I17)": """
        select * from seen where state <> 'pending' and places > 0""",
    "no step is ready, delayed or on loan before its parents are done (I5)": """
        select * from seen where missing > 0 and places > 0""",
    "parents_left counts the parents that are not done": """
        select * from seen where parents_left <> missing""",
    "a halted step is neither ready nor delayed (I11)": """
        select hot.* from hot join seen using (task_uuid, step_no)
        where seen.is_halted and hot.place <> 'leases'""",
    "a step that is held is in none of ready, delayed and leases": """
        select * from seen where is_held and (state <> 'pending' or places > 0)""",
    "a step is held only while its batch is full or halted": """
        select * from seen as held
        where is_held and not is_halted and missing = 0
            and task_state not in ('complete', 'error', 'cancelled', 'resolved_manually')
            and parallelism > (
                select count(*) from seen as beside
                where beside.task_uuid = held.task_uuid and beside.batch_of = held.batch_of
                    and beside.places > 0
            )""",
    "an ended task has nothing ready, delayed or on loan (I16)": """
        select hot.* from hot join tasker.tasks as task using (task_uuid)
        where task.completed_at is not null""",
    "every hot row belongs to a step": """
        select hot.* from hot left join tasker.steps as step using (task_uuid, step_no)
        where step.task_uuid is null""",
    "the hot tables know how often the step ran": """
        select hot.* from hot join tasker.steps as step using (task_uuid, step_no)
        where hot.attempt <> step.attempt""",
    "failed_count counts the steps in error": """
        select task.* from tasker.tasks as task
        where failed_count <> (select count(*) from tasker.steps as step
            where step.task_uuid = task.task_uuid and step.state = 'error')""",
    "a task is complete exactly when all its steps are done (I10)": """
        select task.* from tasker.tasks as task
        where state <> 'cancelled' and (state = 'complete') <> not exists (
            select from tasker.steps as step where step.task_uuid = task.task_uuid
                and step.state not in ('complete', 'resolved_manually'))""",
    "the state of a task says where its steps are": """
        select task.*, places.* from tasker.tasks as task
        cross join lateral (
            select
                count(*) filter (where place in ('ready', 'leases')) as busy,
                count(*) filter (where place = 'delayed') as resting
            from hot where hot.task_uuid = task.task_uuid
        ) as places
        where task.completed_at is null and task.state <> case
            when busy > 0 then 'steps_in_process'
            when resting > 0 then 'waiting_for_retry'
            when failed_count > 0 then 'blocked_by_failures'
            else 'complete'
        end""",
    "a living task of a template with limits is watched": """
        select task.* from tasker.tasks as task
        join tasker.templates as template using (template_uuid)
        left join tasker.watched as watched using (task_uuid)
        where task.completed_at is null and template.limits ? 'look_after'
            and watched.task_uuid is null""",
    "a dead letter shows the task in the state that it was put aside in": """
        select entry.* from tasker.dlq_entries as entry
        join tasker.tasks as task using (task_uuid)
        where entry.entered_at < task.created_at or entry.updated_at < entry.entered_at
            or entry.snapshot -> 'task' ->> 'state' <> entry.original_state""",
    "a step has a time of completion exactly when it has ended (I17)": """
        select * from seen where (completed_at is not null)
            <> (state in ('complete', 'resolved_manually', 'cancelled'))""",
    "only a complete step has a result (I17)": """
        select * from seen where (state = 'complete') <> (result is not null)""",
    "history has one row an attempt; only a checkpoint leaves a gap, and is forgiven (I3)": """
        select step.task_uuid, step.step_no, step.attempt, past.* from tasker.steps as step
        cross join lateral (
            select count(*) as total, coalesce(max(a.attempt), 0) as last
            from tasker.attempts as a
            where a.task_uuid = step.task_uuid and a.step_no = step.step_no
        ) as past
        where past.last > step.attempt or past.total > past.last
            or (step.forgiven = 0 and past.total <> step.attempt)""",
    "no step runs more often than its policy allows (I7)": """
        select step.* from tasker.steps as step
        left join tasker.leases as lease using (task_uuid, step_no)
        where coalesce(lease.attempt, step.attempt) - step.forgiven > step.max_attempts""",
    "no attempt begins before its time (I8)": """
        select next.* from tasker.attempts as last
        join tasker.attempts as next on next.task_uuid = last.task_uuid
            and next.step_no = last.step_no and next.attempt = last.attempt + 1
        where next.claimed_at < last.due_at
        union all
        select last.* from tasker.attempts as last
        join tasker.leases as lease on lease.task_uuid = last.task_uuid
            and lease.step_no = last.step_no and lease.attempt = last.attempt + 1
        where lease.claimed_at < last.due_at""",
    "changes are numbered without a gap (I3)": """
        select task.* from tasker.tasks as task
        cross join lateral (
            select count(*) as total, coalesce(max(change_no), 0) as last
            from tasker.changes as c where c.task_uuid = task.task_uuid
        ) as past
        where past.total <> task.change_count or past.last <> task.change_count""",
    "no two tasks have one identity (I2)": """
        select namespace, identity_hash from tasker.tasks
        where identity_hash is not null group by 1, 2 having count(*) > 1""",
}

_EVERY_RULE = _ALIVE + " union all ".join(
    f"(select $rule${rule}$rule$ as rule, to_json(broken)::text as row from ({query}) as broken)"
    for rule, query in _RULES.items()
)

_TRANSITIONS = """
select task_uuid, step_no, from_state, to_state from tasker.transitions
order by task_uuid, step_no nulls last, moved_at, place
"""

_STATES = """
select task_uuid, step_no, state from tasker.steps
union all select task_uuid, null, state from tasker.tasks
"""


async def check_invariants(conn: asyncpg.Connection) -> None:
    """Fail with every contradiction in the tables."""
    if await conn.fetchval("select count(*) > 1000 from tasker.steps"):
        await conn.execute("analyze")  # else the rules are planned for a handful of rows
    broken = [f"{row['rule']}: {row['row']}" for row in await conn.fetch(_EVERY_RULE)]
    assert not broken, "\n".join(broken)


async def check_history(conn: asyncpg.Connection) -> None:
    """Fail unless every chain of transitions is legal, without a gap, and ends in the state."""
    chains: dict[Any, list[tuple[str, str]]] = defaultdict(list)
    for task_uuid, step_no, *move in await conn.fetch(_TRANSITIONS):
        chains[task_uuid, step_no].append(tuple(move))
    state = {(row[0], row[1]): row[2] for row in await conn.fetch(_STATES)}
    for (task_uuid, step_no), shown in chains.items():
        if step_no is None:
            legal, first, kind = TASK_TRANSITIONS, "steps_in_process", TaskState
        else:
            legal, first, kind = STEP_TRANSITIONS, "pending", StepState
        where = f"task {task_uuid} step {step_no}: {shown}"
        assert [before for before, _ in shown] == [first, *(after for _, after in shown[:-1])], (
            f"a gap in {where}"
        )
        for before, after in shown:
            assert kind(after) in legal[kind(before)], f"{before} → {after} is illegal, {where}"
        now = state[task_uuid, step_no]
        assert now in {"pending", shown[-1][1]}, f"{now} is not told, {where}"
