"""What a test may ask about a run, as it stood at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.inspect import (
    AttemptRecord,
    StepRecord,
    TaskRecord,
    get_task,
    list_attempts,
    list_steps,
    list_transitions,
)
from tasker_core.states import StepState


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step of a run."""

    name: str
    state: StepState  # equals its name: step.state == "complete"
    attempts: int  # executions in all, those before a reset too
    result: Any  # what its handler returned, as JSON; None while it is not complete
    error: dict[str, Any] | None  # of the last attempt, if that failed:
    # {"message": str, "error_type": str, "error_code": str?, "retryable": bool, "traceback": str?}
    due_at: datetime | None  # of the next attempt, while it waits for a retry
    checkpoint: Any
    record: StepRecord  # all that the database knows

    @property
    def error_code(self) -> str | None:
        """The code of the last attempt's error, if it has one."""
        return (self.error or {}).get("error_code")


@dataclass(frozen=True, slots=True)
class RunTransition:
    """One change of state of the task (`step` None) or of a step."""

    step: str | None
    from_state: str
    to_state: str
    moved_at: datetime
    attempt: int | None
    action: str | None  # an operator's, or "advance" for the task
    actor: str | None
    reason: str | None


class Results(dict[str, Any]):
    """Step → result; a step without one says why there is none."""

    def __init__(self, steps: dict[str, RunStep]) -> None:
        super().__init__(
            {name: step.result for name, step in steps.items() if step.state == "complete"}
        )
        self._steps = steps

    def __missing__(self, name: str) -> Any:
        step = self._steps.get(name)
        if step is None:
            raise KeyError(f"the task has no step {name!r}; it has {', '.join(self._steps)}")
        raise KeyError(f"step {name!r} has no result: it is {_said(step)}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything about a task, read at once."""

    task: TaskRecord
    steps: dict[str, RunStep]
    attempts: list[AttemptRecord]
    transitions: list[RunTransition]
    now: datetime

    def attempts_of(self, step: str) -> list[AttemptRecord]:
        """Give the attempts of a step, the first one first."""
        step_no = self.steps[step].record.step_no
        return sorted((a for a in self.attempts if a.step_no == step_no), key=lambda a: a.attempt)

    def describe(self) -> str:
        """Show task and steps, a line each."""
        width = max((len(name) for name in self.steps), default=0)
        lines = [f"task {self.task.namespace}/{self.task.name} is {self.task.state}"]
        lines += [f"  {one.name:<{width}}  {_said(one, self.now)}" for one in self.steps.values()]
        return "\n".join(lines)


async def read_snapshot(conn: Connection, task_uuid: UUID) -> Snapshot:
    """Read a task whole.

    Raises:
        UnknownTask: There is no such task.
    """
    task = await get_task(conn, task_uuid)
    attempts = await list_attempts(conn, task_uuid)
    records = await list_steps(conn, task_uuid)
    names = {record.step_no: record.name for record in records}
    transitions = [
        RunTransition(
            None if one.step_no is None else names[one.step_no],
            one.from_state,
            one.to_state,
            one.moved_at,
            one.attempt,
            one.action,
            one.actor,
            one.reason,
        )
        for one in await list_transitions(conn, task_uuid)
    ]
    counts = {number: sum(1 for a in attempts if a.step_no == number) for number in names}
    steps = {record.name: _step(record, counts[record.step_no]) for record in records}
    now: datetime = await conn.fetchval("select tasker.now()")
    return Snapshot(task, steps, attempts, transitions, now)


def _step(record: StepRecord, attempts: int) -> RunStep:
    last = record.last_attempt
    return RunStep(
        name=record.name,
        state=record.state,
        attempts=attempts,
        result=record.result,
        error=last.error if last is not None and record.state != StepState.COMPLETE else None,
        due_at=record.due_at,
        checkpoint=record.checkpoint,
        record=record,
    )


def _said(step: RunStep, now: datetime | None = None) -> str:
    parts = [str(step.state)]
    if step.attempts:
        parts.append(f"{step.attempts} attempt{'s' * (step.attempts != 1)}")
    if step.due_at is not None and now is not None:
        parts.append(f"next in {_seconds(step.due_at - now)}")
    if step.error is not None:
        code = step.error.get("error_code")
        kind = step.error.get("error_type", "error")
        message = str(step.error.get("message", "")).splitlines()
        shown = message[0][:200] if message else ""
        parts.append(f"{kind}{f' {code}' if code else ''}: {shown}")
    return ", ".join(parts)


def _seconds(span: timedelta) -> str:
    return f"{round(span.total_seconds(), 3):g} s"
