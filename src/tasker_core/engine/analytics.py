"""Measure how tasks and steps do, and where the time goes.

Every figure is about the tasks that were created within a window of hours, up to now.
They are found by their ids, which tell when they were made, so no index stands on a time.
Failed are tasks in `error` and those `blocked_by_failures`; cancelled and manually
resolved ones are neither complete nor failed. An execution is an attempt that ended by
itself; see analytics.sql.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.payload import decode
from tasker_core.states import TASK_TERMINAL, StepState, TaskState

FAILED = (TaskState.ERROR, TaskState.BLOCKED_BY_FAILURES)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something took, in seconds; all None when nothing was measured."""

    average: float | None
    longest: float | None
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Performance:
    """How the tasks of a window do."""

    hours: int
    began_at: datetime
    calculated_at: datetime
    tasks: dict[TaskState, int]  # only states that occur
    task_duration: Timing  # of complete tasks, from creation to completion
    step_duration: Timing  # of executions, from the claim to the result
    queue_wait: Timing  # of executions, from the queue to the claim
    executions: int
    failed_executions: int
    retries: int  # executions of a step after its first

    @property
    def total_tasks(self) -> int:
        """How many tasks were created within the window."""
        return sum(self.tasks.values())

    @property
    def active_tasks(self) -> int:
        """How many of them have not ended; blocked ones count."""
        return sum(count for state, count in self.tasks.items() if state not in TASK_TERMINAL)

    @property
    def completed_tasks(self) -> int:
        """How many of them are complete."""
        return self.tasks.get(TaskState.COMPLETE, 0)

    @property
    def failed_tasks(self) -> int:
        """How many of them are in error or blocked."""
        return sum(self.tasks.get(state, 0) for state in FAILED)

    @property
    def completion_ratio(self) -> float:
        """The share of complete tasks in all of the window, 0 to 1; 0 if none."""
        return self.completed_tasks / self.total_tasks if self.tasks else 0.0

    @property
    def error_ratio(self) -> float:
        """The share of failed tasks in all of the window, 0 to 1; 0 if none."""
        return self.failed_tasks / self.total_tasks if self.tasks else 0.0

    @property
    def health_score(self) -> float:
        """The share of complete tasks in the complete and the failed ones; 1 if none."""
        judged = self.completed_tasks + self.failed_tasks
        return self.completed_tasks / judged if judged else 1.0

    @property
    def tasks_per_hour(self) -> float:
        """Complete tasks by the hours of the window."""
        return self.completed_tasks / self.hours

    @property
    def steps_per_hour(self) -> float:
        """Steps that a worker completed by the hours of the window: a step counts once."""
        return (self.executions - self.failed_executions) / self.hours


@dataclass(frozen=True, slots=True)
class SlowStep:
    """How one step of a version of a template does."""

    namespace: str
    task_name: str
    version: str
    step_name: str  # the template's, also for the steps of a batch
    executions: int
    failures: int  # executions that failed
    duration: Timing
    queue_wait: Timing
    last_executed_at: datetime

    @property
    def error_ratio(self) -> float:
        """The share of executions that failed, 0 to 1."""
        return self.failures / self.executions


@dataclass(frozen=True, slots=True)
class SlowTask:
    """How the tasks of a version of a template do."""

    namespace: str
    task_name: str
    version: str
    executions: int  # tasks that are complete or failed
    failures: int
    duration: Timing  # of the complete ones
    average_step_count: float
    last_executed_at: datetime | None  # when one was last complete

    @property
    def error_ratio(self) -> float:
        """The share of failed tasks in these, 0 to 1."""
        return self.failures / self.executions


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """Where the time of a window goes, the slowest by average first, and how all stands."""

    slow_steps: list[SlowStep]
    slow_tasks: list[SlowTask]
    tasks: dict[TaskState, int]  # only states that occur
    steps: dict[StepState, int]  # of these tasks


def _timing(seconds: str, where: str = "true") -> str:
    """Write the SQL of a `Timing`: an array in the order of its fields."""
    return (
        f"array[avg({seconds}) filter (where {where}), max({seconds}) filter (where {where})] || "
        f"coalesce(percentile_cont(array[0.5, 0.95, 0.99]) within group (order by {seconds}) "
        f"filter (where {where}), array[null, null, null]::double precision[])"
    )


_TASK_SECONDS = "date_part('epoch', task.completed_at - task.created_at)"

# $1 the least id, $2 and $3 begin and end of the window, $4 a namespace, $5 several, or null
_RECENT = """
with recent as materialized (
    select task.task_uuid, task.template_uuid, task.namespace, task.state,
        task.created_at, task.completed_at
    from tasker.tasks as task
    where task.task_uuid >= $1 and task.created_at between $2 and $3
        and ($4::text is null or task.namespace = $4)
        and ($5::text[] is null or task.namespace = any ($5))
)
"""

_TASK_COUNTS = """
(
    select json_object_agg(by_state.state, by_state.total)
    from (select task.state, count(*) as total from recent as task group by task.state) as by_state
) as tasks
"""

_PERFORMANCE = f"""
{_RECENT}
select ran.*, done.task_duration, {_TASK_COUNTS}
from (
    select {_timing(_TASK_SECONDS, "task.state = 'complete'")} as task_duration
    from recent as task
) as done
cross join (
    select count(*) as executions, count(*) filter (where run.has_failed) as failed_executions,
        count(*) filter (where run.is_retry) as retries,
        {_timing("run.run_seconds")} as step_duration, {_timing("run.wait_seconds")} as queue_wait
    from recent join tasker.executions as run using (task_uuid)
    where run.task_uuid >= $1
) as ran
"""

_BY_NAMESPACE = f"""
{_RECENT}
select task.namespace, task.state, count(*) as total
from recent as task group by 1, 2 order by 1, 2
"""

_SLOW_STEPS = f"""
{_RECENT}
select task.namespace, template.name as task_name, template.version,
    coalesce(step.template_step, step.name) as step_name,
    count(*) as executions, count(*) filter (where run.has_failed) as failures,
    {_timing("run.run_seconds")} as duration, {_timing("run.wait_seconds")} as queue_wait,
    max(run.finished_at) as last_executed_at
from recent as task
join tasker.templates as template using (template_uuid)
join tasker.executions as run using (task_uuid)
join tasker.steps as step using (task_uuid, step_no)
where run.task_uuid >= $1 and step.task_uuid >= $1
group by 1, 2, 3, 4
having count(*) >= $6
order by avg(run.run_seconds) desc nulls last, 1, 2, 3, 4
"""

_SLOW_TASKS = f"""
{_RECENT}
select task.namespace, template.name as task_name, template.version,
    count(*) as executions, count(*) filter (where task.state <> 'complete') as failures,
    {_timing(_TASK_SECONDS, "task.state = 'complete'")} as duration,
    avg(counted.step_count)::double precision as average_step_count,
    max(task.completed_at) filter (where task.state = 'complete') as last_executed_at
from recent as task
join tasker.templates as template using (template_uuid)
join (
    select step.task_uuid, count(*) as step_count from tasker.steps as step
    where step.task_uuid >= $1 group by step.task_uuid
) as counted using (task_uuid)
where task.state in ('complete', 'error', 'blocked_by_failures')
group by 1, 2, 3
having count(*) >= $6
order by avg({_TASK_SECONDS}) filter (where task.state = 'complete') desc nulls last, 1, 2, 3
"""

_COUNTS = f"""
{_RECENT}
select {_TASK_COUNTS}, (
    select json_object_agg(by_state.state, by_state.total)
    from (
        select step.state, count(*) as total
        from recent join tasker.step_states as step using (task_uuid)
        where step.task_uuid >= $1 group by step.state
    ) as by_state
) as steps
"""


@dataclass(frozen=True, slots=True)
class _Window:
    first_uuid: UUID
    began_at: datetime
    ends_at: datetime


async def measure_performance(
    conn: Connection,
    *,
    hours: int,
    namespace: str | None = None,
    namespaces: Sequence[str] | None = None,
) -> Performance:
    """Measure how the tasks do that were created within the last hours.

    Args:
        hours: How far back.
        namespace: Only of this one.
        namespaces: And of one of these.
    """
    window = await _window(conn, hours)
    row = await conn.fetchrow(_PERFORMANCE, *_arguments(window, namespace, namespaces))
    assert row is not None  # aggregates without groups
    facts = dict(row)
    for name in ("task_duration", "step_duration", "queue_wait"):
        facts[name] = Timing(*facts[name])
    facts["tasks"] = _counts(TaskState, facts["tasks"])
    return Performance(hours=hours, began_at=window.began_at, calculated_at=window.ends_at, **facts)


async def count_by_namespace(
    conn: Connection, *, hours: int, namespaces: Sequence[str] | None = None
) -> dict[str, dict[TaskState, int]]:
    """Count the tasks that were created within the last hours, by namespace and state.

    Args:
        namespaces: Only of these.
    """
    window = await _window(conn, hours)
    rows = await conn.fetch(_BY_NAMESPACE, *_arguments(window, None, namespaces))
    counts: dict[str, dict[TaskState, int]] = {}
    for row in rows:
        counts.setdefault(row["namespace"], {})[TaskState(row["state"])] = row["total"]
    return counts


async def find_bottlenecks(
    conn: Connection,
    *,
    hours: int,
    min_executions: int,
    namespace: str | None = None,
    namespaces: Sequence[str] | None = None,
) -> Bottlenecks:
    """Find where the time goes of the tasks that were created within the last hours.

    Args:
        min_executions: Steps and tasks with fewer executions are left out.
        namespace, namespaces: As above.
    """
    window = await _window(conn, hours)
    arguments = _arguments(window, namespace, namespaces)
    steps = await conn.fetch(_SLOW_STEPS, *arguments, min_executions)
    tasks = await conn.fetch(_SLOW_TASKS, *arguments, min_executions)
    counts = await conn.fetchrow(_COUNTS, *arguments)
    assert counts is not None
    return Bottlenecks(
        [
            SlowStep(
                **{
                    **row,
                    "duration": Timing(*row["duration"]),
                    "queue_wait": Timing(*row["queue_wait"]),
                }
            )
            for row in steps
        ],
        [SlowTask(**{**row, "duration": Timing(*row["duration"])}) for row in tasks],
        _counts(TaskState, counts["tasks"]),
        _counts(StepState, counts["steps"]),
    )


async def _window(conn: Connection, hours: int) -> _Window:
    """Look at the clock. Ids are made by the clocks of others, which may be an hour behind."""
    row = await conn.fetchrow(
        "select tasker.first_uuid(now - $1::interval - interval '1 hour') as first_uuid, "
        "now - $1::interval as began_at, now as ends_at from tasker.now()",
        timedelta(hours=hours),
    )
    assert row is not None
    return _Window(**row)


def _arguments(
    window: _Window, namespace: str | None, namespaces: Sequence[str] | None
) -> tuple[Any, ...]:
    return window.first_uuid, window.began_at, window.ends_at, namespace, namespaces


def _counts(kind: type[Any], found: str | None) -> dict[Any, int]:
    counts: Mapping[str, int] = decode(found) or {}
    return {kind(state): total for state, total in counts.items()}
