"""With more results than one call carries, a second call goes out beside the first."""

from __future__ import annotations

import asyncio

import pytest

from support.flows import DIAMOND, template
from support.workers import eventually
from tasker_core.worker import loop as loop_module
from tasker_core.worker import record as record_module

HOUR = 3600.0
TASKS = 12


@pytest.fixture(autouse=True)
def small_calls(monkeypatch):
    """Two results are worth a call of their own."""
    monkeypatch.setattr(loop_module, "WHOLE_CALL", 2)


class Calls:
    """Stands before `finish_steps`, and holds a call of one connection until `go_on` is set.

    Args:
        held: Whose call, the first connection's or the second's.
        cut: Lose the answer of the call that goes out beside it.
    """

    def __init__(self, monkeypatch, held, *, cut=False):
        self.real = record_module.finish_steps
        self.held, self.cut = held, cut
        self.first = None  # the connection of the first call
        self.holds = False
        self.beside = asyncio.Event()  # a call has been carried out beside the one that is held
        self.go_on = asyncio.Event()
        monkeypatch.setattr(record_module, "finish_steps", self)

    async def __call__(self, conn, worker_uuid, finished, **keys):
        self.first = self.first or conn
        is_of_held = (conn is self.first) == (self.held == "first")
        if finished and is_of_held and not self.holds:
            self.holds = True
            work = await self.real(conn, worker_uuid, finished, **keys)
            await self.go_on.wait()  # its answer is long on its way
            return work
        work = await self.real(conn, worker_uuid, finished, **keys)
        if finished and self.holds and not self.beside.is_set():
            self.beside.set()
            if self.cut:
                self.lost_pid = conn.get_server_pid()
                conn.terminate()
                raise ConnectionError("cut off after the commit")
        return work


@pytest.fixture
def ran():
    """The steps that ran, in order."""
    return []


async def begin(bench, ran):
    """Queue tasks, and start a worker that has room for half of their first steps."""

    async def note(context):
        ran.append(context.step_uuid)
        return {}

    flow = template(DIAMOND)
    tasks = [await bench.begin(flow), *await bench.create(flow, TASKS - 1)]
    worker = await bench.worker(
        dict.fromkeys("abcd", note),
        worker_concurrency=TASKS // 2,
        poll_seconds=HOUR,
        sweep_seconds=HOUR,
    )
    return worker, tasks


async def all_done_once(bench, tasks, ran):
    assert [await bench.settled(task) for task in tasks] == ["complete"] * TASKS
    for task in tasks:
        assert await bench.outcomes(task) == ["complete"] * 4
    assert len(ran) == len(set(ran)) == TASKS * 4


@pytest.mark.parametrize("held", ["first", "second"])
async def test_two_calls_at_a_time(bench, monkeypatch, ran, held):
    """While one is held, the results of the other half are recorded."""
    calls = Calls(monkeypatch, held)
    _, tasks = await begin(bench, ran)
    await asyncio.wait_for(calls.beside.wait(), 10)
    calls.go_on.set()

    await all_done_once(bench, tasks, ran)


@pytest.mark.parametrize("held", ["first", "second"])
async def test_one_answer_is_lost_while_the_other_is_on_its_way(bench, monkeypatch, ran, held):
    """What was claimed unheard is begun; what the other call has claimed is not begun twice."""
    calls = Calls(monkeypatch, held, cut=True)
    _, tasks = await begin(bench, ran)
    await asyncio.wait_for(calls.beside.wait(), 10)
    connected_again = (
        "select count(*) = 2 and not $1 = any (array_agg(pid)) "
        "from pg_stat_activity where application_name = 'tasker worker'"
    )
    await eventually(lambda: bench.conn.fetchval(connected_again, calls.lost_pid))
    for _ in range(400):  # enough for the new connection to ask what the worker holds
        await bench.conn.execute("select 1")
    calls.go_on.set()

    await all_done_once(bench, tasks, ran)


@pytest.mark.parametrize("held", ["first", "second"])
async def test_a_worker_stops_after_both_calls(bench, monkeypatch, ran, held):
    """Nothing is left on loan, and what ran is recorded."""
    calls = Calls(monkeypatch, held)
    worker, _ = await begin(bench, ran)
    await asyncio.wait_for(calls.beside.wait(), 10)
    stopping = asyncio.create_task(worker.stop(drain_seconds=5))
    await eventually(lambda: worker._is_draining)
    calls.go_on.set()
    await stopping

    assert await bench.conn.fetchval("select count(*) from tasker.leases") == 0
    assert await bench.conn.fetchval("select count(*) from tasker.attempts") == len(ran)
    assert not worker.unrecorded
