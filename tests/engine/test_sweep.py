"""What was dropped is taken back."""

from __future__ import annotations

import pytest

from support.flows import NO_REST, Worker, begin, begin_one, by_name, names, state, states, template
from tasker_core.engine.inspect import get_step, list_attempts
from tasker_core.engine.lease import beat
from tasker_core.engine.sweep import sweep
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

S = StepState


async def test_a_lease_that_ran_out_is_taken_back(conn, worker, clock):
    """It counts as an attempt that failed, because the worker was lost, and is retried."""
    task = await begin_one(conn, template())
    await worker.claim_one()
    await clock.advance(31)

    assert await sweep(conn) == 1

    (past,) = await list_attempts(conn, task)
    assert (past.outcome, past.worker_uuid) == (S.WAITING_FOR_RETRY, worker.uuid)
    assert (past.error["error_type"], past.error["retryable"]) == ("worker_lost", True)
    assert await states(conn, task) == {"a": S.WAITING_FOR_RETRY}
    await clock.advance(60)
    assert (await worker.claim_one()).attempt == 2


async def test_a_lease_is_not_taken_back_before_it_ends(conn, worker, clock):
    """At its very end it still holds."""
    await begin_one(conn, template())
    await worker.claim_one()

    await clock.advance(30)
    assert await sweep(conn) == 0
    await clock.advance(0.000_001)
    assert await sweep(conn) == 1
    assert await sweep(conn) == 0


async def test_a_step_that_loses_its_worker_every_time_fails(conn, worker, clock):
    """After as many attempts as its policy allows; the task is blocked."""
    task = await begin_one(conn, template(retry={"max_attempts": 2, "backoff": "none"}))
    await clock.tick()

    for _ in range(2):
        await worker.claim_one()
        await clock.advance(31)
        assert await sweep(conn) == 1

    assert (await get_step(conn, task, 1)).attempts == 2
    assert await states(conn, task) == {"a": S.ERROR}
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    assert await worker.claim() == []


async def test_a_lost_worker_halts_a_task_as_any_failure_does(conn, worker, clock):
    """What else is enqueued is parked."""
    task = await begin_one(conn, template({"a": [], "b": []}, retry={"max_attempts": 1}))
    claims = by_name(await worker.claim())
    await worker.give_back(claims["b"])
    await clock.advance(31)

    await sweep(conn)

    assert await states(conn, task) == {"a": S.ERROR, "b": S.PENDING}


async def test_many_tasks_are_swept_at_once(conn, worker, clock):
    """Each lost step of each of them, and no other."""
    await begin(conn, template({"a": [], "b": []}), 20)
    claims = await worker.claim()
    kept = claims[:5]
    await clock.advance(20)
    await worker.renew(*kept)
    await clock.advance(11)

    assert await sweep(conn) == 35
    assert await conn.fetchval("select count(*) from tasker.leases") == 5


async def test_others_are_told_of_what_was_taken_back(conn, worker, clock, heard):
    """Once a namespace."""
    await begin(conn, template(retry=NO_REST), 3)
    await worker.claim()
    await clock.advance(31)
    await heard()

    await sweep(conn)

    assert await heard() == ["shop"]
    assert names(await worker.claim()) == ["a"] * 3


async def test_delayed_steps_are_enqueued_by_the_sweep_too(conn, worker, clock, heard):
    """When their time has come and no worker asked; not before."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one())
    await heard()

    await sweep(conn)
    assert await states(conn, task) == {"a": S.WAITING_FOR_RETRY}
    assert await heard() == []

    await clock.advance(60)
    await sweep(conn)
    assert await states(conn, task) == {"a": S.ENQUEUED}
    assert await heard() == ["shop"]


async def test_one_at_a_time_sweeps(conn, connect, worker, clock):
    """The others leave it to the one that does."""
    await begin(conn, template(), 2)
    await worker.claim(1)
    await clock.advance(10)
    await worker.claim(1)
    one, two = await connect(), await connect()

    async with one.transaction():
        await clock.advance(21)
        assert await sweep(one) == 1
        await clock.advance(10)
        assert await sweep(two) == 0

    assert await sweep(two) == 1


async def test_workers_that_are_silent_for_a_day_are_forgotten(conn, clock):
    """Not those that were heard of since."""
    facts = {"host": "h", "pid": 1, "version": "1", "concurrency": 1, "lanes": []}
    await beat(conn, Worker(conn).uuid, **facts)
    await clock.advance(23 * 3600)
    young = Worker(conn).uuid
    await beat(conn, young, **facts)
    await clock.advance(2 * 3600)

    await sweep(conn)

    assert await conn.fetchval("select array_agg(worker_uuid) from tasker.workers") == [young]


async def test_sweeping_nothing_is_nothing(conn):
    """On an empty database."""
    assert await sweep(conn) == 0
