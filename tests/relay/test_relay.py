"""The relay: at least once, in the order of each task, whatever happens to sink and database."""

from __future__ import annotations

import asyncio
from itertools import groupby

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.events import told
from support.workers import eventually
from tasker_core.engine.relay import list_failed_events, read_outbox_state
from tasker_core.relay import relay
from tasker_core.relay.sink import SinkDown


def by_task(sink) -> dict[str, list[str]]:
    """What a sink got, by task, without what came again."""
    first = dict.fromkeys(sink.got)
    ordered = sorted(first, key=lambda one: one[0])
    return {task: [name for _, name in own] for task, own in groupby(ordered, lambda one: one[0])}


async def test_events_are_delivered_and_leave(conn, start, record, sink):
    """Each once, the events of a task in their order; those that come later by a wake-up."""
    tasks = await record(tasks=3)
    running = await start(sink, poll_seconds=60)

    await eventually(lambda: len(sink.got) == 9)
    later = await record(tasks=2, names="xy")
    await eventually(lambda: len(sink.got) == 13)

    assert by_task(sink) == {
        **{task: ["step.a", "step.b", "step.c"] for task in tasks},
        **{task: ["step.x", "step.y"] for task in later},
    }
    assert len(set(sink.ids)) == 13
    await eventually(lambda: running.delivered_count == 13)
    assert await told(conn) == []


async def test_a_sink_that_is_down_loses_nothing(conn, start, record, sink):
    """No try is counted meanwhile, and nothing is put aside."""
    await record(tasks=2)
    sink.is_up = False
    await start(sink)
    await eventually(lambda: sink.opened > relay.MAX_TRIES + 2)
    assert len(await told(conn)) == 6
    assert await conn.fetchval("select max(tries) from tasker.outbox") == 0

    sink.is_up = True

    await eventually(lambda: len(sink.got) == 6)
    assert set(map(tuple, by_task(sink).values())) == {("step.a", "step.b", "step.c")}


async def test_a_sink_that_goes_down_in_the_middle(conn, start, record, sink):
    """What it confirmed is not sent again; the rest comes when it is back."""
    await record(names="abcdef")

    def falls(name):
        sink.is_up = sink.is_up and name != "step.d"
        return not sink.is_up

    sink.refuses = falls
    await start(sink)
    await eventually(lambda: sink.opened > 3)
    assert await told(conn) == ["step.d", "step.e", "step.f"]

    sink.refuses, sink.is_up = (lambda name: False), True

    await eventually(lambda: len(sink.got) == 6)
    assert [name for _, name in sink.got] == [f"step.{name}" for name in "abcdef"]


async def test_an_event_that_is_refused_is_put_aside(conn, start, record, sink):
    """Until then it holds up its own task only; after that nobody."""
    sink.refuses = lambda name: name == "step.b"
    (poisoned,) = await record()
    (healthy,) = await record(names="xyz")
    await start(sink)

    await eventually(lambda: len(sink.got) == 5)

    assert by_task(sink) == {
        poisoned: ["step.a", "step.c"],
        healthy: ["step.x", "step.y", "step.z"],
    }
    assert sink.got.index((healthy, "step.z")) < sink.got.index((poisoned, "step.c"))
    (failed,) = await list_failed_events(conn)
    assert (failed.name, failed.tries) == ("step.b", relay.MAX_TRIES)
    assert failed.error == "not step.b"
    assert sink.failed == relay.MAX_TRIES


async def test_a_sink_may_say_that_it_is_to_blame(conn, start, record, sink):
    """Then no try is counted against the event."""
    await record()
    deliver, failures = sink.deliver, []

    async def blame(event):
        if len(failures) <= relay.MAX_TRIES:
            failures.append(event)
            raise SinkDown("the topic cannot be made")
        await deliver(event)

    sink.deliver = blame
    await start(sink)

    await eventually(lambda: len(sink.got) == 3)
    assert await list_failed_events(conn) == []


async def test_an_error_that_postgresql_cannot_hold(conn, start, record, sink):
    """It is kept all the same, escaped."""
    await record(names="a")

    async def refuse(event):
        raise ValueError("no\x00, \ud800")

    sink.deliver = refuse
    await start(sink)

    (failed,) = await eventually(lambda: list_failed_events(conn))
    assert failed.error == "no\\x00, \\ud800"


async def test_one_relay_works_and_the_next_takes_over(conn, start, record, sink):
    """The second one waits for the lock, and has it when the first has gone."""
    first = await start(sink)
    await record()
    await eventually(lambda: len(sink.got) == 3)
    other = type(sink)()
    await start(other)
    await record(names="xy")
    await eventually(lambda: len(sink.got) == 5)
    assert other.got == []

    await first.stop()
    await record(names="z")

    await eventually(lambda: other.got)
    assert [name for _, name in other.got] == ["step.z"]
    assert sink.closed


async def test_a_broken_connection_is_no_end(conn, start, record, sink):
    """The relay connects anew, and is the relay again."""
    await start(sink)
    await record()
    await eventually(lambda: len(sink.got) == 3)

    await conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'tasker relay' and datname = current_database()"
    )
    await record(names="x")

    await eventually(lambda: sink.got[-1][1] == "step.x")
    assert (await read_outbox_state(conn)).is_relayed


async def test_stopping_finishes_the_event_under_way(conn, start, record, sink):
    """It is delivered and taken away; the others stay."""
    under_way, go_on = asyncio.Event(), asyncio.Event()
    deliver = sink.deliver

    async def slowly(event):
        under_way.set()
        await go_on.wait()
        await deliver(event)

    sink.deliver = slowly
    running = await start(sink)
    await record()
    await under_way.wait()

    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0.02)
    go_on.set()
    await stopping

    assert [name for _, name in sink.got] == ["step.a"]
    assert await told(conn) == ["step.b", "step.c"]


async def test_a_wide_sink_gets_several_tasks_at_a_time(start, record, sink):
    """Never two events of one task."""
    at_work: list[str] = []
    most = 0
    sink.width = 4
    deliver = sink.deliver

    async def watched(event):
        nonlocal most
        assert str(event.task_uuid) not in at_work
        at_work.append(str(event.task_uuid))
        most = max(most, len(at_work))
        await asyncio.sleep(0)
        at_work.remove(str(event.task_uuid))
        await deliver(event)

    sink.deliver = watched
    await record(tasks=10)
    await start(sink)

    await eventually(lambda: len(sink.got) == 30)
    assert most == 4
    assert set(map(tuple, by_task(sink).values())) == {("step.a", "step.b", "step.c")}


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(["fine", "lost answer", "down"]), max_size=12))
async def test_nothing_is_lost_and_order_is_kept(conn, start, record, sink, luck):
    """Whatever a sink does: each event arrives, and first arrivals of a task are in order."""
    made = type(sink)(width=2)
    fate = iter(luck)
    deliver = made.deliver

    async def deliver_with_luck(event):
        what = next(fate, "fine")
        if what != "down":
            await deliver(event)
        if what != "fine":
            raise ConnectionResetError(what)

    made.deliver = deliver_with_luck
    running = await start(made)
    tasks = await record(tasks=2)

    await eventually(lambda: len(set(made.ids)) == 6)
    await eventually(lambda: running.delivered_count == 6)
    await running.stop()
    assert by_task(made) == {task: ["step.a", "step.b", "step.c"] for task in tasks}
    assert await told(conn) == []
