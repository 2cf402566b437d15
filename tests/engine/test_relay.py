"""What a relay asks of the database."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest

from support.events import outbox, publishing, telling, told
from support.flows import begin, begin_one, done
from tasker_core.engine.relay import (
    confirm_events,
    drop_events,
    lead_relay,
    list_failed_events,
    next_events,
    read_outbox_state,
    refuse_event,
    retry_events,
)

STEPS = {name: [] for name in "abc"}


@pytest.fixture
async def tasks(conn, worker):
    """Two tasks with three events each, recorded in turns."""
    tasks = await begin(conn, publishing(steps=STEPS), 2)
    claims = await worker.claim()
    for claim in sorted(claims, key=lambda claim: claim.step_no):
        await worker.finish(telling(done(claim, {}), "success", name=f"step.{claim.name}"))
    return sorted(tasks)


async def test_one_session_leads(connect):
    """The next one does when it is gone."""
    one, two = await connect(), await connect()

    assert await lead_relay(one)
    assert not await lead_relay(two)
    await one.close()
    assert await lead_relay(two)


async def test_events_of_a_task_come_in_their_order(conn, tasks):
    """The oldest task first; a task that is held is left out."""
    events = await next_events(conn, limit=4)
    assert [(event.task_uuid, event.name) for event in events] == [
        *((tasks[0], f"step.{name}") for name in "abc"),
        (tasks[1], "step.a"),
    ]

    rest = await next_events(conn, limit=4, held_tasks=[tasks[0]])
    assert {event.task_uuid for event in rest} == {tasks[1]}


async def test_large_events_come_few_at_a_time(conn, tasks):
    """At least one, so that each comes at last."""
    await conn.execute(
        "update tasker.outbox set event = json_build_object('big', repeat('x', 9000000))"
    )

    assert len(await next_events(conn, limit=100)) == 2


async def test_what_is_confirmed_is_gone(conn, tasks, worker):
    """And what is recorded after that comes after what is left."""
    first, second, *_ = await next_events(conn, limit=2)

    await confirm_events(conn, [first, second])

    assert await told(conn, tasks[0]) == ["step.c"]


async def test_a_number_that_is_used_again_confirms_nothing(conn, worker):
    """What was delivered long ago does not take away an event that came to its number since."""
    task = await begin_one(conn, publishing(steps={"a": [], "b": []}))
    one, two = await worker.claim()
    await worker.finish(telling(done(one, {}), "success"))
    (first,) = await next_events(conn, limit=1)
    await confirm_events(conn, [first])
    await worker.finish(telling(done(two, {}), "success"))
    (second,) = await next_events(conn, limit=1)

    await confirm_events(conn, [first])

    assert first.event_no == second.event_no
    assert await told(conn, task) == ["order.success"]


async def test_a_refused_event_is_put_aside_and_comes_back(conn, tasks, connect):
    """After the last try; the error is kept; it comes back behind the others of its task."""
    (first,) = await next_events(conn, limit=1)

    assert not await refuse_event(conn, first, "too large", max_tries=2)
    (row, *_) = await outbox(conn)
    assert (row["tries"], row["error"]) == (1, "too large")
    assert await refuse_event(conn, first, "still too large", max_tries=2)

    assert await told(conn, tasks[0]) == ["step.b", "step.c"]
    (failed,) = await list_failed_events(conn)
    assert failed.event_uuid == first.event_uuid
    assert (failed.name, failed.tries, failed.error) == ("step.a", 2, "still too large")

    listener, heard = await connect(), []
    await listener.add_listener("tasker_outbox", lambda *facts: heard.append(facts[-1]))
    assert await retry_events(conn, [uuid4()]) == 0
    assert await retry_events(conn, [first.event_uuid]) == 1
    await listener.fetch("select")
    assert heard == [""]
    assert await told(conn, tasks[0]) == ["step.b", "step.c", "step.a"]
    (*_, again) = await outbox(conn, tasks[0])
    assert (again["event"], again["tries"]) == (first.event, 0)
    assert await list_failed_events(conn) == []


async def test_what_was_put_aside_can_be_dropped(conn, tasks):
    """One of it, or all."""
    for event in await next_events(conn, limit=3):
        await refuse_event(conn, event, "no", max_tries=1)
    (one, *_) = await list_failed_events(conn)

    assert await drop_events(conn, [one.event_uuid]) == 1
    assert await retry_events(conn, None) == 2
    assert await drop_events(conn, None) == 0


async def test_the_state_of_the_outbox(conn, connect, worker, clock):
    """How much waits and since when, what was put aside, and whether anybody relays it."""
    state = await read_outbox_state(conn)
    assert (state.waiting, state.waited, state.failed, state.is_relayed) == (0, None, 0, False)

    await begin_one(conn, publishing(steps=STEPS))
    begun = await clock.now()
    for claim in await worker.claim():
        await worker.finish(telling(done(claim, {}), "success"))
        await clock.advance(10)
    (first,) = await next_events(conn, limit=1)
    relay = await connect()
    await lead_relay(relay)
    state = await read_outbox_state(conn)
    assert (state.waiting, state.oldest_at, state.is_relayed) == (3, begun, True)

    await refuse_event(conn, first, "no", max_tries=1)
    state = await read_outbox_state(conn)
    assert (state.waiting, state.failed) == (2, 1)
    assert state.oldest_at == begun + timedelta(seconds=10)
    assert state.waited == timedelta(seconds=20)


async def test_the_next_events_are_found_by_the_key(conn):
    """However many wait, a batch costs a range of the index."""
    await conn.execute(
        "insert into tasker.outbox (task_uuid, event_no, event_uuid, step_no, attempt, recorded_at,"
        " namespace, name, event) select gen_random_uuid(), 1, gen_random_uuid(), 1, 1, now(),"
        " 'shop', 'a.b', '{}' from generate_series(1, 5000); analyze tasker.outbox"
    )
    body = await conn.fetchval(
        "select prosrc from pg_proc where oid = 'tasker.next_events(int, uuid[])'::regprocedure"
    )
    query = re.search(r"for waiting in(.*?)\sloop", body, re.DOTALL)[1]
    for name, place in (("max_events", "$1"), ("held_tasks", "$2")):
        query = query.replace(name, place)
    await conn.execute("set plan_cache_mode = force_generic_plan; set enable_seqscan = off")
    await conn.execute(f"prepare next (int, uuid[]) as {query}")
    plan = "\n".join(row[0] for row in await conn.fetch("explain execute next (10, '{}')"))

    assert "Index Scan using outbox_pkey" in plan
    assert "Sort" not in plan
