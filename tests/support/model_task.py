"""What the engine does with one task and its steps, told once more in plain Python.

A task decides what is enqueued, held, halted or parked, and when it completes, blocks or is
over a limit. Which steps a decision or a batch adds it is told; templates/expansion.py has
proofs of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from support.gates import Says
from support.turns import Lane
from tasker_core.templates.graph import initial_steps
from tasker_core.templates.limits import limits_of
from tasker_core.templates.model import BatchConfig, StepDefinition, TaskTemplate

ENDED_STEP = {"complete", "resolved_manually", "cancelled"}
DONE = {"complete", "resolved_manually"}
ALIVE = {"enqueued", "in_progress", "waiting_for_retry"}
FINAL = {"complete", "cancelled", "resolved_manually"}  # of a task; one in error can be reset
GIVE_UP = "blocked_by_failures"  # the limit of the time in this state


@dataclass
class Step:
    """What is known of one step."""

    no: int
    name: str
    own: StepDefinition
    lane: Lane
    parents: Sequence[int]
    batch_of: int | None = None  # of a batch worker: its analyzer
    config: BatchConfig = field(default_factory=BatchConfig)  # of its batch
    is_held: bool = False  # as many of the batch as may run come before it
    state: str = "pending"
    executions: int = 0  # that have ended
    forgiven: int = 0
    due: datetime | None = None
    holder: UUID | None = None
    lease_ends: datetime | None = None
    checkpoint: Any = None
    result: Any = None

    @property
    def max_attempts(self) -> int:
        return max(1, self.own.retry.max_attempts)

    @property
    def plain_delay(self) -> float:
        """The rest after its last attempt in milliseconds, but for the jitter."""
        n = self.executions - self.forgiven
        factor = {
            "none": 0,
            "linear": n,
            "exponential": 2 ** (n - 1),
            "fibonacci": (1, 1, 2, 3, 5)[n - 1],
        }[self.own.retry.backoff]
        return min(self.own.retry.first_delay_ms * factor, self.own.retry.max_backoff_ms)

    def end(self, state: str) -> None:
        """Leave the hands of a worker, if it is in any; that was an execution."""
        self.executions += self.state == "in_progress"
        self.state, self.holder, self.due = state, None, None

    def succeed(self, state: str = "complete", result: Any = None) -> None:
        self.end(state)
        self.is_held, self.checkpoint, self.result = False, None, result

    def fail(self, retryable: bool) -> None:
        self.end("error")
        if retryable and self.executions - self.forgiven < self.max_attempts:
            self.state = "waiting_for_retry"

    def yield_at(self, checkpoint: Any) -> None:
        """Not an attempt: the execution is forgiven at once."""
        self.end("enqueued")
        self.forgiven += 1
        self.checkpoint = checkpoint

    def reset(self, drops_checkpoint: bool) -> None:
        self.state, self.forgiven = "pending", self.executions
        self.is_held = self.batch_of is not None  # until there is room beside its siblings
        if drops_checkpoint:
            self.checkpoint = None


@dataclass
class Task:
    """What is known of one task."""

    uuid: UUID
    template: TaskTemplate
    says: Says
    rank: int
    since: datetime  # its duration counts from here
    entered: datetime  # its state
    state: str = "steps_in_process"
    steps: dict[int, Step] = field(default_factory=dict)
    letter: str | None = None  # the reason of its dead letter

    def begin(self) -> None:
        """Take the steps that every task of the template begins with."""
        for planned in initial_steps(self.template):
            self._add(planned.step_no, planned.name, planned.name, planned.parents)
        self.move_on(self.since)

    def grow(self, plan: dict[str, Any] | None) -> None:
        """Take what a gate adds; of a batch, hold those that are too many to run at a time."""
        at = 0
        for new in plan["steps"] if plan else ():
            step = self._add(new["step_no"], new["name"], new["template_step"], new["parents"])
            if step.own.type == "batch_worker":
                step.batch_of = new["batch_of"]
                step.config = self.steps[step.batch_of].own.batch_config or BatchConfig()
                step.is_held = at >= step.config.parallelism
                at += 1

    def _add(self, no: int, name: str, template_step: str, parents: Sequence[int]) -> Step:
        own = self.template.step(template_step)
        lane = Lane(self.template.namespace, own.handler.callable)
        self.steps[no] = Step(no, name, own, lane, parents)
        return self.steps[no]

    # --- who may begin ---

    @property
    def has_ended(self) -> bool:
        return self.state in FINAL or self.state == "error"

    @property
    def failed(self) -> list[Step]:
        return [step for step in self.steps.values() if step.state == "error"]

    def is_halted(self, step: Step) -> bool:
        """Say whether a failure holds a step back; in a batch, its strategy speaks for siblings."""
        return any(
            step.config.failure_strategy == "fail_fast"
            if step.batch_of is not None and failed.batch_of == step.batch_of
            else self.template.on_failure == "halt"
            for failed in self.failed
        )

    def below(self, ended: set[int]) -> list[Step]:
        return [step for step in self.steps.values() if ended & {*step.parents}]

    def parents_left(self, step: Step) -> int:
        return sum(self.steps[parent].state not in DONE for parent in step.parents)

    def release(self, among: Iterable[Step], now: datetime) -> list[Step]:
        """Enqueue those of these steps that may begin; a retry rests until its time."""
        released = [
            step
            for step in among
            if step.state == "pending"
            and not (step.is_held or self.parents_left(step) or self.is_halted(step))
        ]
        for step in released:
            waits = step.due is not None and step.due > now
            step.state = "waiting_for_retry" if waits else "enqueued"
        return released

    # --- what follows from a change ---

    def move_on(self, now: datetime) -> None:
        """Enqueue, park and fill up; then see whether all is done."""
        if self.has_ended:
            return
        self.release(self.steps.values(), now)
        for step in self.steps.values():
            if step.state in {"enqueued", "waiting_for_retry"} and self.is_halted(step):
                step.state = "pending"
        for step in [one for one in self.steps.values() if one.is_held]:
            beside = [one for one in self.steps.values() if one.batch_of == step.batch_of]
            room = step.config.parallelism - sum(one.state in ALIVE for one in beside)
            if room > 0 and not self.is_halted(step):
                step.is_held = False
                self.release([step], now)
        self.see_state(now)

    def see_state(self, now: datetime) -> None:
        found = {step.state for step in self.steps.values()}
        if self.has_ended:
            return
        if found & {"enqueued", "in_progress"}:
            state = "steps_in_process"
        elif "waiting_for_retry" in found:
            state = "waiting_for_retry"
        else:
            state = "complete" if found <= DONE else "blocked_by_failures"
        if state != self.state:
            self.state, self.entered = state, now

    def resume(self, now: datetime) -> None:
        """Go on after an operator's word, also if time has ended the task."""
        if self.state == "error":
            self.state, self.entered = "steps_in_process", now
        self.since = now
        self.move_on(now)

    def stop(self, state: str, now: datetime) -> None:
        """End it from outside: what runs ends, what waits is parked; a cancel ends all."""
        for step in self.steps.values():
            if step.state == "in_progress":
                step.end("error" if state == "error" else "cancelled")
            elif state == "cancelled" and step.state not in ENDED_STEP:
                step.end("cancelled")
            elif step.state in ALIVE:
                step.state = "pending"
            if step.state == "cancelled":
                step.is_held = False
        self.state, self.entered = state, now

    def put_aside(self, reason: str) -> None:
        self.letter = self.letter or reason

    def put_ranges_aside(self) -> None:
        """Have somebody look at what a batch that isolates its failures left out."""
        if any(s.batch_of and s.config.failure_strategy == "isolate" for s in self.failed):
            self.put_aside("max_retries_exceeded")

    # --- time ---

    def limits(self) -> dict[str, datetime]:
        """Say at which moments it is over which limit, if it stays as it is."""
        limits = limits_of(self.template) or {}
        acts = limits.get("fails") or limits.get("files")
        begun = {"duration": self.since, self.state: self.entered}
        return {
            name: since + timedelta(seconds=limits[name])
            for name, since in begun.items()
            if name in limits and not self.has_ended and (acts or name == GIVE_UP)
        }
