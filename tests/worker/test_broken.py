"""Connections break at any moment; every result is recorded once, and every step runs."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import asyncpg
import pytest

from support.flows import DIAMOND, ONE, template
from support.workers import eventually
from tasker_core.db.connect import Database
from tasker_core.engine.claim import claim_steps
from tasker_core.errors import DatabaseUnreachable, SchemaTooNew
from tasker_core.worker import loop as loop_module
from tasker_core.worker import record as record_module

HOUR = 3600.0

KILL = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1"


async def nothing(context):
    return {}


@pytest.mark.parametrize("results_for_a_call", [2, loop_module.WHOLE_CALL])
async def test_connections_killed_at_random_moments(bench, monkeypatch, results_for_a_call):
    """Forty tasks finish with each step recorded once while every connection keeps breaking.

    With few results for a call the second connections are in use, too.
    """
    monkeypatch.setattr(loop_module, "WHOLE_CALL", results_for_a_call)
    random_ = random.Random(7)
    ran = []

    def sync(context):
        ran.append(context.step_uuid)
        return {"n": len(context.dependency_results)}

    async def later(context):
        ran.append(context.step_uuid)
        await asyncio.sleep(0)
        return {"n": len(context.dependency_results)}

    handlers = {"a": sync, "b": later, "c": sync, "d": later}
    for _ in range(2):
        await bench.worker(handlers, worker_concurrency=6, sweep_seconds=0.2)
    flow = template(DIAMOND)
    await bench.begin(flow)
    killer = await asyncpg.connect(bench.database.url)
    names = ["tasker worker", "tasker worker listener", "tasker worker upkeep"]
    names += ["tasker worker", "tasker worker lookup"]
    kills = 0
    try:
        for _ in range(40):
            await bench.create(flow)
            kills += await killer.fetchval(KILL, random_.choice(names))
            await asyncio.sleep(random_.uniform(0, 0.01))
        await eventually(
            lambda: bench.conn.fetchval(
                "select count(*) = 41 from tasker.tasks where state = 'complete'"
            )
        )
    finally:
        await killer.close()

    ends = await bench.conn.fetch(
        "select task_uuid, step_no, array_agg(outcome order by attempt) as outcomes "
        "from tasker.attempts group by 1, 2"
    )
    assert kills > 20
    assert len(ends) == 41 * 4
    assert {tuple(end["outcomes"]) for end in ends} == {("complete",)}


class Cut:
    """Stands before `finish_steps`; breaks the connection before or after a call, once."""

    def __init__(self, monkeypatch, when, *, error=ConnectionError):
        self.real = record_module.finish_steps
        self.when = when
        self.error = error
        self.calls = 0
        self.cut = 0
        monkeypatch.setattr(record_module, "finish_steps", self)

    async def __call__(self, conn, worker_uuid, finished, **keys):
        self.calls += 1
        hit = not self.cut and self.when(finished, None)
        if hit:
            self.cut += 1
            raise self.error("cut off before the call")
        work = await self.real(conn, worker_uuid, finished, **keys)
        if not self.cut and self.when(finished, work):
            self.cut += 1
            conn.terminate()
            raise self.error("cut off after the commit")
        return work


def before(finished, work):
    return work is None and bool(finished)


def after_finish(finished, work):
    return work is not None and bool(finished)


def after_claim(finished, work):
    return work is not None and bool(work.claims) and not finished


def after_both(finished, work):
    return work is not None and bool(finished) and bool(work.claims)


@pytest.mark.parametrize("when", [before, after_finish, after_claim, after_both])
@pytest.mark.parametrize(
    "error",
    [ConnectionError, TimeoutError, asyncpg.AdminShutdownError, asyncpg.QueryCanceledError],
)
async def test_a_lost_answer(bench, monkeypatch, when, error):
    """Before the call or after its commit: results are recorded once, claims are begun."""
    cut = Cut(monkeypatch, when, error=error)
    ran = []

    def note(context):
        ran.append(context.step_name)

    await bench.worker(dict.fromkeys("abcd", note), poll_seconds=HOUR, sweep_seconds=HOUR)
    state, task = await bench.run(template(DIAMOND))

    assert (state, cut.cut) == ("complete", 1)
    assert sorted(ran) == ["a", "b", "c", "d"]
    assert await bench.outcomes(task) == ["complete"] * 4


async def test_a_deadlock_is_repeated(bench, monkeypatch):
    """When the database gives the worker up for another one, the same call is made again."""
    cut = Cut(monkeypatch, before, error=asyncpg.DeadlockDetectedError)
    await bench.worker({"a": nothing})
    state, task = await bench.run(template(ONE))

    assert (state, cut.cut) == ("complete", 1)
    assert await bench.outcomes(task) == ["complete"]


async def test_a_call_carried_out_after_the_new_connection(bench, monkeypatch):
    """A claim that commits when the worker has already looked is found by a second look."""
    slow = await asyncpg.connect(bench.database.url)
    transaction = slow.transaction()
    real, late = record_module.finish_steps, []

    async def cut(conn, worker_uuid, finished, *, lanes, limit, lease, **looked):
        if not late and lanes:
            await transaction.start()
            late.append(await claim_steps(slow, worker_uuid, lanes=lanes, limit=limit, lease=lease))
            raise ConnectionError("the network is gone")
        claims = {"lanes": lanes, "limit": limit, "lease": lease, **looked}
        return await real(conn, worker_uuid, finished, **claims)

    await bench.begin(template(ONE))
    monkeypatch.setattr(record_module, "finish_steps", cut)
    worker = await bench.worker({"a": nothing}, lease_seconds=1.5, poll_seconds=HOUR)
    await eventually(lambda: late and worker._failed_turns == 0)
    await transaction.commit()
    await slow.close()

    (task,) = {claim.task_uuid for claim in late[0].claims}
    assert await bench.settled(task) == "complete"
    assert await bench.outcomes(task) == ["complete"]


async def test_what_was_lost_while_the_worker_stops_is_given_back(bench, monkeypatch):
    """A claim whose answer is lost on the way out goes back, and is no attempt."""
    real, worker = record_module.finish_steps, None

    async def cut(conn, worker_uuid, finished, **keys):
        work = await real(conn, worker_uuid, finished, **keys)
        if work.claims and worker is not None:
            worker._is_draining = True
            raise ConnectionError("cut off after the commit")
        return work

    monkeypatch.setattr(record_module, "finish_steps", cut)
    worker = await bench.worker({"a": nothing}, sweep_seconds=HOUR)
    task = await bench.begin(template(ONE))
    await worker.wait_closed()

    assert await bench.conn.fetchval("select attempt from tasker.ready") == 0
    assert await bench.attempts(task) == []
    monkeypatch.setattr(record_module, "finish_steps", real)
    await bench.worker({"a": nothing})
    assert await bench.settled(task) == "complete"
    assert [past["attempt"] for past in await bench.attempts(task)] == [1]


async def test_connecting_fails_in_the_middle(bench, monkeypatch):
    """A connection that breaks while the worker looks around on it is only one more failure."""
    real, failures = loop_module.held_steps, []

    async def break_down(conn, worker_uuid):
        if len(failures) < 3:
            failures.append(1)
            raise asyncpg.ConnectionDoesNotExistError("gone again")
        return await real(conn, worker_uuid)

    monkeypatch.setattr(loop_module, "held_steps", break_down)
    await bench.worker({"a": nothing})
    await bench.conn.execute(KILL, "tasker worker")
    state, _ = await bench.run(template(ONE))

    assert (state, len(failures)) == ("complete", 3)


async def test_a_database_of_another_version_ends_the_worker(bench):
    """After a lost connection the schema is looked at again; a newer one is not worked on."""
    worker = await bench.worker({"a": nothing}, poll_seconds=0.05)
    await bench.run(template(ONE))  # a worker without lanes has nothing to ask for
    await bench.conn.execute(
        "insert into tasker.schema_migrations (version, name, checksum) values (999, 'x', 'x')"
    )
    try:
        await bench.conn.execute(KILL, "tasker worker")
        with pytest.raises(SchemaTooNew):
            await asyncio.wait_for(worker.wait_closed(), 10)
        with pytest.raises(SchemaTooNew):
            await worker.stop()
    finally:
        await bench.conn.execute("delete from tasker.schema_migrations where version = 999")
    bench._stack.pop_all()


async def test_stopping_while_the_database_is_away(bench, monkeypatch):
    """A worker that cannot reach its database stops at the end of its drain time."""

    async def refuse(name):
        raise DatabaseUnreachable("nowhere", "nobody there")

    worker = await bench.worker({"a": nothing}, poll_seconds=0.05)
    await bench.run(template(ONE))
    monkeypatch.setattr(Database, "connect", lambda self, name: refuse(name))
    await bench.conn.execute(KILL, "tasker worker")
    await eventually(lambda: worker._failed_turns)
    await asyncio.wait_for(worker.stop(drain_seconds=0.1), 10)


async def test_stopping_while_the_database_is_silent(bench, monkeypatch):
    """A call that is never answered does not keep the worker from stopping."""
    asked = asyncio.Event()

    async def silent(conn, worker_uuid, finished, **keys):
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(loop_module, "LAST_CALL_SECONDS", 0.1)
    worker = await bench.worker({"a": nothing}, sweep_seconds=HOUR)
    await bench.run(template(ONE))
    monkeypatch.setattr(record_module, "finish_steps", silent)
    await bench.create(template(ONE))
    await asked.wait()

    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(worker.stop(drain_seconds=0.1), 5)
    assert worker._flow.done()


async def test_a_silent_database_is_taken_for_broken(bench, monkeypatch):
    """A call without an answer is given up after a while, and made on a new connection."""
    real, silent = record_module.finish_steps, []

    async def first_silent(conn, worker_uuid, finished, **keys):
        if finished and not silent:
            silent.append(1)
            await asyncio.Event().wait()
        return await real(conn, worker_uuid, finished, **keys)

    monkeypatch.setattr(record_module, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(record_module, "finish_steps", first_silent)
    await bench.worker({"a": nothing})
    state, task = await bench.run(template(ONE))

    assert (state, silent) == ("complete", [1])
    assert await bench.outcomes(task) == ["complete"]


async def test_claims_that_arrive_after_their_lease_are_not_begun(bench, monkeypatch):
    """A process that was frozen in the middle of a call leaves the steps to whoever has them."""
    real, frozen, ran = record_module.finish_steps, [], []

    async def freeze(conn, worker_uuid, finished, **keys):
        work = await real(conn, worker_uuid, finished, **keys)
        if work.claims and not frozen:
            frozen.append(1)
            await asyncio.sleep(0.5)
        return work

    async def note(context):
        ran.append(context.attempt)

    monkeypatch.setattr(record_module, "finish_steps", freeze)
    await bench.worker({"a": note}, lease_seconds=0.4, sweep_seconds=0.1)
    state, task = await bench.run(template(ONE, retry={"backoff": "none"}))

    assert (state, ran) == ("complete", [2])
    assert await bench.outcomes(task) == ["waiting_for_retry", "complete"]
