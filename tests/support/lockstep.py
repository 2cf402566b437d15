"""The engine and the model in lock step: each move is made in both, and then they are compared.

The outcome of a move is read from the engine only where chance or its own clock has a say:
the jitter of a rest, and which of two equally good lanes goes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from support.clock import Clock
from support.comparison import compare
from support.flows import LEASE, Worker, begin, done, failed
from support.model import End, Model
from support.model_task import ENDED_STEP, FINAL, Step, Task
from support.random_flows import CALLABLES, DEPOT, SHOP, Flow
from support.turns import Lane, Turn, fair_turns
from tasker_core.engine.claim import Claim, Work, list_lanes
from tasker_core.engine.expand import plan_expansion, plan_resolution
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.lease import beat
from tasker_core.engine.operate import (
    cancel_task,
    complete_step,
    reset_step,
    reset_task,
    resolve_step,
    resolve_task,
)
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.errors import TransitionRefused
from tasker_core.payload import decode, encode
from tasker_core.templates.fate import GATES

TABLES = (
    *("template_steps", "lanes", "templates", "tasks", "steps", "workers", "dlq_entries"),
    *("ready", "delayed", "leases", "attempts", "changes"),
)
EPOCH = 1_577_836_800  # of ranks: 2020
BY = {"actor": "ann", "reason": "I looked"}
SERVED = (  # by each worker, if there are such lanes
    [Lane(space, one) for space in (SHOP, DEPOT) for one in CALLABLES],
    [Lane(DEPOT, "x"), Lane(SHOP, "x")],
    [Lane(SHOP, "y"), Lane(SHOP, "z"), Lane(DEPOT, "z")],
)
RESTS = {"rest": timedelta(seconds=3), "long rest": timedelta(seconds=100)}


class LockStep:
    """PostgreSQL, a model of it, and three workers; `met` counts what has occurred."""

    def __init__(self, conn: asyncpg.Connection, met: Counter[str]) -> None:
        self.clock = Clock(conn)
        self.model = Model()
        self.workers = [Worker(conn) for _ in SERVED]
        self.claims: list[tuple[int, Claim]] = []  # all that there ever were
        self._conn = conn
        self._met = met
        self._plans: dict[tuple[UUID, int, int], str | None] = {}  # that came with a success
        self._names = count(1)

    async def do(self, move: Coroutine[Any, Any, None]) -> None:
        """Make one move of those below, and compare."""
        await self.clock.advance(0.001)
        await move
        self._met.update(["moves", f"move: {move.__name__}"])
        self._met.update(await compare(self._conn, self.model, await self.clock.now()))

    async def clean(self) -> None:
        """Empty the tables, and begin with the same time and chance as ever."""
        await self._conn.execute(";".join(f"delete from tasker.{table}" for table in TABLES))
        await self.clock.tick()
        await self._conn.execute("select setseed(0.5)")

    async def create(self, flow: Flow, copies: int, priority: int) -> None:
        made = flow.named(f"flow_{next(self._names)}")
        now = await self.clock.now()
        rank = round(now.timestamp()) - EPOCH - 60 * priority
        for uuid in await begin(self._conn, made, copies, priority=priority):
            task = self.model.tasks[uuid] = Task(uuid, made, flow.says, rank, now, now)
            task.begin()
        known = {
            Lane(one.namespace, one.callable): one.lane for one in await list_lanes(self._conn)
        }
        for worker, lanes in zip(self.workers, SERVED, strict=True):
            worker.lanes = [known[lane] for lane in lanes if lane in known]

    async def beat(self, who: int) -> None:
        worker = self.workers[who]
        lanes = await worker.served()
        await beat(
            self._conn, worker.uuid, host="here", pid=1, version="1", concurrency=1, lanes=lanes
        )
        known = {Lane(one.namespace, one.callable) for one in await list_lanes(self._conn)}
        self.model.seen[who] = await self.clock.now(), known.intersection(SERVED[who])

    async def claim(self, who: int, limit: int) -> None:
        work = await self.workers[who].look(limit)
        await self._note_work(who, limit, work)

    async def _note_work(
        self, who: int, limit: int, work: Work, handed: Sequence[tuple[Task, Step]] = ()
    ) -> None:
        now = await self.clock.now()
        self.model.enqueue_due(now)
        expected = [Turn(step.lane, task.rank, task.uuid) for task, step in handed]
        waiting = self.model.waiting(SERVED[who], {id(step) for _, step in handed})
        found = []
        for claim in work.claims:
            task = self.model.tasks[claim.task_uuid]
            step = task.steps[claim.step_no]
            found.append(Turn(step.lane, task.rank, task.uuid))
            assert step.state == "enqueued"
            assert (claim.name, claim.attempt) == (step.name, step.executions + 1)
            assert (claim.forgiven, claim.max_attempts) == (step.forgiven, step.max_attempts)
            assert decode(claim.checkpoint) == step.checkpoint
            parents = [task.steps[parent] for parent in step.parents]
            results = {one.name: one.result for one in parents if one.state == "complete"}
            assert (decode(claim.parent_results) or {}) == results
            step.state, step.holder = "in_progress", self.workers[who].uuid
            step.lease_ends = claim.claimed_at + LEASE
            self.claims.append((who, claim))
            self._meet("claim", f"of a {step.own.type}")
            self._meet("claim", "with a checkpoint", if_=step.checkpoint is not None)
            self._meet("claim", "after several parents", if_=len(parents) > 1)
            self._meet("claim", "again", if_=step.executions > 0)
        lanes = [turn.lane for turn in found[len(handed) :]]
        self._meet("claim", "of two namespaces", if_=len({lane.namespace for lane in lanes}) > 1)
        self._meet("claim", "handed over by a finish", if_=bool(handed))
        room = limit - len(handed)
        assert found == expected + fair_turns(waiting, SERVED[who], room, lanes)
        dues = [step.due for _, step in self.model.steps("waiting_for_retry")]
        assert (work.due_in is None) == (not dues)
        if dues:
            assert abs(now + work.due_in - min(dues)) < timedelta(milliseconds=1)

    async def finish(self, who: int, ends: list[tuple[Claim, str]], limit: int) -> None:
        worker = self.workers[who]
        ends = self._with_one_gate_a_task(ends)
        finished = [await self._finished(worker, claim, outcome) for claim, outcome in ends]
        work = await worker.finish(*finished, claim=limit)

        refused = {(one.task_uuid, one.step_no, one.attempt) for one in work.refusals}
        recorded = []
        for (claim, outcome), end in zip(ends, finished, strict=True):
            key = _key(claim)
            by = None if outcome == "yield" else worker.uuid  # who may say it again
            if held := self.model.held(worker.uuid, claim):
                assert key not in refused
                self.model.recorded.add((by, *key))
                value = decode(end.checkpoint if outcome == "yield" else end.result)
                recorded.append(End(*held, outcome, value, decode(end.expansion)))
                self._meet("finish", outcome)
            else:
                is_known = not self.model.recorded.isdisjoint({(by, *key), (worker.uuid, *key)})
                assert (key in refused) != is_known
                self._meet("finish", "repeated" if is_known else "late")
        handed = self.model.finish(recorded, SERVED[who], limit, await self.clock.now())
        for end in recorded:
            self._meet_added(end.task, end.plan)
            if end.outcome not in {"success", "yield"}:
                await self._note_failure(end.task, end.step, RESTS.get(end.outcome))
        if worker.lanes or not ends:
            await self._note_work(who, limit, work, handed)
        else:  # results alone ask for nothing
            assert (work.claims, work.due_in) == ([], None)

    def _with_one_gate_a_task(self, ends: list[tuple[Claim, str]]) -> list[tuple[Claim, str]]:
        """Leave out what would have to be planned anew: see test_expand.py."""
        seen: set[UUID] = set()
        chosen = []
        for claim, outcome in ends:
            if outcome == "success" and self._step_of(claim).own.type in GATES:
                if claim.task_uuid in seen:
                    continue
                seen.add(claim.task_uuid)
            chosen.append((claim, outcome))
        return chosen

    async def _finished(self, worker: Worker, claim: Claim, outcome: str) -> Finished:
        """Say how an attempt ended, a repeated one in the same words."""
        if outcome == "yield":
            checkpoint = {"cursor": [claim.name, claim.attempt]}
            return replace(done(claim), result=None, checkpoint=encode(checkpoint))
        if outcome != "success":
            return failed(claim, outcome != "permanent", rest=RESTS.get(outcome))
        task, step = self.model.tasks[claim.task_uuid], self._step_of(claim)
        if self.model.held(worker.uuid, claim):
            self._plans[_key(claim)] = await self._plan(task, step)
        result = _result(task, step, claim.attempt)
        return replace(done(claim, result), expansion=self._plans.get(_key(claim)))

    async def _plan(self, task: Task, step: Step, has_result: bool = True) -> str | None:
        """Ask which steps a gate adds."""
        if step.own.type not in GATES:
            return None
        if not has_result:
            return await plan_resolution(self._conn, task.template, step.own, task.uuid)
        result = task.says.result(step.own.name)
        return await plan_expansion(self._conn, task.template, step.own, task.uuid, result)

    async def _note_failure(self, task: Task, step: Step, rest: timedelta | None) -> None:
        """Read when the next attempt is due, and hold it against the policy."""
        past = await self._conn.fetchrow(
            "select finished_at, due_at from tasker.attempts "
            "where task_uuid = $1 and step_no = $2 and attempt = $3",
            task.uuid,
            step.no,
            step.executions,
        )
        step.due = past["due_at"]
        assert (step.due is None) == (step.state == "error")
        if step.batch_of is not None and step.state == "error":
            self._meet("failed in a batch", step.config.failure_strategy)
        if step.due is not None:
            delay = (step.due - past["finished_at"]) / timedelta(milliseconds=1)
            if rest is not None:
                assert delay == rest / timedelta(milliseconds=1)
            else:
                assert step.plain_delay * 0.849 <= delay <= step.plain_delay * 1.151

    async def give_back(self, who: int, claims: list[Claim]) -> None:
        await self.workers[who].give_back(*claims)
        for claim in claims:
            if held := self.model.held(self.workers[who].uuid, claim):
                task, step = held
                step.state, step.holder = "enqueued", None
                task.move_on(await self.clock.now())

    async def renew(self, who: int) -> None:
        worker = self.workers[who]
        claims = self.claims_of(who, True)
        lost = await worker.renew(*claims)
        now = await self.clock.now()
        expected = set()
        for claim in claims:
            if held := self.model.held(worker.uuid, claim):
                held[1].lease_ends = now + LEASE
            else:
                expected.add((claim.task_uuid, claim.step_no, claim.attempt))
        assert {(one.task_uuid, one.step_no, one.attempt) for one in lost} == expected

    async def sweep(self) -> None:
        now = await self.clock.now()
        taken_back = await sweep(self._conn)
        lost = [held for held in self.model.steps("in_progress") if held[1].lease_ends < now]
        assert taken_back == len(lost)
        self.model.take_back(lost, now)
        for task, step in lost:
            self._meet("sweep", "a lost lease")
            await self._note_failure(task, step, None)
        now = await self.clock.now()
        self.model.enqueue_due(now)
        for task in self.model.tasks.values():
            for name, at in task.limits().items():
                self._meet("sweep", f"over a limit: {name}", if_=at <= now)
        self.model.end_what_is_late(now)

    async def operate(self, task: Task, step: Step, action: str, force: bool) -> None:
        uuid = step_uuid(task.uuid, step.no)
        result = _result(task, step, "by hand")
        is_legal = task.state not in FINAL and (
            step.state == "error"
            if action.startswith("reset")
            else step.state not in ENDED_STEP and (force or step.state != "in_progress")
        )
        calls = {
            "reset": reset_step,
            "reset and drop": partial(reset_step, drop_checkpoint=True),
            "resolve": partial(resolve_step, force=force),
            "complete": partial(_complete, result=result, force=force),
        }
        self._meet("operate", action, if_=is_legal)
        self._meet("operate", "forced", if_=is_legal and step.state == "in_progress")
        if not is_legal:
            self._meet("operate", "refused")
            with pytest.raises(TransitionRefused):
                await calls[action](self._conn, task.uuid, uuid, **BY)
            return
        plan = None
        if not action.startswith("reset"):
            plan = await self._plan(task, step, action == "complete")
        await calls[action](self._conn, task.uuid, uuid, **BY)
        if action == "complete":
            step.succeed(result=result)
        elif action == "resolve":
            step.succeed("resolved_manually")
        else:
            step.reset(action == "reset and drop")
        task.grow(decode(plan))
        self._meet_added(task, decode(plan))
        task.resume(await self.clock.now())

    async def end_task(self, task: Task, how: str) -> None:
        act = {"cancel": cancel_task, "resolve": resolve_task}[how]
        self._meet("end_task", "refused" if task.has_ended else how)
        if task.has_ended:
            with pytest.raises(TransitionRefused, match=f"it is {task.state}"):
                await act(self._conn, task.uuid, **BY)
            return
        await act(self._conn, task.uuid, **BY)
        state = {"cancel": "cancelled", "resolve": "resolved_manually"}[how]
        task.stop(state, await self.clock.now())

    async def reset_task(self, task: Task, drops_checkpoints: bool) -> None:
        act = partial(reset_task, drop_checkpoints=drops_checkpoints)
        is_legal = task.state not in FINAL and (bool(task.failed) or task.state == "error")
        self._meet("reset_task", f"it is {task.state}" if is_legal else "refused")
        if not is_legal:
            with pytest.raises(TransitionRefused, match=f"it is {task.state}"):
                await act(self._conn, task.uuid, **BY)
            return
        await act(self._conn, task.uuid, **BY)
        for step in task.failed:
            step.reset(drops_checkpoints)
        task.resume(await self.clock.now())

    # --- what there is ------------------------------------------------------------------------

    def _meet(self, what: str, how: str, *, if_: bool = True) -> None:
        self._met[f"{what}: {how}"] += if_

    def _meet_added(self, task: Task, plan: dict[str, Any] | None) -> None:
        for new in plan["steps"] if plan else ():
            self._meet("added", task.template.step(new["template_step"]).type)

    def claims_of(self, who: int, is_own: bool) -> list[Claim]:
        """The claims that a worker had, or those of all, the latest first."""
        return [claim for whose, claim in reversed(self.claims) if not is_own or whose == who]

    def held_by(self, who: int) -> list[Claim]:
        """The claims that a worker may still finish."""
        held = [
            one
            for one in self.model.steps("in_progress")
            if one[1].holder == self.workers[who].uuid
        ]
        keys = {(task.uuid, step.no, step.executions + 1) for task, step in held}
        return [claim for claim in self.claims_of(who, True) if _key(claim) in keys]

    def _step_of(self, claim: Claim) -> Step:
        return self.model.tasks[claim.task_uuid].steps[claim.step_no]


async def _complete(conn: asyncpg.Connection, *args: Any, **facts: Any) -> None:
    await complete_step(conn, TemplateShelf(), *args, **facts)


def _key(claim: Claim) -> tuple[UUID, int, int]:
    return claim.task_uuid, claim.step_no, claim.attempt


def _result(task: Task, step: Step, how: int | str) -> Any:
    """Say what a handler returns: of a gate, what it adds."""
    return task.says.result(step.own.name) if step.own.type in GATES else [step.name, how]
