"""Whatever is done in whatever order, the engine does what a small model does.

The model (tests/support/model.py) keeps tasks, steps and leases in Python and knows nothing
of tables. After every move it is compared with the database, why each step waits included,
and the invariants are checked there. At the end of each run every task is driven to its end:
nothing may be stuck.

A campaign has as many runs as one likes, each of up to so many moves, in rounds of 20. It
prints the seed of each round and what has occurred; a long one fails if something that
should occur never did.

    TASKER_MODEL_RUNS=1000 TASKER_MODEL_MOVES=80 pytest tests/engine/test_model.py -s

Of a run that fails the shortest like it is printed, as a list of moves. The line that is
printed before repeats the round.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.lockstep import RESTS, LockStep
from support.model import Model
from support.model_task import FINAL
from support.random_flows import Flow, flows
from tasker_core.engine.claim import Claim
from tasker_core.engine.ids import STEP_BITS

RUNS = int(os.environ.get("TASKER_MODEL_RUNS", "20"))
MOVES = int(os.environ.get("TASKER_MODEL_MOVES", "40"))
SEED = int(os.environ.get("TASKER_MODEL_SEED", Random().randrange(2**32)))
ROUND = 20  # runs of one seed: those of Hypothesis resemble each other
LONG = 400  # runs in which everything that can occur does

MET: Counter[str] = Counter()
OCCURS = {
    "why": "failed, cancelled, task_ended, waits_for_parents, blocked_by_failures, "
    "waits_for_batch, waits_for_retry, no_worker_in_namespace, no_worker_with_handler, "
    "waits_for_worker",
    "step": "pending, enqueued, in_progress, waiting_for_retry, complete, error, cancelled, "
    "resolved_manually",
    "task": "steps_in_process, waiting_for_retry, blocked_by_failures, complete, error, "
    "cancelled, resolved_manually",
    "dead letter": "max_retries_exceeded, staleness_timeout, worker_unavailable",
    "added": "standard, decision, batchable, batch_worker, deferred_convergence",
    "claim": "again, after several parents, with a checkpoint, of two namespaces, "
    "handed over by a finish",
    "finish": "success, retryable, permanent, yield, rest, late, repeated",
    "failed in a batch": "continue_on_failure, fail_fast, isolate",
    "sweep": "a lost lease, over a limit: duration, over a limit: waiting_for_retry, "
    "over a limit: blocked_by_failures",
    "operate": "reset, reset and drop, resolve, complete, forced, refused",
    "end_task": "cancel, resolve, refused",
    "reset_task": "it is blocked_by_failures, it is error, refused",
}

outcomes = st.sampled_from(
    ["success"] * 5 + ["retryable", "retryable", "permanent", "yield", "yield", *RESTS]
)
numbers = st.integers(0, 2**16)
Ends = list[tuple[int, str]]  # which of some claims, and how it ends
ends = st.lists(st.tuples(numbers, outcomes), min_size=1, max_size=4)


class Moves(RuleBasedStateMachine):
    """Every function of the engine that changes something, as a move."""

    def __init__(self, runner: asyncio.Runner, conn: asyncpg.Connection) -> None:
        super().__init__()
        self._run = runner.run
        self._both = LockStep(conn, MET)
        self._is_sound = True

    @property
    def model(self) -> Model:
        return self._both.model

    def do(self, move: Coroutine[Any, Any, None]) -> None:
        """Make one move in both, and compare."""
        self._is_sound = False
        self._run(self._both.do(move))
        self._is_sound = True

    @initialize(flow=flows(), alive=st.sets(st.integers(0, 2)))
    def start(self, flow: Flow, alive: set[int]) -> None:
        self._run(self._both.clean())
        self.do(self._both.create(flow, 2, 0))
        for who in sorted(alive):
            self.do(self._both.beat(who))

    @precondition(lambda self: len(self.model.tasks) < 5)
    @rule(flow=flows(), copies=st.integers(1, 2), priority=st.integers(-1, 1))
    def create(self, flow: Flow, copies: int, priority: int) -> None:
        self.do(self._both.create(flow, copies, priority))

    @rule(who=st.integers(0, 2))
    def say_that_it_lives(self, who: int) -> None:
        self.do(self._both.beat(who))

    @rule(who=st.integers(0, 2), limit=st.integers(0, 5))
    def claim(self, who: int, limit: int) -> None:
        self.do(self._both.claim(who, limit))

    @precondition(lambda self: self.model.steps("in_progress"))
    @rule(who=st.integers(0, 2), ends=ends, limit=st.integers(0, 3))
    def finish(self, who: int, ends: Ends, limit: int) -> None:
        self.finish_some(who, self._both.held_by(who), ends, limit)

    @precondition(lambda self: self.model.steps("enqueued"))
    @rule(who=st.integers(0, 2), room=st.integers(1, 5), ends=ends, limit=st.integers(0, 3))
    def claim_and_finish(self, who: int, room: int, ends: Ends, limit: int) -> None:
        self.do(self._both.claim(who, room))
        self.finish_some(who, self._both.held_by(who), ends, limit)

    @precondition(lambda self: self._both.claims)
    @rule(who=st.integers(0, 2), is_own=st.booleans(), ends=ends, limit=st.integers(0, 3))
    def finish_too_late(self, who: int, is_own: bool, ends: Ends, limit: int) -> None:
        self.finish_some(who, self._both.claims_of(who, is_own), ends, limit)

    def finish_some(self, who: int, claims: list[Claim], ends: Ends, limit: int) -> None:
        """Finish some of these claims at once, each in one way."""
        chosen = {}
        for number, outcome in ends if claims else ():
            claim = claims[number % len(claims)]
            chosen.setdefault((claim.task_uuid, claim.step_no, claim.attempt), (claim, outcome))
        self.do(self._both.finish(who, list(chosen.values()), limit))

    @precondition(lambda self: self._both.claims)
    @rule(who=st.integers(0, 2), number=numbers, times=st.integers(2, 3))
    def repeat_a_call(self, who: int, number: int, times: int) -> None:
        claims = self._both.claims_of(who, True)
        if claims:
            for _ in range(times):
                self.do(self._both.finish(who, [(claims[number % len(claims)], "success")], 1))

    @precondition(lambda self: self.model.steps("in_progress"))
    @rule(who=st.integers(0, 2), chosen=st.lists(numbers, min_size=1, max_size=3))
    def give_back(self, who: int, chosen: list[int]) -> None:
        if claims := self._both.claims_of(who, True):
            given = {number % len(claims) for number in chosen}
            self.do(self._both.give_back(who, [claims[number] for number in given]))

    @precondition(lambda self: self._both.claims)
    @rule(who=st.integers(0, 2))
    def renew(self, who: int) -> None:
        self.do(self._both.renew(who))

    @rule()
    def sweep(self) -> None:
        self.do(self._both.sweep())

    @rule(seconds=st.sampled_from([0.1, 2.0, 2.0, 5.0, 29.0, 31.0, 400.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.do(self._both.clock.advance(seconds))

    @precondition(lambda self: self.model.steps("waiting_for_retry"))
    @rule()
    def let_time_pass_to_the_next_retry(self) -> None:
        async def advance() -> None:
            due = min(step.due for _, step in self.model.steps("waiting_for_retry"))
            rest = due - await self._both.clock.now()
            await self._both.clock.advance(max(rest.total_seconds() - 0.001, 0.0))

        self.do(advance())

    @precondition(lambda self: any(task.limits() for task in self.model.tasks.values()))
    @rule(number=numbers, sure=st.integers(0, 1), more=st.sampled_from([-1, 1]))
    def let_time_pass_to_a_limit(self, number: int, sure: int, more: int) -> None:
        if sure > 0:
            return
        moments = sorted({at for t in self.model.tasks.values() for at in t.limits().values()})

        async def advance() -> None:
            rest = moments[number % len(moments)] - await self._both.clock.now()
            await self._both.clock.advance(max(rest.total_seconds() + more, 0.0))

        self.do(advance())
        self.do(self._both.sweep())

    @rule(
        number=numbers,
        action=st.sampled_from(["reset", "reset and drop", "resolve", "complete"]),
        force=st.booleans(),
        aims_at_errors=st.booleans(),
    )
    def operate(self, number: int, action: str, force: bool, aims_at_errors: bool) -> None:
        steps = self.model.steps("error") if aims_at_errors else []
        steps = steps or [(t, s) for t in self.model.tasks.values() for s in t.steps.values()]
        self.do(self._both.operate(*steps[number % len(steps)], action, force))

    @rule(number=numbers, sure=st.integers(0, 3), how=st.sampled_from(["cancel", "resolve"]))
    def end_task(self, number: int, sure: int, how: str) -> None:
        if sure == 0:
            tasks = list(self.model.tasks.values())
            self.do(self._both.end_task(tasks[number % len(tasks)], how))

    @rule(number=numbers, drops_checkpoints=st.booleans())
    def reset_task(self, number: int, drops_checkpoints: bool) -> None:
        tasks = [t for t in self.model.tasks.values() if t.failed or t.state == "error"]
        tasks = tasks or [*self.model.tasks.values()]
        self.do(self._both.reset_task(tasks[number % len(tasks)], drops_checkpoints))

    def teardown(self) -> None:
        """Drive every task to its end."""
        if not self._is_sound or not self.model.tasks:
            return
        for turn in range(400):
            if all(task.state in FINAL for task in self.model.tasks.values()):
                break
            self._run(self._both.clock.advance(40))
            self.do(self._both.sweep())
            for task in [one for one in self.model.tasks.values() if one.state == "error"]:
                self.do(self._both.reset_task(task, False))
            if not self._both.held_by(0):
                self.do(self._both.claim(0, 100))
            if held := self._both.held_by(0):
                self.do(self._both.finish(0, [(claim, "success") for claim in held], 100))
            elif errors := [one for one in self.model.steps("error") if not one[0].has_ended]:
                action = ("reset", "resolve", "complete")[turn % 3]
                self.do(self._both.operate(*errors[0], action, False))
        stuck = [task for task in self.model.tasks.values() if task.state not in FINAL]
        assert not stuck, f"these tasks are stuck: {stuck}"


def test_any_order_of_moves_does_what_the_model_does(clean_database, clock, monkeypatch):
    """Random graphs through every function of the engine, in random order, to their end."""
    ascending = (UUID(int=n << STEP_BITS) for n in count(1))  # so that a run can be repeated
    monkeypatch.setattr("tasker_core.engine.create.new_task_uuid", ascending.__next__)
    with asyncio.Runner() as runner:
        conn = runner.run(asyncpg.connect(clean_database))
        try:
            for at in range(0, RUNS, ROUND):
                play_round(runner, conn, SEED + at // ROUND, min(ROUND, RUNS - at))
        finally:
            runner.run(conn.close())
    for what, times in sorted(MET.items()):
        print(f"{times:8,}  {what}")
    expected = {f"{what}: {how}" for what, hows in OCCURS.items() for how in hows.split(", ")}
    never = sorted(expected - set(+MET))
    assert RUNS < LONG or not never, f"these never occurred: {never}"


def play_round(runner: asyncio.Runner, conn: asyncpg.Connection, seed: int, runs: int) -> None:
    """Make some runs that this seed decides."""
    print(f"TASKER_MODEL_SEED={seed} TASKER_MODEL_RUNS={runs} TASKER_MODEL_MOVES={MOVES}")
    run_state_machine_as_test(
        hypothesis.seed(seed)(lambda: Moves(runner, conn)),
        settings=settings(
            max_examples=runs,
            stateful_step_count=MOVES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
        ),
    )
