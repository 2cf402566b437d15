"""A loan is kept while the handler runs, or given back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.clock import START
from support.flows import NO_REST, Worker, begin, begin_one, by_name, state, states, template
from tasker_core.engine.inspect import get_step, list_attempts, list_starved_lanes
from tasker_core.engine.lease import LostLoan, beat, forget_worker
from tasker_core.engine.operate import cancel_task, resolve_step
from tasker_core.engine.sweep import sweep
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

S = StepState


async def test_a_renewed_lease_runs_from_now(conn, worker, clock):
    """All of the worker's leases in one call, each for the whole time again."""
    await begin(conn, template(), 3)
    claims = await worker.claim()
    await clock.advance(25)

    assert await worker.renew(*claims) == []

    ends = await conn.fetch("select distinct ends_at from tasker.leases")
    assert [row["ends_at"] for row in ends] == [START + timedelta(seconds=55)]
    await clock.advance(29)
    assert await sweep(conn) == 0


async def test_only_the_given_leases_are_renewed(conn, worker, clock):
    """The others run out."""
    await begin(conn, template(), 2)
    kept, dropped = await worker.claim()
    await clock.advance(25)
    await worker.renew(kept)
    await clock.advance(10)

    assert await sweep(conn) == 1

    assert await worker.renew(kept, dropped) == [
        LostLoan(dropped.task_uuid, dropped.step_no, dropped.attempt)
    ]


async def test_renewal_tells_what_is_lost(conn, worker, clock):
    """Whatever ended it: an operator, a cancellation, the sweep, or another worker."""
    tasks = await begin(conn, template({"a": []}, retry=NO_REST), 4)
    claims = {claim.task_uuid: claim for claim in await worker.claim()}
    cancelled, resolved, swept, kept = (claims[task] for task in tasks)
    await clock.advance(20)
    await worker.renew(cancelled, resolved, kept)
    await clock.advance(20)

    await cancel_task(conn, cancelled.task_uuid, actor="ann", reason="-")
    step = await get_step(conn, resolved.task_uuid, 1)
    await resolve_step(
        conn, resolved.task_uuid, step.step_uuid, actor="ann", reason="-", force=True
    )
    assert await sweep(conn) == 1
    await clock.advance(1)
    await Worker(conn).claim_one()

    lost = await worker.renew(*claims.values())
    assert {loan.task_uuid for loan in lost} == set(tasks) - {kept.task_uuid}
    assert swept.task_uuid in {loan.task_uuid for loan in lost}


async def test_another_worker_cannot_renew_a_lease(conn, worker, clock):
    """It is told that it does not hold it, and the lease runs out."""
    await begin_one(conn, template())
    claim = await worker.claim_one()
    await clock.advance(20)

    assert len(await Worker(conn).renew(claim)) == 1
    await clock.advance(11)

    assert await sweep(conn) == 1


async def test_a_lease_that_ran_out_can_be_renewed_until_it_is_taken_back(conn, worker, clock):
    """Nobody else has the step, so nothing is lost."""
    await begin_one(conn, template())
    claim = await worker.claim_one()
    await clock.advance(3600)

    assert await worker.renew(claim) == []
    assert await sweep(conn) == 0


async def test_renewing_nothing_is_nothing(conn, worker):
    """A worker at rest may call it all the same."""
    assert await worker.renew() == []


async def test_a_step_given_back_is_ready_and_was_no_attempt(conn, worker):
    """The next worker gets the attempt that this one did not begin; history is silent."""
    task = await begin_one(conn, template(retry={"max_attempts": 1}))
    await worker.give_back(await worker.claim_one())

    assert await states(conn, task) == {"a": S.ENQUEUED}
    assert (await get_step(conn, task, 1)).attempts == 0
    assert await list_attempts(conn, task) == []
    other = Worker(conn)
    claim = await other.claim_one()
    assert claim.attempt == 1
    await other.succeed(claim)
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_step_given_back_keeps_its_place(conn, worker, clock):
    """It is as long in the queue as it was, and others are told."""
    task = await begin_one(conn, template())
    await clock.advance(10)
    await worker.give_back(await worker.claim_one())

    enqueued_at = await conn.fetchval("select enqueued_at from tasker.ready")
    assert enqueued_at == START
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_others_are_told_of_steps_given_back(conn, worker, heard):
    """Somebody idle may run them."""
    await begin(conn, template(), 3)
    claims = await worker.claim()
    await heard()

    await worker.give_back(*claims)

    assert await heard() == ["shop"]


async def test_only_what_one_holds_can_be_given_back(conn, worker):
    """Another worker's step stays with it, also when the call is made twice."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()

    await Worker(conn).give_back(claim)
    assert await states(conn, task) == {"a": S.IN_PROGRESS}

    await worker.give_back(claim)
    await worker.give_back(claim)
    assert await states(conn, task) == {"a": S.ENQUEUED}


async def test_an_earlier_attempt_cannot_be_given_back(conn, worker, clock):
    """The worker has claimed the step anew since, and goes on with that."""
    task = await begin_one(conn, template())
    earlier = await worker.claim_one()
    await clock.advance(31)
    await sweep(conn)
    await clock.advance(60)
    await worker.claim_one()

    await worker.give_back(earlier)

    assert await states(conn, task) == {"a": S.IN_PROGRESS}


async def test_a_step_of_a_halted_task_given_back_is_parked(conn, worker):
    """It may not be claimed again, and the task is blocked with it."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    claims = by_name(await worker.claim())
    await worker.fail(claims["a"], retryable=False)

    await worker.give_back(claims["b"])

    assert await states(conn, task) == {"a": S.ERROR, "b": S.PENDING}
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    assert await worker.claim() == []


async def test_a_result_of_a_step_given_back_is_refused(conn, worker):
    """Should the worker begin it after all."""
    await begin_one(conn, template())
    claim = await worker.claim_one()
    await worker.give_back(claim)

    assert len((await worker.succeed(claim)).refusals) == 1


async def test_steps_that_no_live_worker_can_run_are_told(conn, worker, clock):
    """Until one comes that can; a worker that stopped, or is silent, does not count."""
    await begin(conn, template({"a": [], "b": []}), 2)
    lanes = list(await worker.served())
    seen_within = timedelta(seconds=30)

    async def starved() -> dict[str, int]:
        found = await list_starved_lanes(conn, seen_within=seen_within)
        return {lane.callable: lane.step_count for lane in found}

    async def appear(lanes) -> None:
        facts = {"host": "h", "pid": 1, "version": "1", "concurrency": 1}
        await beat(conn, worker.uuid, lanes=lanes, **facts)

    assert await starved() == {"a": 2, "b": 2}
    await appear(lanes[:1])
    assert await starved() == {"b": 2}
    await appear(lanes)
    assert await starved() == {}
    await clock.advance(31)
    assert await starved() == {"a": 2, "b": 2}
    await appear(lanes)
    await forget_worker(conn, worker.uuid)
    assert await starved() == {"a": 2, "b": 2}
