"""A worker takes what it can do, as much as it may, as soon as it is there, and stops in order."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

import pytest

from support.flows import CHAIN, ONE, WIDE, begin, step_id, template
from support.workers import eventually, registry
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.finish import Finished
from tasker_core.engine.operate import cancel_task, resolve_step
from tasker_core.engine.register import register_template
from tasker_core.errors import SchemaOutOfDate
from tasker_core.worker import held as held_module
from tasker_core.worker import loop as loop_module
from tasker_core.worker import record as record_module

FAN = {"root": [], **{f"leaf_{n}": ["root"] for n in range(30)}}
HOUR = 3600.0


def leaves(graph):
    return {name: "leaf" for name in graph if name.startswith("leaf")}


async def nothing(context):
    return {}


class Gate:
    """An async handler that waits until it is let go; counts who is in."""

    def __init__(self):
        self.open = asyncio.Event()
        self.inside = 0
        self.most = 0
        self.cancelled = 0

    async def __call__(self, context):
        raise NotImplementedError

    async def handle(self, context):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        return {}


@pytest.fixture
def gate():
    return Gate()


async def test_a_task_that_somebody_holds_holds_up_no_other(bench, monkeypatch):
    """Its result waits, with its lease, until the lock is gone; the worker goes on."""
    monkeypatch.setattr(held_module, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(held_module, "HELD_SECONDS", 0.05)
    go = asyncio.Event()

    async def first(context):
        await go.wait()
        return {}

    worker = await bench.worker({"a": first, "b": nothing})
    held = await bench.begin(template({"a": []}))
    somebody = await bench.database.connect("somebody")
    async with somebody.transaction():
        await somebody.execute("select from tasker.lock_tasks(array[$1::uuid])", held)
        go.set()
        others = [await bench.begin(template({"b": []}, name="other")) for _ in range(3)]
        for other in others:
            assert await bench.settled(other) == "complete"
        assert len(worker.unrecorded) == 1

    await somebody.close()
    assert await bench.settled(held) == "complete"
    assert await bench.outcomes(held) == ["complete"]


async def test_while_a_held_result_is_tried_the_second_connection_goes_on(bench, monkeypatch):
    """What runs is recorded, and its children go from hand to hand."""
    monkeypatch.setattr(held_module, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(held_module, "SHORT_LOCK_SECONDS", 30)
    monkeypatch.setattr(loop_module, "WHOLE_CALL", 1)
    go = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def wait(context):
        await go[context.step_name].wait()
        return {}

    worker = await bench.worker({"a": wait, "b": wait, "c": nothing})
    held = await bench.begin(template({"a": []}))
    other = await bench.begin(template({"b": [], "c": ["b"]}, name="other"))
    await eventually(lambda: len(worker.runner.running) == 2)
    somebody = await bench.database.connect("somebody")
    async with somebody.transaction():
        await somebody.execute("select from tasker.lock_tasks(array[$1::uuid])", held)
        go["a"].set()
        await eventually(lambda: worker._held.results and worker._calls)
        go["b"].set()
        assert await bench.settled(other) == "complete"
        assert len(worker.unrecorded) == 1

    await somebody.close()
    assert await bench.settled(held) == "complete"


async def test_a_notice_that_comes_late_ends_nothing(bench, gate):
    """The step is on loan here again, and its attempt counts."""
    await bench.worker({"a": gate.handle})
    task = await bench.begin(template(ONE))
    await eventually(lambda: gate.inside == 1)

    await bench.conn.execute("select pg_notify('tasker_cancelled', $1)", str(task))
    await bench.conn.execute(
        "select pg_notify('tasker_cancelled', $1)", str(UUID(int=task.int + 1))
    )
    other = await bench.begin(template({"b": []}, name="other"))
    await cancel_task(bench.conn, other, actor="ann", reason="-")  # heard after those
    gate.open.set()

    assert await bench.settled(task) == "complete"
    assert gate.cancelled == 0


# --- how many ---------------------------------------------------------------------------


async def test_concurrency_is_reached_and_not_passed_on_the_loop(bench, gate):
    """With 30 steps ready, exactly as many async handlers run as the settings say."""
    worker = await bench.worker({"root": nothing, "leaf": gate.handle}, worker_concurrency=7)
    task = await bench.begin(template(FAN, callables=leaves(FAN)))

    await eventually(lambda: gate.inside == 7)
    assert len(worker.runner.running) == 7
    assert await bench.conn.fetchval("select count(*) from tasker.leases") == 7
    gate.open.set()

    assert await bench.settled(task) == "complete"
    assert gate.most == 7


async def test_concurrency_is_reached_and_not_passed_in_threads(bench):
    """Likewise for handlers in threads, quick ones and slow ones."""
    lock, inside, most = threading.Lock(), 0, 0
    meet = threading.Barrier(7)

    def leaf(context):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        if int(context.step_name.removeprefix("leaf_")) < 28:
            meet.wait(20)  # seven have to be here at once, four times
        with lock:
            inside -= 1

    await bench.worker({"root": nothing, "leaf": leaf}, worker_concurrency=7)
    task = await bench.begin(template(FAN, callables=leaves(FAN)))

    assert await bench.settled(task) == "complete"
    assert most == 7


async def test_a_batch_too_large_for_one_call_goes_in_several(bench, monkeypatch):
    """Results are recorded in as many calls as their size asks for, each once."""
    monkeypatch.setattr(record_module, "MOST_CHARACTERS", 1000)
    worker = await bench.worker(
        {"root": nothing, "leaf": lambda context: {"x": "y" * 700}}, worker_concurrency=30
    )
    state, task = await bench.run(template(FAN, callables=leaves(FAN)))

    assert state == "complete"
    assert await bench.outcomes(task) == ["complete"] * 31
    await eventually(lambda: worker.finished_count == 31)


# --- which ------------------------------------------------------------------------------


async def test_a_flood_in_one_namespace_does_not_hold_up_another(bench):
    """A worker with a single slot takes from each in turn."""
    ran = []

    async def note(context):
        ran.append(context.namespace)
        return {}

    for _ in range(6):
        await bench.begin(template(ONE, namespace="flood"))
    last = [await bench.begin(template(ONE, namespace="few")) for _ in range(2)]
    await bench.worker({"a": note}, worker_concurrency=1)

    assert [await bench.settled(task) for task in last] == ["complete"] * 2
    first, second = [place for place, namespace in enumerate(ran) if namespace == "few"]
    assert first <= 1
    assert second <= 4


async def test_only_what_it_can_do_is_claimed(bench):
    """A step whose handler nobody has stays enqueued, and the worker says so."""
    worker = await bench.worker({"a": nothing, "c": nothing})
    task = await bench.begin(template(CHAIN))

    await eventually(lambda: bench.attempts(task, "a"))
    await eventually(lambda: [lane.callable for lane in worker.unserved] == ["b"])
    (ready,) = await bench.conn.fetch("select * from tasker.ready")
    assert ready["step_no"] == 2
    assert worker.namespaces == ["shop"]

    await bench.worker({"b": nothing})
    assert await bench.settled(task) == "complete"


async def test_a_template_registered_later_is_served(bench):
    """A new lane is noticed without a restart, and without waiting for a poll."""
    await bench.worker({"a": nothing, "b": nothing}, poll_seconds=HOUR)
    assert (await bench.run(template({"a": []})))[0] == "complete"
    assert (await bench.run(template({"b": []}, name="later")))[0] == "complete"


async def test_namespaces_are_a_filter(bench):
    """A worker of one namespace leaves the others alone."""
    worker = await bench.worker({"a": nothing}, namespaces=["shop"])
    left = await bench.begin(template(ONE, namespace="other"))
    assert (await bench.run(template(ONE)))[0] == "complete"

    assert await bench.attempts(left) == []
    assert worker.namespaces == ["shop"]
    await bench.worker({"a": nothing}, namespaces=["other"])
    assert await bench.settled(left) == "complete"


async def test_handlers_can_be_swapped(bench, gate):
    """`use` takes effect for what begins from then on; what runs goes on with its code."""
    worker = await bench.worker({"a": gate.handle})
    old = await bench.begin(template(ONE))
    await eventually(lambda: gate.inside)

    async def newer(context):
        return {"newer": True}

    worker.use(registry({"a": newer}))
    _, new = await bench.run(template(ONE))
    gate.open.set()

    assert await bench.settled(old) == "complete"
    assert await bench.result(old, "a") == {}
    assert await bench.result(new, "a") == {"newer": True}


async def test_a_step_whose_handler_was_taken_away_waits(bench, monkeypatch):
    """A claim that meets a registry without its handler is given back, and is no attempt."""
    worker = await bench.worker({"a": nothing})
    await register_template(bench.conn, template(ONE))
    await eventually(lambda: worker.lanes)
    worker._plans.use(registry({}))  # not `use`, which would look for lanes first
    (task,) = await bench.create(template(ONE))

    await eventually(lambda: not worker.lanes)
    await eventually(lambda: bench.conn.fetchval("select count(*) from tasker.ready"))
    worker.use(registry({"a": nothing}))

    assert await bench.settled(task) == "complete"
    assert [past["attempt"] for past in await bench.attempts(task)] == [1]


async def test_a_template_that_cannot_be_read_fails_its_steps_only(bench):
    """A damaged definition is a failed attempt with the reason; the worker lives on."""
    broken = template(ONE, name="broken", retry={"max_attempts": 1})
    await register_template(bench.conn, broken)
    await bench.conn.execute("update tasker.templates set definition = '{\"name\": 7}'")
    worker = await bench.worker({"a": nothing})
    template_uuid = await bench.conn.fetchval("select template_uuid from tasker.templates")
    await bench.conn.execute(
        "select tasker.create_tasks(array['01920000-0000-7000-8000-000000000000'::uuid], "
        "array[$1::uuid], array['{}'::json], array[0], array[null::bytea], "
        "array[gen_random_uuid()], array[null::uuid], array['x'], array['x'], array['x'], "
        "array['[]'::jsonb])",
        template_uuid,
    )
    task = await bench.conn.fetchval("select task_uuid from tasker.tasks")

    assert await bench.settled(task) == "blocked_by_failures"
    (past,) = await bench.attempts(task)
    assert "template cannot be read" in past["error"]["message"]
    await bench.conn.execute("delete from tasker.templates where template_uuid = $1", template_uuid)
    assert (await bench.run(template(ONE)))[0] == "complete"
    assert worker.finished_count == 2


# --- when -------------------------------------------------------------------------------


async def test_an_idle_worker_starts_a_new_task_at_once(bench):
    """A notification wakes it: the poll is an hour away."""
    await bench.worker({"a": nothing}, poll_seconds=HOUR, sweep_seconds=HOUR)
    await bench.run(template(ONE))

    for _ in range(5):
        (task,) = await bench.create(template(ONE))
        assert await bench.settled(task, seconds=5) == "complete"


async def test_a_retry_runs_when_it_is_due(bench):
    """A timer wakes the worker for a delayed step."""

    async def flaky(context):
        if context.attempt == 1:
            raise ValueError("once")

    await bench.worker({"a": flaky}, poll_seconds=HOUR, sweep_seconds=HOUR)
    flow = template(ONE, retry={"backoff": "linear", "backoff_base_ms": 300})
    state, task = await bench.run(flow)

    first, second = await bench.attempts(task)
    assert state == "complete"
    assert second["claimed_at"] >= first["due_at"]
    assert (second["claimed_at"] - first["due_at"]).total_seconds() < 2


async def test_a_retry_is_not_forgotten_by_a_worker_that_was_full(bench, gate):
    """The timer set for a retry outlives the turns in which there was no room."""

    async def flaky(context):
        if context.attempt == 1:
            raise ValueError("once")

    await bench.worker(
        {"a": flaky, "b": gate.handle},
        poll_seconds=HOUR,
        sweep_seconds=HOUR,
        worker_concurrency=2,
    )
    flow = template(ONE, retry={"backoff": "linear", "backoff_base_ms": 500})
    task = await bench.begin(flow)
    await eventually(lambda: bench.attempts(task))
    others = [await bench.begin(template({"b": []}, name="other"))]
    others += await bench.create(template({"b": []}, name="other"), 2)
    await eventually(lambda: gate.inside == 2)
    gate.open.set()

    assert await bench.settled(task, seconds=5) == "complete"
    for other in others:
        assert await bench.settled(other) == "complete"


async def test_a_second_idle_worker_is_woken_for_a_fan_out(bench, gate):
    """What the worker that released it has no room for goes to another one."""
    handlers = {"root": nothing, "leaf": gate.handle, "join": nothing}
    one, two = [
        await bench.worker(handlers, worker_concurrency=4, poll_seconds=HOUR, sweep_seconds=HOUR)
        for _ in range(2)
    ]
    task = await bench.begin(template(WIDE, callables=leaves(WIDE)))

    await eventually(lambda: gate.inside == 8)
    assert len(one.runner.running) == len(two.runner.running) == 4
    gate.open.set()
    assert await bench.settled(task) == "complete"


# --- cancel -----------------------------------------------------------------------------


async def test_cancelling_a_task_cancels_its_async_handlers(bench, gate):
    """The handler sees a CancelledError, its slot is free, and nothing is recorded after that."""
    worker = await bench.worker({"a": gate.handle})
    task = await bench.begin(template(ONE))
    await eventually(lambda: gate.inside)

    await cancel_task(bench.conn, task, actor="me", reason="no more")
    await eventually(lambda: gate.cancelled == 1)
    await eventually(lambda: not worker.runner.running)

    assert await bench.outcomes(task) == ["cancelled"]


class Asking:
    """A sync handler that goes on until it is told that it works for nothing."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.told = []
        self.give_up = threading.Event()

    def __call__(self, context):
        self.begun.set()
        while not self.give_up.wait(0.002):
            if context.is_cancelled:
                self.told.append(context.step_name)
            context.raise_if_cancelled()
        return {"gave_up": True}


@pytest.fixture
def asking():
    handler = Asking()
    yield handler
    handler.give_up.set()


async def test_a_thread_is_told_that_its_task_was_cancelled(bench, asking):
    """It ends by itself, its slot is free, and what it raised is recorded nowhere."""
    worker = await bench.worker({"a": asking})
    task = await bench.begin(template(ONE))
    await eventually(asking.begun.is_set)

    await cancel_task(bench.conn, task, actor="me", reason="no more")
    await eventually(lambda: asking.told == ["a"])
    await eventually(lambda: not worker.runner.running)

    assert await bench.outcomes(task) == ["cancelled"]


async def test_a_thread_is_told_that_its_step_was_settled(bench, asking):
    """At once, with a lease that lasts; its sibling runs on."""
    other = Asking()
    try:
        await bench.worker({"a": asking, "b": other})
        task = await bench.begin(template({"a": [], "b": []}))
        await eventually(lambda: asking.begun.is_set() and other.begun.is_set())

        step = await step_id(bench.conn, task, "a")
        await resolve_step(bench.conn, task, step, actor="me", reason="by hand", force=True)
        await eventually(lambda: asking.told == ["a"])

        assert other.told == []
        other.give_up.set()
        assert await bench.settled(task) == "complete"
    finally:
        other.give_up.set()


async def test_a_thread_is_told_that_it_has_timed_out(bench, asking):
    """So that the next attempt need not run beside it."""
    await bench.worker({"a": asking}, handler_timeout_seconds=0.05)
    task = await bench.begin(template(ONE, retry={"max_attempts": 1}))

    assert await bench.settled(task) == "blocked_by_failures"
    await eventually(lambda: asking.told == ["a"])
    (past,) = await bench.attempts(task)
    assert past["error"]["error_type"] == "timeout"


async def test_a_cancelled_step_that_waits_for_a_thread_never_begins(bench):
    """What was claimed and has not begun is dropped, and its slot is not used twice."""
    begun, release = [], threading.Event()

    def hold(context):
        begun.append(context.step_name)
        release.wait(20)

    worker = await bench.worker({"root": nothing, "leaf": hold}, worker_concurrency=4)
    # every thread but one is made to look busy, so that steps wait in the queue
    worker.runner._threads._limit = 1
    graph = {f"leaf_{n}": [] for n in range(4)}
    task = await bench.begin(template(graph, callables=leaves(graph)))
    await eventually(lambda: len(begun) == 1 and len(worker.runner.running) == 4)

    await cancel_task(bench.conn, task, actor="me", reason="no more")
    await eventually(lambda: all(one.is_over for one in worker.runner.running.values()))
    release.set()
    await eventually(lambda: not worker.runner.running)

    assert len(begun) == 1


async def test_an_attempt_dropped_before_it_begins_frees_its_slot(bench, gate):
    """An asyncio task that is cancelled in the round in which it was made is not lost."""
    worker = await bench.worker({"a": gate.handle}, worker_concurrency=1)
    begin = worker.runner.begin

    def begin_and_drop():
        begin()
        for attempt in worker.runner.running.values():
            worker.runner.begin = begin
            worker.runner.drop(attempt)

    worker.runner.begin = begin_and_drop
    await bench.begin(template(ONE, retry={"max_attempts": 1}))

    await eventually(lambda: worker.runner.begin == begin)
    await eventually(lambda: not worker.runner.running)
    assert gate.inside == 0
    # the lease is still there, as after a lost notice: leave none behind
    await bench.conn.execute("update tasker.leases set ends_at = now() - interval '1 s'")
    await bench.conn.execute("select tasker.sweep()")


async def test_a_strange_notice_does_no_harm(bench):
    """Anybody may notify on our channels; what makes no sense is passed over."""
    await bench.worker({"a": nothing}, poll_seconds=HOUR)
    for channel in ("tasker_cancelled", "tasker_ready", "tasker_lanes"):
        await bench.conn.execute(f"notify {channel}, 'no such thing'")
        await bench.conn.execute(f"notify {channel}")

    assert (await bench.run(template(ONE)))[0] == "complete"


async def test_one_half_runs_while_the_other_is_recorded(bench, monkeypatch):
    """With many quick steps the database and the handlers work at the same time."""
    real, counts = record_module.finish_steps, {"begun": 0}
    meanwhile = []

    async def handle(context):
        counts["begun"] += 1
        return {}

    async def finish(conn, worker_uuid, ends, **asked):
        before = counts["begun"]
        work = await real(conn, worker_uuid, ends, **asked)
        if ends:
            meanwhile.append(counts["begun"] - before)
        return work

    monkeypatch.setattr(record_module, "finish_steps", finish)
    first, *_ = await begin(bench.conn, template(ONE), 400)
    worker = await bench.worker({"a": handle}, worker_concurrency=100)

    await eventually(lambda: worker.finished_count == 400)
    assert await bench.settled(first) == "complete"
    assert max(meanwhile) >= 40


async def test_a_call_sends_the_lanes_of_its_namespaces(bench, monkeypatch):
    """However many others the worker serves; and a step still goes from hand to hand."""
    real, sent = record_module.finish_steps, []

    async def finish(conn, worker_uuid, ends, **asked):
        work = await real(conn, worker_uuid, ends, **asked)
        if ends:
            sent.append((set(asked["lanes"]), len(work.claims)))
        return work

    monkeypatch.setattr(record_module, "finish_steps", finish)
    for name in ("elsewhere", "here"):
        await register_template(bench.conn, template(CHAIN, namespace=name))
    own = {lane.lane for lane in await list_lanes(bench.conn, ["here"])}
    worker = await bench.worker(dict.fromkeys(CHAIN, nothing))
    assert set(worker.lanes) > own

    (task,) = await bench.create(template(CHAIN, namespace="here"))

    assert await bench.settled(task) == "complete"
    assert sent == [(own, 1), (own, 1), (own, 0)]


# --- stop -------------------------------------------------------------------------------


async def test_stopping_lets_running_handlers_end(bench, gate):
    """The result of what runs is recorded; nothing new is claimed."""
    worker = await bench.worker({"a": gate.handle, "b": nothing, "c": nothing})
    task = await bench.begin(template(CHAIN))
    await eventually(lambda: gate.inside)

    stopping = asyncio.create_task(worker.stop())
    await eventually(lambda: worker._is_draining)
    gate.open.set()
    await stopping

    assert await bench.outcomes(task) == ["complete"]
    assert await bench.conn.fetchval("select count(*) from tasker.leases") == 0
    assert await bench.conn.fetchval("select count(*) from tasker.ready") == 1
    assert await bench.conn.fetchval("select count(*) from tasker.workers") == 0
    await bench.worker({"b": nothing, "c": nothing})
    assert await bench.settled(task) == "complete"


@pytest.mark.parametrize("drain_seconds", [0, 5])
async def test_stopping_gives_back_what_has_not_begun(bench, drain_seconds):
    """A step that waits for a thread goes back at once, and its attempt does not count."""
    begun, release = [], threading.Event()

    def hold(context):
        begun.append(context.step_name)
        release.wait(20)

    worker = await bench.worker({"leaf": hold}, worker_concurrency=4, sweep_seconds=HOUR)
    worker.runner._threads._limit = 1
    graph = {f"leaf_{n}": [] for n in range(4)}
    task = await bench.begin(template(graph, callables=leaves(graph)))
    await eventually(lambda: len(begun) == 1 and len(worker.runner.running) == 4)

    stopping = asyncio.create_task(worker.stop(drain_seconds=drain_seconds))
    ready = "select count(*) from tasker.ready"
    await eventually(lambda: bench.conn.fetchval(f"{ready} where attempt = 0 having count(*) = 3"))
    if drain_seconds:
        assert not stopping.done()
        release.set()
    await stopping
    release.set()

    assert len(begun) == 1
    assert await bench.conn.fetchval("select count(*) from tasker.leases") == (not drain_seconds)
    await bench.conn.execute("update tasker.leases set ends_at = now() - interval '1 s'")
    await bench.worker({"leaf": nothing}, worker_concurrency=4)
    assert await bench.settled(task) == "complete"
    assert sorted(await bench.outcomes(task))[:4] == ["complete"] * 4


async def test_async_handlers_are_given_back_after_the_drain(bench, gate):
    """They are cancelled, have cleaned up before anybody else begins, and no attempt counts."""
    cleaned = asyncio.Event()

    async def tidy(context):
        try:
            await gate.handle(context)
        finally:
            ready = await bench.conn.fetchval("select count(*) from tasker.ready")
            assert ready == 0, "given back while it was still running"
            cleaned.set()

    worker = await bench.worker({"a": tidy})
    task = await bench.begin(template(ONE))
    await eventually(lambda: gate.inside)
    await worker.stop(drain_seconds=0.05)

    assert cleaned.is_set()
    assert await bench.attempts(task) == []
    assert await bench.conn.fetchval("select attempt from tasker.ready") == 0
    await bench.worker({"a": nothing})
    assert await bench.settled(task) == "complete"
    assert [past["attempt"] for past in await bench.attempts(task)] == [1]


async def test_stop_may_be_called_by_several(bench, gate):
    """Each of them returns when the worker has stopped, and not before."""
    worker = await bench.worker({"a": gate.handle})
    await bench.begin(template(ONE))
    await eventually(lambda: gate.inside)

    stopping = [asyncio.create_task(worker.stop(drain_seconds=0.05)) for _ in range(3)]
    await asyncio.gather(*stopping, worker.wait_closed())

    assert await bench.conn.fetchval("select count(*) from tasker.leases") == 0
    names = "select count(*) from pg_stat_activity where application_name like 'tasker worker%'"
    await eventually(lambda: bench.conn.fetchval(f"select ({names}) = 0"))


async def test_threads_end_with_the_worker(bench):
    """A worker that has stopped leaves no thread behind."""
    before = {*threading.enumerate()}  # those of other tests are their own affair

    def left() -> list[threading.Thread]:
        threads = {*threading.enumerate()} - before
        return [one for one in threads if one.name in {"tasker-handler", "tasker-lookup"}]

    worker = await bench.worker({"a": lambda c: {}, "b": lambda c: dict(c.dependency_results)})
    big = {"x": "y" * 40_000}
    assert (await bench.run(template(ONE), context=big))[0] == "complete"
    assert left()

    await worker.stop()
    await eventually(lambda: not left())


# --- the database's refusals ------------------------------------------------------------


async def test_a_result_that_the_database_refuses_fails_its_step_only(bench, monkeypatch):
    """Should something slip through our checks, the rest of its batch is recorded all the same."""
    from tasker_core.worker import attempt as attempt_module

    honest = attempt_module.Attempt._write

    def slips(self, result, seconds, max_bytes):
        made = honest(self, result, seconds, max_bytes)
        bad = self.claim.name == "leaf_3"
        return Finished(*made_key(made), "{broken" if bad else made.result, None)

    def made_key(made):
        return made.task_uuid, made.step_no, made.attempt

    monkeypatch.setattr(attempt_module.Attempt, "_write", slips)
    worker = await bench.worker({"leaf": lambda c: {}}, worker_concurrency=8)
    graph = {f"leaf_{n}": [] for n in range(8)}
    state, task = await bench.run(template(graph, callables=leaves(graph)))

    assert state == "blocked_by_failures"
    ends = {past["name"]: past for past in await bench.attempts(task)}
    assert ends.pop("leaf_3")["error"]["error_type"] == "invalid_result"
    assert {past["outcome"] for past in ends.values()} == {"complete"}
    await eventually(lambda: worker.finished_count == 8)


async def test_it_does_not_start_on_another_schema(bench, clean_database):
    """A database without our schema is refused with the reason."""
    from support.postgres import create_database, drop_database
    from support.workers import Bench

    url = await create_database(clean_database)
    try:
        with pytest.raises(SchemaOutOfDate):
            await Bench(url, bench.conn).worker({"a": nothing})
    finally:
        await drop_database(url)
