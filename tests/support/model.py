"""What the engine does, told once more: in plain Python, without tables, one thing at a time.

The model is a dictionary of tasks (model_task.py), what was recorded, and who was seen. It
says what a finish hands over and a sweep takes back, and why a step waits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from support.model_task import DONE, GIVE_UP, Step, Task
from support.turns import Lane, Turn
from tasker_core.engine.claim import Claim
from tasker_core.templates.limits import limits_of

SILENT = timedelta(seconds=60)  # a worker that says nothing for so long does not count


class End(NamedTuple):
    """How one attempt ends."""

    task: Task
    step: Step
    outcome: str  # success, yield, permanent; anything else is retried
    value: Any  # the result or the checkpoint
    plan: dict[str, Any] | None  # what the step adds


@dataclass
class Model:
    """All tasks, whose results were recorded, and the workers that have said they are alive."""

    tasks: dict[UUID, Task] = field(default_factory=dict)
    recorded: set[tuple[UUID | None, UUID, int, int]] = field(default_factory=set)  # None: yields
    seen: dict[int, tuple[datetime, Collection[Lane]]] = field(default_factory=dict)

    def steps(self, *states: str) -> list[tuple[Task, Step]]:
        return [
            (task, step)
            for task in self.tasks.values()
            for step in task.steps.values()
            if step.state in states
        ]

    def held(self, worker: UUID, claim: Claim) -> tuple[Task, Step] | None:
        """Find the step of a claim, if this worker has it on loan for this attempt."""
        task = self.tasks[claim.task_uuid]
        step = task.steps[claim.step_no]
        is_held = step.holder == worker and step.executions + 1 == claim.attempt
        return (task, step) if is_held else None

    def enqueue_due(self, now: datetime) -> None:
        for _, step in self.steps("waiting_for_retry"):
            assert step.due is not None
            if step.due <= now:
                step.state = "enqueued"
        for task in self.tasks.values():
            task.see_state(now)

    # --- what ends ---

    def finish(
        self, ends: list[End], lanes: Collection[Lane], room: int, now: datetime
    ) -> list[tuple[Task, Step]]:
        """Record these ends; give the steps that are handed over with the answer."""
        tasks = {end.task.uuid: end.task for end in ends}.values()
        done: dict[UUID, set[int]] = {task.uuid: set() for task in tasks}
        for end in ends:
            if end.outcome == "yield":
                end.step.yield_at(end.value)
            elif end.outcome == "success":
                end.step.succeed(result=end.value)
                done[end.task.uuid].add(end.step.no)
            else:
                end.step.fail(end.outcome != "permanent")
        for end in ends:
            end.task.grow(end.plan)

        # what begins beside the children waits before these are handed over
        below = {uuid: self.tasks[uuid].below(ended) for uuid, ended in done.items()}
        for task in tasks:
            task.release([s for s in task.steps.values() if s not in below[task.uuid]], now)
        waiting = self.waiting(lanes)
        released = [(t, child) for t in tasks for child in t.release(below[t.uuid], now)]
        handed = self.handed(released, waiting, lanes, room)
        self.follow([(end.task, end.step) for end in ends], now)
        return handed

    def take_back(self, lost: list[tuple[Task, Step]], now: datetime) -> None:
        """Fail what was on loan for too long."""
        for _, step in lost:
            step.fail(True)
        self.follow(lost, now)

    def follow(self, ended: list[tuple[Task, Step]], now: datetime) -> None:
        """Move the tasks on, and have somebody look at ranges that a batch leaves out."""
        for task, _ in ended:
            task.move_on(now)
        if any(step.batch_of and step.state in {"error", "complete"} for _, step in ended):
            for task, step in ended:
                if step.state == "error":
                    task.put_ranges_aside()

    # --- whose turn it is ---

    def waiting(self, lanes: Collection[Lane], without: Collection[int] = ()) -> list[Turn]:
        """List what is enqueued, but for these step objects."""
        return [
            Turn(step.lane, task.rank, task.uuid)
            for task, step in self.steps("enqueued")
            if step.lane in lanes and id(step) not in without
        ]

    def handed(
        self,
        released: list[tuple[Task, Step]],
        waiting: list[Turn],
        lanes: Collection[Lane],
        room: int,
    ) -> list[tuple[Task, Step]]:
        """Say what a finish hands over: unless what ranks before it waits, or another namespace."""
        may_go = [
            (task, step)
            for task, step in released
            if step.lane in lanes
            and all(
                task.rank <= other.rank and step.lane.namespace == other.lane.namespace
                for other in waiting
            )
        ]
        return sorted(may_go, key=lambda one: (one[0].rank, one[0].uuid, one[1].no))[:room]

    # --- why ---

    def cause(self, task: Task, step: Step, now: datetime) -> str | None:
        """Say why a step is neither running nor done."""
        if step.state in DONE or step.state == "in_progress":
            return None
        if step.state in {"error", "cancelled"}:
            return {"error": "failed"}.get(step.state, step.state)
        if task.has_ended:
            return "task_ended"
        if task.parents_left(step):
            return "waits_for_parents"
        if task.is_halted(step):
            return "blocked_by_failures"
        if step.is_held:
            return "waits_for_batch"
        if step.state == "waiting_for_retry" and step.due is not None and step.due > now:
            return "waits_for_retry"
        lanes = self.served(now)
        if all(lane.namespace != step.lane.namespace for lane in lanes):
            return "no_worker_in_namespace"
        return "waits_for_worker" if step.lane in lanes else "no_worker_with_handler"

    def served(self, now: datetime) -> set[Lane]:
        return {lane for at, lanes in self.seen.values() if at + SILENT > now for lane in lanes}

    # --- time ---

    def end_what_is_late(self, now: datetime) -> None:
        """Do to each task over a limit what its template says; one that is given up ends."""
        for task in self.tasks.values():
            over = {name for name, at in task.limits().items() if at <= now}
            if not over:
                continue
            limits = limits_of(task.template) or {}
            enqueued = [step for step in task.steps.values() if step.state == "enqueued"]
            if limits["files"] and GIVE_UP in over:
                task.put_aside("max_retries_exceeded")
            elif limits["files"] and any(s.lane not in self.served(now) for s in enqueued):
                task.put_aside("worker_unavailable")
            elif limits["files"]:
                task.put_aside("staleness_timeout")
            if limits["fails"] or GIVE_UP in over:
                task.stop("error", now)
