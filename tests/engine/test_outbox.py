"""Durable events: recorded with the outcome that they tell, once, in their order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.events import CONDITIONS, ends, outbox, publishing, telling, told
from support.flows import Worker, begin, begin_one, done, state, step_id
from support.invariants import check_invariants
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.operate import complete_step, resolve_step
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.event_rules import event_uuid, is_due
from tasker_core.payload import decode
from tasker_core.states import TaskState

pytestmark = pytest.mark.usefixtures("consistent")

TWICE = {"max_attempts": 2, "backoff": "none"}
BY = {"actor": "ann", "reason": "I looked"}


@pytest.fixture
async def consistent(conn):
    """The tables must not contradict themselves; here the clock goes back, and history with it."""
    yield
    await check_invariants(conn)


@pytest.mark.parametrize(
    ("end", "fires"),
    [
        ("done", ["success", "always"]),
        ("again", ["failure", "retryable_failure", "always"]),
        ("failed", ["failure", "permanent_failure", "always"]),
    ],
)
async def test_sql_chooses_by_the_outcome_that_it_decides(conn, worker, end, fires):
    """All candidates are sent, and those whose condition is met are recorded."""
    task = await begin_one(conn, publishing(retry=TWICE))

    await worker.finish(telling(ends(await worker.claim_one(), end), *CONDITIONS))

    assert await told(conn) == [f"order.{name}" for name in fires]
    (row, *_) = await outbox(conn)
    assert (row["task_uuid"], row["step_no"], row["attempt"]) == (task, 1, 1)
    assert row["namespace"] == "shop"


async def test_the_last_attempt_fails_for_good(conn, worker):
    """A failure that may be retried is final once no attempt is left."""
    await begin_one(conn, publishing(retry={"max_attempts": 1}))

    await worker.finish(telling(ends(await worker.claim_one(), "again"), *CONDITIONS))

    assert "order.permanent_failure" in await told(conn)
    assert "order.retryable_failure" not in await told(conn)


async def test_a_checkpoint_publishes_nothing(conn, worker):
    """The attempt is not over."""
    await begin_one(conn, publishing())
    end = telling(done(await worker.claim_one()), *CONDITIONS)

    await worker.finish(replace(end, result=None, checkpoint='{"cursor": 1}'))

    assert await told(conn) == []


async def test_what_is_refused_publishes_nothing_and_what_is_repeated_nothing_more(
    conn, worker, clock
):
    """The events share the fence of the result."""
    await begin_one(conn, publishing(retry=TWICE))
    late = telling(done(await worker.claim_one(), {}), "always")
    await clock.advance(31)
    await sweep(conn)
    await clock.advance(60)
    second = Worker(conn)
    good = telling(done(await second.claim_one(), {}), "always")

    refused = await worker.finish(late)
    await second.finish(good)
    await second.finish(good)

    assert len(refused.refusals) == 1
    assert [row["attempt"] for row in await outbox(conn)] == [2]


async def test_nothing_is_recorded_with_a_result_that_is_rolled_back(conn, worker):
    """The outbox is part of the transaction."""
    await begin_one(conn, publishing())
    end = telling(done(await worker.claim_one(), {}), "always")

    transaction = conn.transaction()
    await transaction.start()
    await worker.finish(end)
    assert len(await outbox(conn)) == 1
    await transaction.rollback()

    assert await outbox(conn) == []
    await worker.finish(end)


async def test_one_call_tells_once_and_only_of_something(conn, worker, connect):
    """A notification a transaction; none when no condition was met."""
    listener, heard = await connect(), []
    await listener.add_listener("tasker_outbox", lambda *facts: heard.append(facts[-1]))
    await begin(conn, publishing(), 3)
    first, *others = await worker.claim()

    await worker.finish(telling(done(first, {}), "failure"))
    await listener.fetch("select")
    assert heard == []

    await worker.finish(*(telling(done(one, {}), "success", "always") for one in others))
    await listener.fetch("select")
    assert heard == [""]
    assert len(await outbox(conn)) == 4


async def test_a_task_s_events_are_numbered_as_they_are_recorded(conn, worker, clock):
    """Whichever step ends first comes first, even if the clock goes back meanwhile."""
    steps = {name: [] for name in "abc"}
    task = await begin_one(conn, publishing(steps=steps))
    claims = {claim.name: claim for claim in await worker.claim()}

    for name in "bca":
        await clock.advance(-60)
        await worker.finish(
            telling(done(claims[name], {}), "success", "always", name=f"step.{name}_{{}}")
        )

    assert await told(conn, task) == [
        f"step.{name}_{condition}" for name in "bca" for condition in ("success", "always")
    ]
    assert [row["event_no"] for row in await outbox(conn)] == [1, 2, 3, 4, 5, 6]


async def test_two_workers_of_one_task_do_not_collide(conn, connect):
    """Two results that are recorded at once wait for each other, and get different numbers."""
    task = await begin_one(conn, publishing(steps={"a": [], "b": []}))
    one, two = Worker(await connect()), Worker(await connect())
    (first,), (second,) = await one.claim(1), await two.claim(1)

    transaction = one.conn.transaction()
    await transaction.start()
    await one.finish(telling(done(first, {}), "success"))
    waiting = asyncio.create_task(two.finish(telling(done(second, {}), "success")))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await transaction.commit()
    await waiting

    rows = await outbox(conn, task)
    assert [(row["event_no"], row["step_no"]) for row in rows] == [
        (1, first.step_no),
        (2, second.step_no),
    ]


# --- what nobody can make in a worker ------------------------------------------------------


async def test_an_operator_s_completion_is_told_as_the_operator_s(conn, worker):
    """Success and always, with the result as payload, if it fits the schema."""
    strict = {"type": "object", "required": ["total"]}
    flow = publishing(
        "order.taken",
        "order.ended always",
        "order.refused failure",
        {"name": "order.counted", "schema": strict},
        {"name": "order.seen", "delivery_mode": "fast"},
        retry={"max_attempts": 1},
    )
    task = await begin_one(conn, flow)
    await worker.fail(await worker.claim_one())
    step = await step_id(conn, task, "a")

    await complete_step(conn, TemplateShelf(), task, step, result={"n": 1}, **BY)

    assert await told(conn) == ["order.taken", "order.ended"]
    (row, _) = await outbox(conn)
    event = decode(row["event"])
    assert event["payload"] == {"n": 1}
    assert event["metadata"]["fired_by"] == "ann"
    assert event["metadata"]["step_name"] == "a"
    assert row["event_uuid"] == UUID(event["event_id"]) == event_uuid(step, 0, "order.taken")


async def test_a_resolution_tells_nothing(conn, worker):
    """There is no result to tell."""
    task = await begin_one(conn, publishing("order.taken", "order.ended always"))
    await worker.fail(await worker.claim_one(), retryable=False)

    await resolve_step(conn, task, await step_id(conn, task, "a"), **BY)

    assert await told(conn) == []


async def test_a_lost_attempt_is_told_by_the_sweep(conn, worker, clock):
    """First that it is tried again, then that it has failed for good."""
    flow = publishing(
        "order.taken",
        "order.stumbled retryable_failure",
        "order.failed permanent_failure",
        "order.ended always",
        {"name": "order.explained", "condition": "failure", "schema": {"required": ["why"]}},
        {"name": "order.bare", "condition": "failure", "schema": {"maxProperties": 0}},
        {"name": "order.seen", "condition": "failure", "delivery_mode": "fast"},
        retry=TWICE,
    )
    task = await begin_one(conn, flow)

    for _ in range(2):
        await worker.claim_one()
        await clock.advance(31)
        await sweep(conn)
        await clock.advance(1)

    assert await told(conn, task) == [
        "order.stumbled",
        "order.ended",
        "order.bare",
        "order.failed",
        "order.ended",
        "order.bare",
    ]
    *_, last, bare = await outbox(conn)
    event = decode(last["event"])
    step = await step_id(conn, task, "a")
    assert last["event_uuid"] == UUID(event["event_id"]) == event_uuid(step, 2, "order.ended")
    assert event["payload"] == {
        "step_name": "a",
        "attempt": 2,
        "error_type": "worker_lost",
        "error_message": event["execution_result"]["error_message"],
    }
    assert event["payload"]["error_message"].startswith("the worker did not renew its lease")
    assert decode(bare["event"])["payload"] == {}
    assert event["execution_result"]["error_type"] == "worker_lost"
    assert event["metadata"]["fired_by"] == "sweep"


async def test_an_attempt_that_a_limit_ends_is_told(conn, clock):
    """It has failed for good, whatever attempts were left."""
    flow = publishing(
        "order.failed permanent_failure",
        "order.stumbled retryable_failure",
        "order.taken",
        retry=TWICE,
        lifecycle={"max_duration_minutes": 1, "staleness_action": "error"},
    )
    task = await begin_one(conn, flow)
    await Worker(conn, lease=timedelta(hours=1)).claim_one()
    await clock.advance(61)

    await sweep(conn)

    assert await state(conn, task) is TaskState.ERROR
    assert await told(conn, task) == ["order.failed"]
    (row,) = await outbox(conn)
    event = decode(row["event"])
    step = await step_id(conn, task, "a")
    assert row["event_uuid"] == event_uuid(step, 1, "order.failed")
    assert event["execution_result"]["error_type"] == "task_timeout"
    assert "over its duration" in event["execution_result"]["error_message"]


async def test_a_lost_attempt_that_declares_nothing(conn, worker, clock):
    """Some steps of a sweep declare events, and some do not."""
    quiet = await begin_one(conn, publishing(name="quiet"))
    loud = await begin_one(conn, publishing("order.failed failure", name="loud"))
    await worker.claim()
    await clock.advance(31)

    assert await sweep(conn) == 2

    assert await told(conn, quiet) == []
    assert await told(conn, loud) == ["order.failed"]


# --- the rules -------------------------------------------------------------------------------


async def test_python_and_sql_compute_the_same_ids(conn):
    """The formula is one, whoever uses it."""
    its_task = UUID("01920000-0000-7000-8000-000000000000")
    for number, name in ((1, "payment.charged"), (1_000_000, "a.ü")):
        step = step_uuid(its_task, number)
        found = await conn.fetchval("select tasker.event_uuid($1, $2, $3)", step, number, name)
        assert found == event_uuid(step, number, name)
        assert (found.version, found.variant) == (8, "specified in RFC 4122")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.text()), unique=True))
def test_ids_tell_events_apart(keys):
    """Another step, attempt or name is another id."""
    ids = {event_uuid(UUID(int=step << 64), attempt, name) for step, attempt, name in keys}

    assert len(ids) == len(keys)


def test_conditions_of_python_are_those_of_sql():
    """The same table as above, for events that are not durable."""
    fires = {
        "done": [name for name in CONDITIONS if is_due(name, True, False)],
        "again": [name for name in CONDITIONS if is_due(name, False, True)],
        "failed": [name for name in CONDITIONS if is_due(name, False, False)],
    }
    assert fires == {
        "done": ["success", "always"],
        "again": ["failure", "retryable_failure", "always"],
        "failed": ["failure", "permanent_failure", "always"],
    }
