"""One true cause for every step that is neither running nor done."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from uuid import uuid4

import pytest

from support.flows import (
    CHAIN,
    DIAMOND,
    ONE,
    Worker,
    begin,
    begin_one,
    done,
    failed,
    state,
    states,
    step_id,
    template,
)
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.lease import beat
from tasker_core.engine.operate import cancel_task, reset_step
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.engine.why import explain, why
from tasker_core.errors import UnknownTask
from tasker_core.payload import encode
from tasker_core.states import TASK_TERMINAL, StepState
from tasker_core.templates.load import parse_template

pytestmark = pytest.mark.usefixtures("consistent")

BY = {"actor": "ann", "reason": "I looked"}


async def causes(conn, task):
    return {one.name: one.cause for one in await why(conn, TemplateShelf(), task)}


async def told(conn, task, name):
    found = await why(conn, TemplateShelf(), task)
    return next(explain(one) for one in found if one.name == name)


async def show_up(conn, worker, lanes=None):
    """Say that the worker is alive, as the real one does."""
    lanes = await worker.served() if lanes is None else lanes
    await beat(conn, worker.uuid, host="here", pid=1, version="1", concurrency=1, lanes=lanes)


async def test_what_runs_and_what_is_done_needs_no_reason(conn, worker):
    """Only the rest is listed."""
    task = await begin_one(conn, template(CHAIN))
    await worker.run("a")
    await worker.claim_one()

    assert await causes(conn, task) == {"c": "waits_for_parents"}
    assert await told(conn, task, "c") == "waits for b (in_progress)"


async def test_nobody_is_there(conn, worker):
    """No worker at all, none in the namespace, or none with the handler."""
    task = await begin_one(conn, template(ONE))
    assert await causes(conn, task) == {"a": "no_worker_in_namespace"}

    await begin_one(conn, template({"other": []}, name="two"))
    lanes = [lane.lane for lane in await list_lanes(conn) if lane.callable == "other"]
    await show_up(conn, worker, lanes)
    assert await causes(conn, task) == {"a": "no_worker_with_handler"}
    assert await told(conn, task, "a") == "no live worker has the handler a"


async def test_a_worker_that_fell_silent_does_not_count(conn, worker, clock):
    """A minute after its last beat."""
    task = await begin_one(conn, template(ONE))
    await show_up(conn, worker)
    assert await causes(conn, task) == {"a": "waits_for_worker"}

    await clock.advance(61)

    assert await causes(conn, task) == {"a": "no_worker_in_namespace"}


async def test_how_many_go_before_it(conn, worker):
    """In its lane."""
    tasks = await begin(conn, template(ONE), 3)
    await show_up(conn, worker)

    assert await told(conn, max(tasks), "a") == "enqueued, with 2 steps before it"


async def test_a_retry_has_its_time(conn, worker, clock):
    """Until then it waits, and after that for a worker."""
    task = await begin_one(conn, template(ONE, retry={"max_attempts": 3}))
    await show_up(conn, worker)
    await worker.fail(await worker.claim_one())

    assert await causes(conn, task) == {"a": "waits_for_retry"}
    assert "1 attempt of 3 made" in await told(conn, task, "a")

    await clock.advance(10)
    assert await causes(conn, task) == {"a": "waits_for_worker"}


async def test_a_failure_blocks_what_could_run(conn, worker):
    """Its siblings wait for the operator; what comes after it, for itself."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.run("a")
    claims = {claim.name: claim for claim in await worker.claim()}
    await worker.give_back(claims["c"])
    await worker.fail(claims["b"], retryable=False)

    assert await causes(conn, task) == {
        "b": "failed", "c": "blocked_by_failures", "d": "waits_for_parents"
    }  # fmt: skip
    assert await told(conn, task, "b") == "failed for good after 1 attempt: handler_error: no"
    assert await told(conn, task, "c") == (
        "blocked until b (handler_error: no), which failed, is reset, resolved or completed"
    )
    assert (await told(conn, task, "d")).startswith("waits for b (error: handler_error: no), c (")


@pytest.mark.parametrize("strategy", ["continue_on_failure", "fail_fast"])
async def test_only_what_blocks_is_named(conn, worker, strategy):
    """Not a sibling in a batch whose failure its batch tolerates."""
    task = await begin_one(conn, template({f"s{n}": [] for n in range(1, 6)}))
    await conn.execute(
        "update tasker.steps set batch_of = 99, failure_strategy = $1 where step_no <= 3", strategy
    )
    claims = {claim.name: claim for claim in await worker.claim()}
    await worker.give_back(claims["s3"], claims["s5"])
    await worker.fail(claims["s1"], claims["s2"], claims["s4"], retryable=False)

    blocking = {
        one.name: [step["name"] for step in one.detail["steps"]]
        for one in await why(conn, TemplateShelf(), task)
        if one.cause == "blocked_by_failures"
    }

    siblings = ["s1", "s2"] if strategy == "fail_fast" else []
    assert blocking == {"s3": [*siblings, "s4"], "s5": ["s1", "s2", "s4"]}


async def test_the_last_error_is_told_where_a_step_waits_for_another_try(conn, worker, clock):
    """Of the step itself and of what comes after it, and no longer than it can be read."""
    task = await begin_one(conn, template(CHAIN, retry={"max_attempts": 3}))
    claim = await worker.claim_one()
    await worker.finish(
        replace(failed(claim), error=encode({"message": "x" * 999, "error_type": "Odd"}))
    )

    assert (await told(conn, task, "a")).endswith(f"1 attempt of 3 made: Odd: {'x' * 200}")
    assert await told(conn, task, "b") == f"waits for a (waiting_for_retry: Odd: {'x' * 200})"

    await clock.advance(60)
    await worker.run("a")
    assert await told(conn, task, "c") in ("waits for b (enqueued)", "waits for b (in_progress)")


async def test_a_cancelled_task(conn, worker):
    """Every step that had not ended."""
    task = await begin_one(conn, template(CHAIN))
    await worker.run("a")
    await cancel_task(conn, task, **BY)

    assert await causes(conn, task) == {"b": "cancelled", "c": "cancelled"}


async def test_steps_that_may_come(conn, worker):
    """As long as a decision is open, nobody knows."""
    report = parse_template("""
name: choice
namespace_name: shop
version: 1.0.0
steps:
  - {name: look, handler: {callable: x}}
  - {name: route, type: decision, handler: {callable: x}, dependencies: [look]}
  - {name: left, handler: {callable: x}, dependencies: [route]}
  - {name: right, handler: {callable: x}, dependencies: [route]}
""")
    task = await begin_one(conn, report.template)
    await worker.claim_one()

    assert await causes(conn, task) == {
        "route": "waits_for_parents", "left": "waits_for_decision", "right": "waits_for_decision"
    }  # fmt: skip
    assert await told(conn, task, "left") == "not known yet whether it comes: route decide"


async def test_an_unknown_task(conn):
    """Is said to be one."""
    with pytest.raises(UnknownTask):
        await why(conn, TemplateShelf(), uuid4())


# --- causes and claims say the same ---------------------------------------------------------


def random_flow(dice):
    """A graph of up to seven steps on three lanes."""
    names = [f"s{n}" for n in range(dice.randint(2, 7))]
    graph = {n: dice.sample(names[:at], dice.randint(0, min(at, 2))) for at, n in enumerate(names)}
    return template(
        graph,
        name=f"flow_{dice.randint(0, 10**9)}",
        callables={name: dice.choice("xyz") for name in names},
        retry={"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 5000},
        on_failure=dice.choice(["halt", "continue"]),
    )


@pytest.mark.parametrize("seed", range(15))
async def test_a_claim_brings_what_waits_for_a_worker_and_nothing_else(conn, clock, seed):
    """In every state that random moves lead to: whoever holds the two together sees one truth."""
    dice = Random(seed)
    tasks = [await begin_one(conn, random_flow(dice)) for _ in range(3)]
    alive, silent = Worker(conn), Worker(conn)
    able = dice.choice(["xy", "xyz", "x"])
    alive.lanes = [lane.lane for lane in await list_lanes(conn) if lane.callable in able]

    for _ in range(40):
        await clock.advance(dice.choice([0.1, 1, 6]))
        await show_up(conn, alive)
        worker = dice.choice([alive, silent])
        for claim in await worker.claim(dice.randint(0, 3)):
            await clock.advance(0.1)
            if dice.random() < 0.2:
                continue  # it goes on, or its lease runs out
            await worker.finish(
                done(claim) if dice.random() < 0.6 else failed(claim, dice.random() < 0.6)
            )
        if dice.random() < 0.1:
            await clock.advance(31)
            await sweep(conn)
        await clock.advance(0.1)
        task = dice.choice(tasks)
        broken = [n for n, s in (await states(conn, task)).items() if s is StepState.ERROR]
        if broken and dice.random() < 0.5:
            await reset_step(conn, task, await step_id(conn, task, dice.choice(broken)), **BY)
        await clock.advance(0.1)
        if dice.random() < 0.02 and await state(conn, task) not in TASK_TERMINAL:
            await cancel_task(conn, task, **BY)
        await compare(conn, tasks, alive)


async def compare(conn, tasks, alive):
    """Hold causes against states, and against what claims would bring now."""
    expected, stuck = set(), set()
    for task in tasks:
        seen = await states(conn, task)
        found = [one for one in await why(conn, TemplateShelf(), task) if one.step_no]
        quiet = {StepState.COMPLETE, StepState.RESOLVED_MANUALLY, StepState.IN_PROGRESS}
        assert sorted(one.name for one in found) == sorted(
            name for name, step in seen.items() if step not in quiet
        )
        for one in found:
            if one.cause == "waits_for_worker":
                expected.add((task, one.name))
            elif one.cause.startswith("no_worker"):
                stuck.add((task, one.name))
    probe = conn.transaction()
    await probe.start()
    brought = {(claim.task_uuid, claim.name) for claim in await alive.claim(1000)}
    others = Worker(conn)
    rest = {(claim.task_uuid, claim.name) for claim in await others.claim(1000)}
    await probe.rollback()
    assert brought == expected
    assert rest == stuck
