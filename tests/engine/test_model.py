"""Whatever is done in whatever order, the engine does what a small model does.

The model keeps tasks, steps and leases in Python and knows nothing of tables. After
every move it is compared with the database, and the invariants are checked there.
At the end of each run every task is driven to its end: nothing may be stuck.

A long campaign, with as many runs as one likes, each of up to 80 moves:

    TASKER_MODEL_RUNS=2000 TASKER_MODEL_MOVES=80 pytest tests/engine/test_model.py -s

Hypothesis prints the shortest failing run it finds as a list of moves, and the line that
repeats it; --hypothesis-seed=N repeats a whole campaign.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.clock import Clock
from support.flows import LEASE, Worker, begin, done, failed, template
from support.invariants import check_history, check_invariants
from tasker_core.engine.claim import Claim, Work, list_lanes
from tasker_core.engine.ids import STEP_BITS, step_uuid
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
from tasker_core.payload import decode

RUNS = int(os.environ.get("TASKER_MODEL_RUNS", "40"))
MOVES = int(os.environ.get("TASKER_MODEL_MOVES", "40"))

ENDED_STEP = {"complete", "resolved_manually", "cancelled"}
DONE = {"complete", "resolved_manually"}
BY = {"actor": "ann", "reason": "I looked"}
TABLES = (
    *("template_steps", "lanes", "templates", "tasks", "steps"),
    *("ready", "delayed", "leases", "attempts", "changes"),
)


# --- the model -----------------------------------------------------------------------------


@dataclass
class Step:
    """What is known of one step."""

    no: int
    name: str
    lane: str
    parents: list[int]
    retry: dict[str, Any]
    state: str = "pending"
    executions: int = 0  # that have ended
    forgiven: int = 0
    due: datetime | None = None
    holder: UUID | None = None
    lease_ends: datetime | None = None
    result: Any = None

    @property
    def max_attempts(self) -> int:
        return max(1, self.retry["max_attempts"])

    def fail(self, retryable: bool) -> None:
        self.executions += 1
        self.holder = None
        again = retryable and self.executions - self.forgiven < self.max_attempts
        self.state = "waiting_for_retry" if again else "error"


@dataclass
class Task:
    """What is known of one task."""

    uuid: UUID
    halts: bool
    rank: int  # the lowest goes first
    steps: dict[int, Step]
    ended: str | None = None

    @property
    def failed_count(self) -> int:
        return sum(step.state == "error" for step in self.steps.values())

    @property
    def is_halted(self) -> bool:
        return self.halts and self.failed_count > 0

    def parents_left(self, step: Step) -> int:
        return sum(self.steps[parent].state not in DONE for parent in step.parents)

    def move_on(self, now: datetime) -> None:
        """Park or enqueue what the states of the steps ask for; see whether all is done."""
        for step in self.steps.values():
            if self.is_halted and step.state in {"enqueued", "waiting_for_retry"}:
                step.state = "pending"
            elif step.state == "pending" and not self.is_halted and not self.parents_left(step):
                waits = step.due is not None and step.due > now
                step.state = "waiting_for_retry" if waits else "enqueued"
        if all(step.state in DONE for step in self.steps.values()):
            self.ended = self.ended or "complete"

    @property
    def state(self) -> str:
        found = {step.state for step in self.steps.values()}
        if self.ended:
            return self.ended
        if found & {"enqueued", "in_progress"}:
            return "steps_in_process"
        if "waiting_for_retry" in found:
            return "waiting_for_retry"
        return "blocked_by_failures"


@dataclass
class Model:
    """All tasks, and whose results were recorded."""

    tasks: dict[UUID, Task] = field(default_factory=dict)
    recorded: set[tuple[UUID, UUID, int, int]] = field(default_factory=set)

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

    def handed(
        self, lanes: Collection[str], limit: int, before: set[tuple[UUID, int]]
    ) -> list[tuple[str, int, UUID, int]]:
        """Say what a finish hands over: what it released, unless what ranks before it waits."""
        enqueued = [
            (step.lane, task.rank, task.uuid, step.no)
            for task, step in self.steps("enqueued")
            if step.lane in lanes
        ]
        waiting = [one[1] for one in enqueued if one[2:] in before]
        released = [one for one in enqueued if one[2:] not in before]
        urgent = min(waiting, default=2**31)
        return sorted((one for one in released if one[1] <= urgent), key=lambda one: one[1:])[
            :limit
        ]

    def best(
        self, lanes: list[str], limit: int, without: Collection[tuple[UUID, int]] = ()
    ) -> list[tuple[str, int, UUID]]:
        """Say what a claim must bring: (lane, rank, task) of each step, best first.

        Of lanes whose first steps are equally good, the order is that of `lanes`.
        """
        queues: dict[str, list[tuple[int, UUID]]] = {}
        for task, step in self.steps("enqueued"):
            if step.lane in lanes and (task.uuid, step.no) not in without:
                queues.setdefault(step.lane, []).append((task.rank, task.uuid))
        for queue in queues.values():
            queue.sort()
        order = sorted((lane for lane in lanes if lane in queues), key=lambda lane: queues[lane][0])
        return [(lane, *best) for lane in order for best in queues[lane]][:limit]


# --- random templates ----------------------------------------------------------------------

retries = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(0, 3),
        "backoff": st.sampled_from(["none", "linear", "exponential", "fibonacci"]),
        "backoff_base_ms": st.sampled_from([0, 100, 5000]),
        "max_backoff_ms": st.just(20_000),
    }
)


@st.composite
def flows(draw: st.DrawFn) -> dict[str, Any]:
    """A graph of up to eight steps on three lanes."""
    size = draw(st.integers(1, 8))
    names = [f"s{n}" for n in range(1, size + 1)]
    graph = {
        name: draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        for n, name in enumerate(names)
    }
    return {
        "graph": graph,
        "retries": {name: draw(retries) for name in names},
        "callables": {name: draw(st.sampled_from("xyz")) for name in names},
        "on_failure": draw(st.sampled_from(["halt", "halt", "continue"])),
    }


outcomes = st.sampled_from(["success"] * 4 + ["retryable", "retryable", "permanent", "rest"])
REST = timedelta(seconds=3)
numbers = st.integers(0, 2**16)


# --- the moves -----------------------------------------------------------------------------


class Moves(RuleBasedStateMachine):
    """Every function of the engine that changes something, as a move."""

    moves_made = 0

    def __init__(self, runner: asyncio.Runner, conn: asyncpg.Connection) -> None:
        super().__init__()
        self._runner = runner
        self._conn = conn
        self._clock = Clock(conn)
        self._names = count(1)
        self.model = Model()
        self.workers = [Worker(conn) for _ in range(3)]
        self.lanes = [list("xyz"), ["x"], ["y", "z"]]
        self.claims: list[tuple[int, Claim]] = []  # all that there ever were
        self.is_sound = True

    def do(self, move: Coroutine[Any, Any, None]) -> None:
        """Make one move, and compare."""
        self.is_sound = False
        Moves.moves_made += 1
        self._runner.run(self._compared(move))
        self.is_sound = True

    async def _compared(self, move: Coroutine[Any, Any, None]) -> None:
        await self._clock.advance(0.001)
        await move
        await self.compare()

    @initialize(flow=flows())
    def start(self, flow: dict[str, Any]) -> None:
        async def clean() -> None:
            await self._conn.execute(";".join(f"delete from tasker.{table}" for table in TABLES))
            await self._clock.tick()
            await self._conn.execute("select setseed(0.5)")

        self._runner.run(clean())
        self.do(self._create(flow, 2, 0))

    @precondition(lambda self: len(self.model.tasks) < 5)
    @rule(flow=flows(), copies=st.integers(1, 2), priority=st.integers(-1, 1))
    def create(self, flow: dict[str, Any], copies: int, priority: int) -> None:
        self.do(self._create(flow, copies, priority))

    @rule(who=st.integers(0, 2), limit=st.integers(0, 5))
    def claim(self, who: int, limit: int) -> None:
        self.do(self._claim(who, limit))

    @precondition(lambda self: self.claims)
    @rule(
        who=st.integers(0, 2),
        chosen=st.lists(st.tuples(numbers, outcomes), min_size=1, max_size=4),
        is_own=st.sampled_from([True] * 5 + [False]),
        limit=st.integers(0, 3),
    )
    def finish(self, who: int, chosen: list[tuple[int, str]], is_own: bool, limit: int) -> None:
        ends = {}
        for number, outcome in chosen:
            claims = self._claims_of(who, is_own)
            if claims:
                claim = claims[number % len(claims)]
                ends.setdefault((claim.task_uuid, claim.step_no, claim.attempt), (claim, outcome))
        self.do(self._finish(who, list(ends.values()), limit))

    @precondition(lambda self: self.claims)
    @rule(who=st.integers(0, 2), number=numbers, times=st.integers(2, 3))
    def repeat_a_call(self, who: int, number: int, times: int) -> None:
        claims = self._claims_of(who, True)
        if claims:
            for _ in range(times):
                self.do(self._finish(who, [(claims[number % len(claims)], "success")], 1))

    @precondition(lambda self: self.model.steps("in_progress"))
    @rule(who=st.integers(0, 2), chosen=st.lists(numbers, min_size=1, max_size=3))
    def give_back(self, who: int, chosen: list[int]) -> None:
        if claims := self._claims_of(who, True):
            given = {number % len(claims) for number in chosen}
            self.do(self._give_back(who, [claims[number] for number in given]))

    @precondition(lambda self: self.claims)
    @rule(who=st.integers(0, 2))
    def renew(self, who: int) -> None:
        self.do(self._renew(who))

    @rule()
    def sweep(self) -> None:
        self.do(self._sweep())

    @rule(seconds=st.sampled_from([0.1, 2.0, 29.0, 31.0, 400.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.do(self._clock.advance(seconds))

    @precondition(lambda self: self.model.steps("waiting_for_retry"))
    @rule()
    def let_time_pass_to_the_next_retry(self) -> None:
        async def advance() -> None:
            due = min(step.due for _, step in self.model.steps("waiting_for_retry"))
            rest = due - await self._clock.now()
            await self._clock.advance(max(rest.total_seconds() - 0.001, 0.0))

        self.do(advance())

    @rule(
        number=numbers,
        action=st.sampled_from(["reset", "resolve", "complete"]),
        force=st.booleans(),
        aims_at_errors=st.booleans(),
    )
    def operate(self, number: int, action: str, force: bool, aims_at_errors: bool) -> None:
        steps = self.model.steps("error") if aims_at_errors else []
        steps = steps or [(t, s) for t in self.model.tasks.values() for s in t.steps.values()]
        self.do(self._operate(*steps[number % len(steps)], action, force))

    @rule(number=numbers, sure=st.integers(0, 3), how=st.sampled_from(["cancel", "resolve"]))
    def end_task(self, number: int, sure: int, how: str) -> None:
        if sure == 0:
            tasks = list(self.model.tasks.values())
            self.do(self._end_task(tasks[number % len(tasks)], how))

    @rule(number=numbers)
    def reset_task(self, number: int) -> None:
        tasks = [t for t in self.model.tasks.values() if t.failed_count] or [
            *self.model.tasks.values()
        ]
        self.do(self._reset_task(tasks[number % len(tasks)]))

    def teardown(self) -> None:
        """Drive every task to its end."""
        if not self.is_sound or not self.model.tasks:
            return
        for turn in range(400):
            if all(task.ended for task in self.model.tasks.values()):
                break
            self.do(self._clock.advance(4000))
            self.do(self._sweep())
            self.do(self._claim(0, 100))
            held = [claim for claim in self._claims_of(0, True) if self._holds(0, claim)]
            if held:
                self.do(self._finish(0, [(claim, "success") for claim in held], 100))
            elif errors := [one for one in self.model.steps("error") if not one[0].ended]:
                action = ("reset", "resolve", "complete")[turn % 3]
                self.do(self._operate(*errors[0], action, False))
        stuck = [task for task in self.model.tasks.values() if not task.ended]
        assert not stuck, f"these tasks are stuck: {stuck}"

    # --- one move each: in the engine, then in the model --------------------------------------

    async def _create(self, flow: dict[str, Any], copies: int, priority: int) -> None:
        made = template(name=f"flow_{next(self._names)}", **flow)
        rank = round((await self._clock.now()).timestamp()) - 60 * priority
        for uuid in await begin(self._conn, made, copies, priority=priority):
            steps = [
                Step(no, name, flow["callables"][name], [], flow["retries"][name])
                for no, name in enumerate(flow["graph"], 1)
            ]
            number = {step.name: step.no for step in steps}
            for step in steps:
                step.parents = [number[parent] for parent in flow["graph"][step.name]]
            task = Task(uuid, made.on_failure == "halt", rank, {s.no: s for s in steps})
            task.move_on(await self._clock.now())
            self.model.tasks[uuid] = task
        served = await list_lanes(self._conn)
        for worker, lanes in zip(self.workers, self.lanes, strict=True):
            worker.lanes = [lane.lane for lane in served if lane.callable in lanes]

    async def _claim(self, who: int, limit: int) -> None:
        work = await self.workers[who].look(limit)
        await self._note_work(who, limit, work)

    async def _note_work(
        self, who: int, limit: int, work: Work, handed: Sequence[tuple[str, int, UUID, int]] = ()
    ) -> None:
        now = await self._clock.now()
        self.model.enqueue_due(now)
        found = []
        brought = [
            self.model.tasks[c.task_uuid].steps[c.step_no].lane for c in work.claims[len(handed) :]
        ]
        lanes = sorted(self.lanes[who], key=lambda lane: [*brought, lane].index(lane))
        by_hand = {(uuid, no) for _, _, uuid, no in handed}
        expected = [one[:3] for one in handed]
        expected += self.model.best(lanes, limit - len(handed), by_hand)
        for claim in work.claims:
            task = self.model.tasks[claim.task_uuid]
            step = task.steps[claim.step_no]
            found.append((step.lane, task.rank, task.uuid))
            assert step.state == "enqueued"
            assert (claim.name, claim.attempt) == (step.name, step.executions + 1)
            assert (claim.forgiven, claim.max_attempts) == (step.forgiven, step.max_attempts)
            parents = [task.steps[parent] for parent in step.parents]
            results = {one.name: one.result for one in parents if one.state == "complete"}
            assert (decode(claim.parent_results) or {}) == results
            step.state, step.holder = "in_progress", self.workers[who].uuid
            step.lease_ends = claim.claimed_at + LEASE
            self.claims.append((who, claim))
        assert found == expected
        dues = [step.due for _, step in self.model.steps("waiting_for_retry")]
        assert (work.due_in is None) == (not dues)
        if dues:
            assert abs(now + work.due_in - min(dues)) < timedelta(milliseconds=1)

    async def _finish(self, who: int, ends: list[tuple[Claim, str]], limit: int) -> None:
        worker = self.workers[who]
        before = {(task.uuid, step.no) for task, step in self.model.steps("enqueued")}
        calls = {
            "success": lambda claim: done(claim, [claim.name, claim.attempt]),
            "retryable": failed,
            "permanent": lambda claim: failed(claim, False),
            "rest": lambda claim: failed(claim, rest=REST),
        }
        work = await worker.finish(*(calls[outcome](claim) for claim, outcome in ends), claim=limit)

        refused = {(one.task_uuid, one.step_no, one.attempt) for one in work.refusals}
        touched = []
        for claim, outcome in ends:
            key = (claim.task_uuid, claim.step_no, claim.attempt)
            held = self.model.held(worker.uuid, claim)
            if held is None:
                assert (key in refused) == ((worker.uuid, *key) not in self.model.recorded)
                continue
            assert key not in refused
            self.model.recorded.add((worker.uuid, *key))
            task, step = held
            touched.append(task)
            if outcome == "success":
                step.executions += 1
                step.state, step.holder = "complete", None
                step.result = [claim.name, claim.attempt]
            else:
                step.fail(outcome != "permanent")
                await self._note_due(task, step, REST if outcome == "rest" else None)
        for task in touched:
            task.move_on(await self._clock.now())
        handed = self.model.handed(self.lanes[who], limit, before)
        await self._note_work(who, limit, work, handed)

    async def _note_due(self, task: Task, step: Step, rest: timedelta | None) -> None:
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
        if step.due is not None:
            delay = (step.due - past["finished_at"]) / timedelta(milliseconds=1)
            if rest is not None:
                assert delay == rest / timedelta(milliseconds=1)
            else:
                plain = self._plain_delay(step)
                assert plain * 0.849 <= delay <= plain * 1.151

    def _plain_delay(self, step: Step) -> float:
        n = step.executions - step.forgiven
        factor = {
            "none": 0,
            "linear": n,
            "exponential": 2 ** (n - 1),
            "fibonacci": (1, 1, 2, 3, 5)[n - 1],
        }[step.retry["backoff"]]
        return min(step.retry["backoff_base_ms"] * factor, step.retry["max_backoff_ms"])

    async def _give_back(self, who: int, claims: list[Claim]) -> None:
        await self.workers[who].give_back(*claims)
        for claim in claims:
            if held := self.model.held(self.workers[who].uuid, claim):
                task, step = held
                step.state, step.holder = "enqueued", None
                task.move_on(await self._clock.now())

    async def _renew(self, who: int) -> None:
        worker = self.workers[who]
        claims = self._claims_of(who, True)
        lost = await worker.renew(*claims)
        now = await self._clock.now()
        expected = set()
        for claim in claims:
            if held := self.model.held(worker.uuid, claim):
                held[1].lease_ends = now + LEASE
            else:
                expected.add((claim.task_uuid, claim.step_no, claim.attempt))
        assert {(one.task_uuid, one.step_no, one.attempt) for one in lost} == expected

    async def _sweep(self) -> None:
        now = await self._clock.now()
        taken_back = await sweep(self._conn)
        lost = [held for held in self.model.steps("in_progress") if held[1].lease_ends < now]
        assert taken_back == len(lost)
        for task, step in lost:
            step.fail(True)
            await self._note_due(task, step, None)
        for task, _ in lost:
            task.move_on(await self._clock.now())
        self.model.enqueue_due(await self._clock.now())

    async def _operate(self, task: Task, step: Step, action: str, force: bool) -> None:
        uuid = step_uuid(task.uuid, step.no)
        result = {"by": "hand"}
        is_legal = not task.ended and (
            step.state == "error"
            if action == "reset"
            else step.state not in ENDED_STEP and (force or step.state != "in_progress")
        )
        calls = {
            "reset": partial(reset_step),
            "resolve": partial(resolve_step, force=force),
            "complete": partial(_complete, result=result, force=force),
        }
        if not is_legal:
            with pytest.raises(TransitionRefused):
                await calls[action](self._conn, task.uuid, uuid, **BY)
            return
        await calls[action](self._conn, task.uuid, uuid, **BY)
        if action == "reset":
            step.state, step.forgiven = "pending", step.executions
        else:
            step.executions += step.state == "in_progress"
            step.state = "resolved_manually" if action == "resolve" else "complete"
            step.holder, step.result = None, None if action == "resolve" else result
        task.move_on(await self._clock.now())

    async def _end_task(self, task: Task, how: str) -> None:
        act = {"cancel": cancel_task, "resolve": resolve_task}[how]
        if task.ended:
            with pytest.raises(TransitionRefused, match=f"it is {task.ended}"):
                await act(self._conn, task.uuid, **BY)
            return
        await act(self._conn, task.uuid, **BY)
        task.ended = {"cancel": "cancelled", "resolve": "resolved_manually"}[how]
        for step in task.steps.values():
            if step.state == "in_progress" or (how == "cancel" and step.state not in ENDED_STEP):
                step.executions += step.state == "in_progress"
                step.state, step.holder = "cancelled", None
            elif step.state in {"enqueued", "waiting_for_retry"}:
                step.state = "pending"

    async def _reset_task(self, task: Task) -> None:
        if task.ended or not task.failed_count:
            with pytest.raises(TransitionRefused, match=f"it is {task.state}"):
                await reset_task(self._conn, task.uuid, **BY)
            return
        await reset_task(self._conn, task.uuid, **BY)
        for step in task.steps.values():
            if step.state == "error":
                step.state, step.forgiven = "pending", step.executions
        task.move_on(await self._clock.now())

    # --- what there is ------------------------------------------------------------------------

    def _claims_of(self, who: int, is_own: bool) -> list[Claim]:
        """The claims that a worker had, or those of all, the latest first."""
        return [claim for whose, claim in reversed(self.claims) if not is_own or whose == who]

    def _holds(self, who: int, claim: Claim) -> bool:
        return self.model.held(self.workers[who].uuid, claim) is not None

    async def compare(self) -> None:
        """Hold the database against the model."""
        steps = await self._conn.fetch(
            "select task_uuid, step_no, state, attempt, forgiven, parents_left, worker_uuid, "
            "result from tasker.step_states order by task_uuid, step_no"
        )
        assert [tuple(row) for row in steps] == [
            (
                task.uuid,
                step.no,
                step.state,
                step.executions + (step.state == "in_progress"),
                step.forgiven,
                task.parents_left(step),
                step.holder,
                None if step.result is None else row["result"],
            )
            for row, (task, step) in zip(
                steps,
                ((t, t.steps[n]) for _, t in sorted(self.model.tasks.items()) for n in t.steps),
                strict=True,
            )
        ]
        tasks = await self._conn.fetch("select task_uuid, state, failed_count from tasker.tasks")
        assert {row["task_uuid"]: (row["state"], row["failed_count"]) for row in tasks} == {
            task.uuid: (task.state, task.failed_count) for task in self.model.tasks.values()
        }
        await check_invariants(self._conn)
        await check_history(self._conn)


def test_any_order_of_moves_does_what_the_model_does(clean_database, clock, monkeypatch):
    """Random graphs through every function of the engine, in random order, to their end."""
    ascending = (UUID(int=n << STEP_BITS) for n in count(1))  # so that a run can be repeated
    monkeypatch.setattr("tasker_core.engine.create.new_task_uuid", ascending.__next__)
    with asyncio.Runner() as runner:
        conn = runner.run(asyncpg.connect(clean_database))
        try:
            run_state_machine_as_test(
                lambda: Moves(runner, conn),
                settings=settings(
                    max_examples=RUNS,
                    stateful_step_count=MOVES,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink),
                    print_blob=True,
                ),
            )
        finally:
            runner.run(conn.close())
    print(f"{Moves.moves_made} moves")


async def _complete(conn: asyncpg.Connection, *args: Any, **facts: Any) -> None:
    await complete_step(conn, TemplateShelf(), *args, **facts)
