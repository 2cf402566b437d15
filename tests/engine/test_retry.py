"""How long a failed step rests, and when it may not run again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.clock import START
from support.flows import begin_one, failed, names, state, states, template
from tasker_core.engine.inspect import get_step, list_attempts
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

HOUR_MS = 3_600_000


async def delay(conn, backoff, failed_attempt, *, first=100, cap=HOUR_MS, jitter=0.5) -> float:
    rest = await conn.fetchval(
        "select tasker.retry_delay($1, $2, $3, $4, $5)", backoff, first, cap, failed_attempt, jitter
    )
    return rest / timedelta(milliseconds=1)


async def rest_of(conn, task_uuid) -> timedelta:
    """How long after its end the last attempt is to be followed by the next."""
    last = (await list_attempts(conn, task_uuid))[-1]
    return last.due_at - last.finished_at


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("none", [0, 0, 0, 0, 0, 0]),
        ("linear", [100, 200, 300, 400, 500, 600]),
        ("exponential", [100, 200, 400, 800, 1600, 3200]),
        ("fibonacci", [100, 100, 200, 300, 500, 800]),
    ],
)
async def test_each_backoff_grows_in_its_own_way(conn, backoff, delays):
    """In the middle of the jitter the delays are the plain series."""
    found = [await delay(conn, backoff, failed_attempt) for failed_attempt in range(1, 7)]

    assert found == pytest.approx(delays)


@pytest.mark.parametrize("backoff", ["linear", "exponential", "fibonacci"])
async def test_delays_stop_at_the_cap_of_the_step_and_at_one_hour(conn, backoff):
    """However often it failed, and however large its own cap is."""
    assert await delay(conn, backoff, 100, cap=5000) == pytest.approx(5000)
    assert await delay(conn, backoff, 100, first=2**31 - 1, cap=2**31 - 1) == pytest.approx(HOUR_MS)
    assert await delay(conn, backoff, 2**31 - 1) == pytest.approx(HOUR_MS)


async def test_jitter_is_fifteen_percent_either_way_after_the_cap(conn):
    """From 0.85 to 1.15 of the delay."""
    assert await delay(conn, "linear", 1, jitter=0.0) == pytest.approx(85)
    assert await delay(conn, "linear", 1, jitter=1.0) == pytest.approx(115)
    assert await delay(conn, "linear", 9, cap=100, jitter=1.0) == pytest.approx(115)


async def test_the_rest_of_a_failed_step_follows_its_policy(conn, clock, worker):
    """The recorded time of the next attempt is the policy's delay, with jitter."""
    flow = template(retry={"max_attempts": 4, "backoff": "linear", "backoff_base_ms": 10_000})
    task = await begin_one(conn, flow)

    for factor in (1, 2, 3):
        await worker.fail(await worker.claim_one())
        rest = await rest_of(conn, task)
        assert timedelta(seconds=8.5) * factor <= rest <= timedelta(seconds=11.5) * factor
        await clock.advance(rest.total_seconds())


async def test_jitter_is_drawn_anew_for_every_failure(conn, clock, worker):
    """Steps that fail at one moment do not come back at one moment."""
    graph = {f"step_{n}": [] for n in range(20)}
    await begin_one(conn, template(graph, retry={"backoff_base_ms": 100_000}))

    await worker.fail(*await worker.claim())

    assert await conn.fetchval("select count(distinct due_at) from tasker.delayed") > 10


async def test_exponential_backoff_without_a_base_begins_at_two_seconds(conn, clock, worker):
    """The default policy rests 2, 4, 8 … seconds."""
    task = await begin_one(conn, template())

    await worker.fail(await worker.claim_one())

    assert timedelta(seconds=1.7) <= await rest_of(conn, task) <= timedelta(seconds=2.3)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (timedelta(seconds=7), timedelta(seconds=7)),
        (timedelta(0), timedelta(0)),
        (timedelta(seconds=-5), timedelta(0)),
        (timedelta(hours=1), timedelta(hours=1)),
        (timedelta(hours=9), timedelta(hours=1)),
    ],
)
async def test_a_rest_that_the_handler_asks_for_overrules_the_policy(
    conn, clock, worker, asked, given
):
    """Without jitter, beyond the step's own cap, and never more than an hour."""
    flow = template(retry={"backoff": "linear", "backoff_base_ms": 500, "max_backoff_ms": 1000})
    task = await begin_one(conn, flow)

    await worker.finish(failed(await worker.claim_one(), rest=asked))

    assert await rest_of(conn, task) == given


async def test_a_retry_is_never_early(conn, clock, worker):
    """A microsecond before its time a step is not handed out; at its time it is."""
    task = await begin_one(conn, template())
    await worker.finish(failed(await worker.claim_one(), rest=timedelta(seconds=10)))
    assert await state(conn, task) is TaskState.WAITING_FOR_RETRY

    await clock.advance(9.999_999)
    work = await worker.look()
    assert (work.claims, work.due_in) == ([], timedelta(microseconds=1))
    assert await states(conn, task) == {"a": StepState.WAITING_FOR_RETRY}

    await clock.advance(0.000_001)
    claim = await worker.claim_one()
    assert claim.attempt == 2
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_a_step_without_backoff_is_handed_out_again_at_once(conn, clock, worker):
    """The call that reports the failure may claim the next attempt."""
    await begin_one(conn, template(retry={"backoff": "none"}))

    work = await worker.fail(await worker.claim_one(), claim=1)

    assert [claim.attempt for claim in work.claims] == [2]


async def test_a_claim_says_how_long_until_the_next_retry(conn, clock, worker):
    """So that an idle worker can set its alarm; nothing delayed, no alarm."""
    await begin_one(conn, template({"a": [], "b": []}))
    first, second = await worker.claim()
    assert (await worker.look()).due_in is None

    await worker.finish(failed(first, rest=timedelta(seconds=60)))
    work = await worker.finish(failed(second, rest=timedelta(seconds=20)))

    assert work.due_in == timedelta(seconds=20)


@pytest.mark.parametrize(
    ("retry", "retryable", "runs"),
    [
        ({"max_attempts": 0}, True, 1),
        ({"max_attempts": 0}, False, 1),
        ({"max_attempts": 1}, True, 1),
        ({"max_attempts": 1}, False, 1),
        ({"max_attempts": 2}, True, 2),
        ({"max_attempts": 3}, True, 3),
        ({"max_attempts": 3}, False, 1),
        ({"max_attempts": 3, "retryable": False}, True, 1),
    ],
)
async def test_max_attempts_counts_executions(conn, worker, retry, retryable, runs):
    """A step runs once whatever its policy says, and never more than max_attempts times."""
    task = await begin_one(conn, template(retry={**retry, "backoff": "none"}))

    executions = 0
    while claims := await worker.claim():
        assert names(claims) == ["a"]
        executions += 1
        await worker.fail(*claims, retryable=retryable)

    assert executions == runs
    step = await get_step(conn, task, 1)
    assert (step.state, step.attempts) == (StepState.ERROR, runs)
    assert [past.outcome for past in await list_attempts(conn, task)] == [
        *[StepState.WAITING_FOR_RETRY] * (runs - 1),
        StepState.ERROR,
    ]


async def test_a_step_may_fail_twice_and_then_succeed(conn, worker):
    """Three attempts, a complete task, and nothing left of the failures but their history."""
    task = await begin_one(conn, template(retry={"backoff": "none"}))

    await worker.fail(await worker.claim_one())
    await worker.fail(await worker.claim_one())
    await worker.succeed(await worker.claim_one(), result={"n": 1})

    step = await get_step(conn, task, 1)
    assert (step.state, step.attempts, step.result) == (StepState.COMPLETE, 3, {"n": 1})
    assert await state(conn, task) is TaskState.COMPLETE


async def test_the_clock_of_the_database_is_the_only_one(conn, clock, worker):
    """What is recorded is the time of `tasker.now()`, whatever other clocks say."""
    task = await begin_one(conn, template())

    await worker.succeed(await worker.claim_one())

    (past,) = await list_attempts(conn, task)
    assert (past.enqueued_at, past.claimed_at, past.finished_at) == (START, START, START)
