"""Leases are kept while handlers run, and what is lost is noticed."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import pytest

from support.flows import ONE, template
from support.workers import eventually
from tasker_core.engine.claim import claim_steps, list_lanes
from tasker_core.worker import upkeep as upkeep_module

HOUR = 3600.0
LEASE = 0.9


async def nothing(context):
    return {}


async def test_a_long_step_keeps_its_lease(bench):
    """A step that runs for several leases is renewed and counts as one attempt."""
    release = asyncio.Event()

    async def long(context):
        await release.wait()

    await bench.worker({"a": long}, lease_seconds=LEASE, sweep_seconds=0.1)
    task = await bench.begin(template(ONE))
    age = "select ends_at - claimed_at > interval '2.5 s' from tasker.leases"
    await eventually(lambda: bench.conn.fetchval(age))
    release.set()

    assert await bench.settled(task) == "complete"
    assert await bench.outcomes(task) == ["complete"]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_lost_lease_ends_the_attempt(bench, colour):
    """The async handler is cancelled, the result of the sync one refused; another one counts."""
    begun, cancelled, release = threading.Event(), asyncio.Event(), threading.Event()

    async def on_loop(context):
        begun.set()
        if context.attempt > 1:
            return {"attempt": context.attempt}
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def in_thread(context):
        begun.set()
        if context.attempt == 1:
            release.wait(20)
        return {"attempt": context.attempt}

    handler = on_loop if colour == "async" else in_thread
    worker = await bench.worker({"a": handler}, lease_seconds=LEASE, sweep_seconds=HOUR)
    task = await bench.begin(template(ONE, retry={"backoff": "none"}))
    await eventually(begun.is_set)
    # as if this worker had been frozen for longer than its lease
    await bench.conn.execute("update tasker.leases set ends_at = now() - interval '1 s'")
    assert await bench.conn.fetchval("select taken_back from tasker.sweep()") == 1

    assert await bench.settled(task) == "complete"
    if colour == "async":
        await eventually(cancelled.is_set)
    release.set()
    await eventually(lambda: not worker.runner.running)
    first, second = await bench.attempts(task)
    assert first["error"]["error_type"] == "worker_lost"
    assert second["outcome"] == "complete"
    assert await bench.result(task, "a") == {"attempt": 2}


async def test_a_step_that_an_operator_settled_is_noticed(bench):
    """A running step that is settled by force is cancelled, and no other of its task."""
    cancelled = asyncio.Event()

    async def endless(context):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await bench.worker({"a": endless}, lease_seconds=LEASE)
    task = await bench.begin(template(ONE))
    await eventually(lambda: bench.conn.fetchval("select count(*) from tasker.leases"))
    await bench.conn.fetchrow(
        "select * from tasker.settle_step("
        "$1, 1, 'resolved_manually', null, null, null, null, 'me', 'x', true)",
        task,
    )
    await eventually(cancelled.is_set)
    assert await bench.settled(task) == "complete"


async def test_renewal_goes_on_over_every_broken_connection(bench):
    """However often the connection breaks, a lease is renewed in time."""
    release = asyncio.Event()

    async def long(context):
        await release.wait()

    await bench.worker({"a": long}, lease_seconds=1.2, sweep_seconds=0.1)
    task = await bench.begin(template(ONE))
    await eventually(lambda: bench.conn.fetchval("select count(*) from tasker.leases"))

    async def killed_often_enough():
        await bench.conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'tasker worker upkeep'"
        )
        await asyncio.sleep(0.1)
        return await bench.conn.fetchval(
            "select clock_timestamp() - claimed_at > interval '3 s' from tasker.leases"
        )

    await eventually(killed_often_enough)
    release.set()
    assert await bench.settled(task) == "complete"
    assert await bench.outcomes(task) == ["complete"]


async def test_a_failure_of_upkeep_is_not_its_end(bench, monkeypatch):
    """Whatever goes wrong in a sweep, leases are renewed afterwards."""
    release, failed = asyncio.Event(), []
    real = upkeep_module.sweep

    async def broken(conn):
        if len(failed) < 3:
            failed.append(1)
            raise RuntimeError("out of order")
        return await real(conn)

    async def long(context):
        await release.wait()

    monkeypatch.setattr(upkeep_module, "sweep", broken)
    await bench.worker({"a": long}, lease_seconds=LEASE, sweep_seconds=0.05)
    task = await bench.begin(template(ONE))
    age = "select ends_at - claimed_at > interval '2 s' from tasker.leases"
    await eventually(lambda: bench.conn.fetchval(age))
    release.set()

    assert await bench.settled(task) == "complete"
    assert len(failed) == 3


async def test_a_sweep_that_waits_does_not_keep_renewals_waiting(bench, monkeypatch):
    """Somebody holds a task's lock for long: the sweep is given up, the leases are kept."""
    monkeypatch.setattr(upkeep_module, "SHORTEST_CALL_SECONDS", 0.1)
    release, stuck = asyncio.Event(), []

    async def stuck_sweep(conn):
        stuck.append(1)
        await asyncio.Event().wait()

    async def long(context):
        await release.wait()

    monkeypatch.setattr(upkeep_module, "sweep", stuck_sweep)
    await bench.worker({"a": long}, lease_seconds=LEASE, sweep_seconds=0.05)
    task = await bench.begin(template(ONE))
    age = "select ends_at - claimed_at > interval '2 s' from tasker.leases"
    await eventually(lambda: bench.conn.fetchval(age))
    release.set()

    assert await bench.settled(task) == "complete"
    assert len(stuck) > 1


async def test_results_that_are_not_recorded_yet_keep_their_lease(bench, monkeypatch):
    """While a call is under way for longer than the lease, its results stay valid."""
    from tasker_core.worker import record as record_module

    real, go = record_module.finish_steps, asyncio.Event()

    async def slow(conn, worker_uuid, finished, **keys):
        if finished:
            await go.wait()
        return await real(conn, worker_uuid, finished, **keys)

    monkeypatch.setattr(record_module, "finish_steps", slow)
    await bench.worker({"a": nothing}, lease_seconds=LEASE, sweep_seconds=0.1)
    task = await bench.begin(template(ONE))
    age = "select ends_at - claimed_at > interval '2.5 s' from tasker.leases"
    await eventually(lambda: bench.conn.fetchval(age))
    go.set()

    assert await bench.settled(task) == "complete"
    assert await bench.outcomes(task) == ["complete"]


async def test_a_worker_says_that_it_is_alive(bench):
    """The list of workers names it with its lanes, and strikes it when it stops."""
    worker = await bench.worker({"a": nothing})
    await bench.run(template(ONE))
    (row,) = await bench.conn.fetch("select * from tasker.workers")
    assert row["worker_uuid"] == worker.worker_uuid
    assert row["concurrency"] == 10

    await eventually(
        lambda: bench.conn.fetchval("select lanes = $1 from tasker.workers", worker.lanes)
    )
    await worker.stop()
    assert await bench.conn.fetchval("select count(*) from tasker.workers") == 0


async def test_a_worker_takes_back_what_others_dropped(bench):
    """A lease that nobody renews is swept and its step run here."""
    task = await bench.begin(template(ONE, retry={"backoff": "none"}))
    lanes = [lane.lane for lane in await list_lanes(bench.conn)]
    await claim_steps(bench.conn, uuid4(), lanes=lanes, limit=1, lease=timedelta(0))
    await bench.worker({"a": nothing}, sweep_seconds=0.1)

    assert await bench.settled(task) == "complete"
    assert await bench.outcomes(task) == ["waiting_for_retry", "complete"]


async def test_old_tasks_leave_without_a_server(bench):
    """A worker sees to it, too, as the settings say."""
    await bench.worker({"a": nothing})
    _, old = await bench.run(template(ONE))

    await bench.worker({}, retention_days=1e-9)

    count = "select count(*) = 0 from tasker.tasks where task_uuid = $1"
    await eventually(lambda: bench.conn.fetchval(count, old))
