"""What may be read: tasks, steps, attempts, transitions, and who is at work.

Nothing here changes anything. Every answer is one statement, so it is one moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.ids import step_uuid
from tasker_core.errors import UnknownStep, UnknownTask
from tasker_core.payload import decode
from tasker_core.states import StepState, TaskState

WORKER_SEEN_WITHIN = timedelta(seconds=60)  # a worker says more often that it is alive


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task, with its steps counted by state."""

    task_uuid: UUID
    template_uuid: UUID
    namespace: str
    name: str
    version: str
    state: TaskState
    context: dict[str, Any]
    priority: int
    tags: list[str]
    initiator: str
    source_system: str
    reason: str
    correlation_id: UUID
    parent_correlation_id: UUID | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    step_counts: dict[StepState, int]  # only states that occur

    @property
    def total_steps(self) -> int:
        """How many steps exist by now; decisions and batches add some as they run."""
        return sum(self.step_counts.values())

    def count(self, *states: StepState) -> int:
        """How many steps are in one of these states."""
        return sum(self.step_counts.get(state, 0) for state in states)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step as a reader sees it, with its last attempt."""

    task_uuid: UUID
    step_no: int
    name: str
    state: StepState
    parents: list[int]
    children: list[int]
    parents_left: int
    attempts: int  # since the last reset
    max_attempts: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    due_at: datetime | None  # of the next attempt, while waiting for it
    claimed_at: datetime | None  # while in progress
    worker_uuid: UUID | None  # while in progress
    result: Any
    checkpoint: Any
    last_attempt: AttemptRecord | None

    @property
    def step_uuid(self) -> UUID:
        """The step's public id."""
        return step_uuid(self.task_uuid, self.step_no)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One execution of a step that has ended."""

    step_no: int
    attempt: int  # every execution counts, also those before a reset
    worker_uuid: UUID
    enqueued_at: datetime
    claimed_at: datetime
    finished_at: datetime
    due_at: datetime | None  # of the attempt after it, when there is to be one
    execution_ms: float | None  # in the handler, as the worker measured it
    outcome: StepState
    error: dict[str, Any] | None
    metadata: dict[str, Any] | None

    @property
    def duration(self) -> timedelta:
        """From the claim to the recorded result."""
        return self.finished_at - self.claimed_at


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state of a task (`step_no` None) or a step."""

    step_no: int | None
    from_state: str
    to_state: str
    moved_at: datetime
    attempt: int | None
    action: str | None  # an operator's, or "advance" for a task
    actor: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class StarvedLane:
    """Steps that wait for a handler that no live worker has."""

    namespace: str
    callable: str
    step_count: int
    oldest_enqueued_at: datetime


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker that was seen within the last day."""

    worker_uuid: UUID
    host: str
    pid: int
    version: str
    concurrency: int
    running_steps: int
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    namespaces: list[str]
    handlers: list[str]


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """One version of a template that is in force."""

    namespace: str
    name: str
    version: str
    description: str | None
    step_count: int


# a task a row; what follows it begins with "where task."
TASKS = """
select
    task.task_uuid, task.template_uuid, task.namespace, template.name, template.version,
    task.state, task.context, task.priority, task.tags, task.initiator, task.source_system,
    task.reason, task.correlation_id, task.parent_correlation_id, task.created_at,
    greatest(
        task.created_at, task.completed_at,
        (select max(finished_at) from tasker.attempts as a where a.task_uuid = task.task_uuid),
        (select max(changed_at) from tasker.changes as c where c.task_uuid = task.task_uuid)
    ) as updated_at,
    task.completed_at, tasker.step_counts(task.task_uuid) as step_counts
from tasker.tasks as task
join tasker.templates as template using (template_uuid)
"""

_STEPS = """
select
    step.task_uuid, step.step_no, step.name, step.state, step.parents, step.children,
    step.parents_left, step.attempt - step.forgiven as attempts, step.max_attempts,
    task.created_at,
    greatest(
        task.created_at, step.enqueued_at, step.claimed_at, step.completed_at, last.finished_at
    ) as updated_at,
    step.completed_at, step.due_at, step.claimed_at, step.worker_uuid,
    case when $3 then step.result end as result,
    case when $3 then step.checkpoint end as checkpoint,
    last.attempt as last_attempt, last.worker_uuid as last_worker_uuid,
    last.enqueued_at as last_enqueued_at, last.claimed_at as last_claimed_at,
    last.finished_at as last_finished_at, last.due_at as last_due_at,
    last.execution_ms as last_execution_ms, last.outcome as last_outcome,
    last.error as last_error, last.metadata as last_metadata
from tasker.states_of($1, $2) as step
join tasker.tasks as task using (task_uuid)
left join tasker.last_attempts($1, $2) as last using (step_no)
order by step.step_no
"""


async def get_task(conn: Connection, task_uuid: UUID) -> TaskRecord:
    """Read one task.

    Raises:
        UnknownTask: There is no such task.
    """
    row = await conn.fetchrow(TASKS + "where task.task_uuid = $1", task_uuid)
    if row is None:
        raise UnknownTask(task_uuid)
    return task_of(row)


async def namespace_of_task(conn: Connection, task_uuid: UUID) -> str | None:
    """Say where a task belongs; None: there is no such task."""
    found: str | None = await conn.fetchval(
        "select namespace from tasker.tasks where task_uuid = $1", task_uuid
    )
    return found


async def namespace_of_dlq_entry(conn: Connection, dlq_entry_uuid: UUID) -> str | None:
    """Say where the task of a dead letter belongs; None: there is no such entry."""
    found: str | None = await conn.fetchval(
        "select snapshot -> 'task' ->> 'namespace' from tasker.dlq_entries "
        "where dlq_entry_uuid = $1",
        dlq_entry_uuid,
    )
    return found


async def list_steps(
    conn: Connection, task_uuid: UUID, *, with_results: bool = True
) -> list[StepRecord]:
    """List the steps of a task, parents before children.

    Args:
        with_results: Read results and checkpoints too; they may be large.

    Raises:
        UnknownTask: There is no such task.
    """
    rows = await conn.fetch(_STEPS, task_uuid, None, with_results)
    if not rows:
        raise UnknownTask(task_uuid)
    return [_step(row) for row in rows]


async def get_step(conn: Connection, task_uuid: UUID, step_no: int) -> StepRecord:
    """Read one step.

    Raises:
        UnknownStep: The task has no such step, or there is no such task.
    """
    row = await conn.fetchrow(_STEPS, task_uuid, step_no, True)
    if row is None:
        raise UnknownStep(task_uuid, step_uuid(task_uuid, step_no))
    return _step(row)


async def list_attempts(
    conn: Connection, task_uuid: UUID, step_no: int | None = None
) -> list[AttemptRecord]:
    """List the attempts of a task, or of one step, that have ended, in that order."""
    rows = await conn.fetch(
        "select step_no, attempt, worker_uuid, enqueued_at, claimed_at, finished_at, due_at, "
        "execution_ms, outcome, error, metadata from tasker.attempts "
        "where task_uuid = $1 and ($2::int is null or step_no = $2) "
        "order by finished_at, step_no, attempt",
        task_uuid,
        step_no,
    )
    return [_attempt(row) for row in rows]


async def list_transitions(
    conn: Connection, task_uuid: UUID, step_no: int | None = None
) -> list[Transition]:
    """List every change of state of a task and its steps, or of one step, in order of time."""
    rows = await conn.fetch(
        "select step_no, from_state, to_state, moved_at, attempt, action, actor, reason "
        "from tasker.transitions "
        "where task_uuid = $1 and ($2::int is null or step_no = $2) "
        "order by moved_at, step_no nulls last, place",
        task_uuid,
        step_no,
    )
    return [Transition(**row) for row in rows]


async def list_templates(conn: Connection) -> list[TemplateRecord]:
    """List every version of every template, the newest of each first."""
    rows = await conn.fetch(
        "select namespace, name, version, definition ->> 'description' as description, "
        "json_array_length(definition -> 'steps') as step_count "
        "from tasker.current_templates order by namespace, name, version_key desc"
    )
    return [TemplateRecord(**row) for row in rows]


async def list_workers(
    conn: Connection, *, seen_within: timedelta, namespaces: Sequence[str] | None = None
) -> list[WorkerRecord]:
    """List the workers that are known, those seen last first.

    Args:
        conn: A connection.
        seen_within: One that was not seen for longer does not count as alive.
        namespaces: Only what serves these, and only as far as it does; None is all.
    """
    lanes = (
        "from tasker.lanes as lane where lane.lane = any (worker.lanes) "
        "and ($2::text[] is null or lane.namespace = any ($2))"
    )
    rows = await conn.fetch(
        "select worker.worker_uuid, worker.host, worker.pid, worker.version, worker.concurrency, "
        "(select count(*)::int from tasker.leases as lease "
        "  where lease.worker_uuid = worker.worker_uuid and ($2::text[] is null or lease.lane in "
        "  (select lane from tasker.lanes where namespace = any ($2)))) as running_steps, "
        "worker.started_at, worker.seen_at, "
        "worker.seen_at > tasker.now() - $1::interval as is_alive, "
        f"array(select distinct lane.namespace {lanes} order by 1) as namespaces, "
        f"array(select distinct lane.callable {lanes} order by 1) as handlers "
        "from tasker.workers as worker "
        f"where $2::text[] is null or exists (select {lanes}) "
        "order by worker.seen_at desc, worker.worker_uuid",
        seen_within,
        namespaces,
    )
    return [WorkerRecord(**row) for row in rows]


async def list_starved_lanes(conn: Connection, *, seen_within: timedelta) -> list[StarvedLane]:
    """List what is ready for a handler that no worker has, of those lately alive."""
    rows = await conn.fetch(
        "select lane.namespace, lane.callable, count(*)::int as step_count, "
        "min(ready.enqueued_at) as oldest_enqueued_at "
        "from tasker.ready as ready join tasker.lanes as lane using (lane) "
        "where not exists (select from tasker.workers as worker "
        "  where worker.seen_at > tasker.now() - $1::interval and lane.lane = any (worker.lanes)) "
        "group by lane.namespace, lane.callable order by oldest_enqueued_at",
        seen_within,
    )
    return [StarvedLane(**row) for row in rows]


def task_of(row: Any) -> TaskRecord:
    """Build a task from a row of `TASKS`."""
    facts = dict(row)
    facts["state"] = TaskState(facts["state"])
    facts["context"] = decode(facts["context"])
    facts["tags"] = decode(facts["tags"])
    counts = decode(facts["step_counts"]) or {}
    facts["step_counts"] = {StepState(state): total for state, total in counts.items()}
    return TaskRecord(**facts)


def _step(row: Any) -> StepRecord:
    facts = {key: value for key, value in row.items() if not key.startswith("last_")}
    facts["state"] = StepState(facts["state"])
    facts["result"] = decode(facts["result"])
    facts["checkpoint"] = decode(facts["checkpoint"])
    last = None
    if row["last_attempt"] is not None:
        last = AttemptRecord(
            row["step_no"],
            row["last_attempt"],
            row["last_worker_uuid"],
            row["last_enqueued_at"],
            row["last_claimed_at"],
            row["last_finished_at"],
            row["last_due_at"],
            row["last_execution_ms"],
            StepState(row["last_outcome"]),
            decode(row["last_error"]),
            decode(row["last_metadata"]),
        )
    return StepRecord(**facts, last_attempt=last)


def _attempt(row: Any) -> AttemptRecord:
    facts = dict(row)
    facts["outcome"] = StepState(facts["outcome"])
    facts["error"] = decode(facts["error"])
    facts["metadata"] = decode(facts["metadata"])
    return AttemptRecord(**facts)
