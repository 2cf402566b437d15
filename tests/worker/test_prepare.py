"""Durable events are made before the outcome is recorded, and never change it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from support.events import outbox, publishing, read, told
from support.flows import step_id
from support.workers import eventually
from tasker_core.domain_events import (
    BasePublisher,
    BaseSubscriber,
    EventBus,
    PublisherRegistry,
    SubscriberRegistry,
)
from tasker_core.engine.operate import reset_step
from tasker_core.event_rules import event_uuid
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.payload import decode
from tasker_core.worker import prepare
from tasker_core.worker.attempt import Attempt

TWICE = {"max_attempts": 2, "backoff": "none"}


@pytest.fixture(autouse=True)
def _fresh():
    """Each test has registries and a bus of its own."""
    yield
    EventBus.reset()
    PublisherRegistry.reset()
    SubscriberRegistry.reset()


def taken(context):
    return {"total": 12}


async def taken_on_loop(context):
    return {"total": 12}


def refused(context):
    return StepHandlerResult.failure("no", "declined")


class Named(BasePublisher):
    """A publisher whose `transform_payload` is a function."""

    def __init__(self, name, transform):
        self.own_name = name
        self.transform_payload = transform
        self.published = []

    @property
    def publisher_name(self):
        return self.own_name

    def after_publish(self, event_name, payload, metadata):
        self.published.append(event_name)


def by_publisher(name, **block):
    return {"name": f"order.{name}", "publisher": name, **block}


def taken_in_transaction(context):
    with context.transaction() as conn:
        conn.execute("select 1")
    return {"total": 12}


async def taken_in_transaction_on_loop(context):
    async with context.transaction() as conn:
        await conn.execute("select 1")
    return {"total": 12}


HANDLERS = [taken, taken_on_loop, taken_in_transaction, taken_in_transaction_on_loop]


@pytest.mark.parametrize("handler", HANDLERS)
async def test_an_outcome_and_its_events_are_recorded_together(bench, handler):
    """The payload is the result, the id is that of step, attempt and name."""
    await bench.worker({"a": handler})

    state, task = await bench.run(publishing("order.taken", "order.refused failure"))

    (row,) = await outbox(bench.conn, task)
    event = decode(row["event"])
    step = await step_id(bench.conn, task, "a")
    assert state == "complete"
    assert event["event_id"] == str(row["event_uuid"]) == str(event_uuid(step, 1, "order.taken"))
    assert event["payload"] == event["execution_result"]["result"] == {"total": 12}
    assert event["metadata"]["step_name"] == "a"
    assert event["metadata"]["task_uuid"] == str(task)


@pytest.mark.parametrize("delivery", ["durable", "fast"])
async def test_a_result_that_the_database_refuses_is_told_as_a_failure(
    bench, monkeypatch, delivery
):
    """What the step declares for a success is not published then."""
    honest = Attempt._write
    seen = []
    EventBus.instance().subscribe("*", lambda event: seen.append(event.event_name))

    def slips(self, result, seconds, max_bytes):
        made = honest(self, result, seconds, max_bytes)
        return replace(made, result="{broken")

    monkeypatch.setattr(Attempt, "_write", slips)
    await bench.worker({"a": taken})

    flow = publishing(
        {"name": "order.taken", "delivery_mode": delivery},
        {"name": "order.failed", "condition": "permanent_failure", "delivery_mode": delivery},
    )
    state, task = await bench.run(flow)

    assert state == "blocked_by_failures"
    if delivery == "fast":
        await eventually(lambda: seen == ["order.failed"])
        return
    (row,) = await outbox(bench.conn, task)
    assert row["name"] == "order.failed"
    assert decode(row["event"])["execution_result"]["error_type"] == "invalid_result"


async def test_each_attempt_tells_its_own(bench):
    """First that it will be tried again, then that it failed; a reset begins no id anew."""
    flow = publishing(
        "order.stumbled retryable_failure", "order.failed permanent_failure", retry=TWICE
    )
    await bench.worker({"a": refused})
    _, task = await bench.run(flow)
    assert await told(bench.conn) == ["order.stumbled", "order.failed"]

    step = await step_id(bench.conn, task, "a")
    await reset_step(bench.conn, task, step, actor="ann", reason="again")
    await eventually(lambda: _has_events(bench, 4))

    rows = await outbox(bench.conn)
    assert [row["attempt"] for row in rows] == [1, 2, 3, 4]
    assert len({row["event_uuid"] for row in rows}) == 4
    assert decode(rows[0]["event"])["execution_result"]["error_type"] == "declined"


async def _has_events(bench, count):
    return len(await outbox(bench.conn)) == count


async def test_whatever_a_publisher_does_the_outcome_is_recorded(bench, monkeypatch):
    """A hook that raises, a payload that cannot be stored or does not fit, a hook that hangs."""
    monkeypatch.setattr(prepare, "HOOK_SECONDS", 0.2)
    held = threading.Event()

    def broken(ctx):
        raise RuntimeError("no")

    registry = PublisherRegistry.instance()
    for name, transform in {
        "broken": broken,
        "unstorable": lambda ctx: {"text": "\x00"},
        "odd": lambda ctx: "no object",
        "misfit": lambda ctx: {"n": 1},
        "fine": lambda ctx: {"n": ctx.result["total"]},
        "hanging": lambda ctx: held.wait(10),
    }.items():
        registry.register(Named(name, transform))
    misfit = by_publisher("misfit", schema={"required": ["total"]})
    several = publishing(
        by_publisher("broken"),
        by_publisher("unstorable"),
        by_publisher("odd"),
        misfit,
        by_publisher("fine"),
        name="several",
    )
    await bench.worker({"a": taken})

    assert (await bench.run(several))[0] == "complete"
    assert await told(bench.conn) == ["order.fine"]
    assert decode((await outbox(bench.conn))[0]["event"])["payload"] == {"n": 12}

    hanging = publishing(by_publisher("hanging"), name="hanging")
    assert (await bench.run(hanging))[0] == "complete"
    assert await told(bench.conn) == ["order.fine"]
    held.set()


async def test_a_slow_publisher_holds_up_nobody_else(bench):
    """Its own step waits for it, and keeps its slot and its lease meanwhile."""
    held = threading.Event()
    PublisherRegistry.instance().register(Named("slow", lambda ctx: held.wait(20) and {}))
    await bench.worker({"a": taken_on_loop, "b": taken}, lease_seconds=1)
    slow = await bench.begin(publishing(by_publisher("slow"), name="slow"))

    assert (await bench.run(publishing(name="quick")))[0] == "complete"
    await asyncio.sleep(1.5)
    held.set()

    assert await bench.settled(slow) == "complete"
    assert await bench.outcomes(slow) == ["complete"]
    assert await told(bench.conn) == ["order.slow"]


async def test_stopping_waits_for_events_that_are_being_made(bench):
    """A worker that drains records the outcome with its events."""
    held, begun = threading.Event(), threading.Event()

    def transform(ctx):
        begun.set()
        held.wait(20)
        return {}

    PublisherRegistry.instance().register(Named("slow", transform))
    worker = await bench.worker({"a": taken})
    task = await bench.begin(publishing(by_publisher("slow")))
    await eventually(begun.is_set)

    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.05)
    held.set()
    await stopping

    assert await bench.settled(task) == "complete"
    assert await told(bench.conn) == ["order.slow"]


async def test_a_broadcast_event_is_made_once_and_told_twice(bench):
    """At once to subscribers here, and to the outbox; both times with one id."""
    heard = []
    publisher = Named("one", lambda ctx: {"made": len(heard)})
    PublisherRegistry.instance().register(publisher)
    EventBus.instance().subscribe("order.*", heard.append)
    await bench.worker({"a": taken})

    await bench.run(
        publishing(
            by_publisher("one", delivery_mode="broadcast"),
            {"name": "order.kept"},
            {"name": "order.seen", "delivery_mode": "fast"},
        )
    )

    await eventually(lambda: len(heard) == 2)
    rows = {row["name"]: row for row in await outbox(bench.conn)}
    assert list(rows) == ["order.one", "order.kept"]
    assert [event.event_name for event in heard] == ["order.one", "order.seen"]
    assert heard[0].event_id == rows["order.one"]["event_uuid"]
    assert publisher.published == ["order.one"]


async def test_a_result_that_is_not_accepted_tells_of_the_failure(bench):
    """What a decision asks for cannot be done: the step fails, and so say its events."""
    steps = {"root": [], "a": ["root"], "b": ["a"]}
    definition = dict(publishing("order.decided", "order.failed failure", steps=steps).definition)
    root, decision, branch = definition["steps"]
    decision["type"] = "decision"
    root["publishes_events"] = branch["publishes_events"] = []
    wrong = {"decision_point_outcome": {"type": "create_steps", "step_names": ["nobody"]}}
    await bench.worker({"root": taken, "a": lambda context: wrong, "b": taken})

    state, _ = await bench.run(read(definition))

    assert state == "blocked_by_failures"
    assert await told(bench.conn) == ["order.failed"]


# --- durable subscribers ---------------------------------------------------------------------


class Collecting(BaseSubscriber):
    """Keeps what it hears, and fails as often as it is told to."""

    durable = True

    def __init__(self, failures=0):
        self.heard, self.failures = [], failures

    @classmethod
    def subscribes_to(cls):
        return ["order.*"]

    def handle(self, event):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.heard.append(event)


async def test_a_durable_subscriber_gets_what_others_do_not(bench):
    """Durable events, after their outcome; one that is not durable hears only the fast ones."""
    durable, fleeting = Collecting(), Collecting()
    fleeting.durable = False
    SubscriberRegistry.instance().register_instance(durable, "durable")
    SubscriberRegistry.instance().register_instance(fleeting, "fleeting")
    await bench.worker({"a": taken})

    _, task = await bench.run(
        publishing(
            "order.taken",
            {"name": "order.seen", "delivery_mode": "fast"},
            {"name": "order.both", "delivery_mode": "broadcast"},
        )
    )

    await eventually(lambda: len(durable.heard) == 3)
    await eventually(lambda: _has_events(bench, 0))
    assert sorted(event["event_name"] for event in durable.heard) == [
        "order.both",
        "order.seen",
        "order.taken",
    ]
    assert [event["event_name"] for event in fleeting.heard] == ["order.seen", "order.both"]
    (event,) = (one for one in durable.heard if one["event_name"] == "order.taken")
    assert (event["payload"], event["metadata"]["task_uuid"]) == ({"total": 12}, task)


async def test_a_durable_subscriber_that_fails_gets_the_event_again(bench, monkeypatch):
    """The others do not."""
    from tasker_core.relay import relay

    monkeypatch.setattr(relay, "FIRST_REST_SECONDS", 0.01)
    failing, other = Collecting(failures=2), Collecting()
    SubscriberRegistry.instance().register_instance(failing, "failing")
    SubscriberRegistry.instance().register_instance(other, "other")
    await bench.worker({"a": taken})

    await bench.run(publishing("order.taken", "order.ended always"))

    await eventually(lambda: len(failing.heard) == 2)
    await eventually(lambda: _has_events(bench, 0))
    for subscriber in (failing, other):
        assert [one["event_name"] for one in subscriber.heard] == ["order.taken", "order.ended"]


async def test_events_wait_for_a_worker_with_subscribers(bench):
    """They are kept while nobody takes them."""
    first = await bench.worker({"a": taken})
    await bench.run(publishing("order.taken"))
    await first.stop()
    assert await told(bench.conn) == ["order.taken"]

    subscriber = Collecting()
    SubscriberRegistry.instance().register_instance(subscriber)
    await bench.worker({})

    await eventually(lambda: len(subscriber.heard) == 1)


async def test_subscribers_that_have_stopped_lose_nothing(bench):
    """Their events wait until they are back."""
    subscriber = Collecting()
    SubscriberRegistry.instance().register_instance(subscriber)
    await bench.worker({"a": taken}, poll_seconds=0.05)
    subscriber.stop()
    await bench.run(publishing("order.taken"))
    await asyncio.sleep(0.1)
    assert await told(bench.conn) == ["order.taken"]

    subscriber.start()

    await eventually(lambda: len(subscriber.heard) == 1)


async def test_durable_events_wait_while_subscribers_change(bench):
    """Those that came meanwhile go to who is there afterwards, and to nobody else."""
    earlier, later = Collecting(), Collecting()
    SubscriberRegistry.instance().register_instance(earlier)
    worker = await bench.worker({"a": taken})
    async with worker.changing():
        await bench.run(publishing("order.taken"))
        assert await told(bench.conn) == ["order.taken"]
        SubscriberRegistry._instance = None
        SubscriberRegistry.instance().register_instance(later)
        worker.use(worker._plans.registry)

    await eventually(lambda: len(later.heard) == 1)
    assert (earlier.heard, earlier.active) == ([], False)


async def test_the_first_durable_subscriber_may_come_later(bench):
    """The worker begins to relay, and ends it when the last one goes."""
    worker = await bench.worker({"a": taken})
    await bench.run(publishing("order.taken"))
    subscriber = Collecting()
    async with worker.changing():
        SubscriberRegistry.instance().register_instance(subscriber)
        worker.use(worker._plans.registry)
    await eventually(lambda: len(subscriber.heard) == 1)

    async with worker.changing():
        SubscriberRegistry._instance = None
        worker.use(worker._plans.registry)
    await bench.run(publishing("order.taken"))
    assert await told(bench.conn) == ["order.taken"]


async def test_with_a_broker_subscribers_do_not_take_its_events(bench):
    """Else some would go here and some there."""
    subscriber = Collecting()
    SubscriberRegistry.instance().register_instance(subscriber)
    await bench.worker({"a": taken}, events_url="amqp://127.0.0.1:1/")

    await bench.run(publishing("order.taken"))

    assert await told(bench.conn) == ["order.taken"]
    assert subscriber.heard == []
