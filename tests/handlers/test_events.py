"""Domain events within the process: declared, published, heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID, uuid4

import pytest

from tasker_core.handlers.batch import checkpoint_yield
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.events import (
    BasePublisher,
    BaseSubscriber,
    DefaultPublisher,
    DomainEventMetadata,
    EventBus,
    EventDeclaration,
    InProcessDomainEvent,
    PublishContext,
    PublisherRegistry,
    StepEventContext,
    StepResult,
    SubscriberRegistry,
    publish_step_events,
)
from tasker_core.handlers.result import StepHandlerResult

CONTEXT = StepContext.for_testing(
    step_name="charge", handler_name="charge_card", namespace="shop", attempts=1
)
DONE = StepHandlerResult.success({"total": 3}, {"tries": 2})
FAILED = StepHandlerResult.failure("no", "declined", metadata={"traceback": "secret frames"})


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each test has registries and a bus of its own."""
    yield
    EventBus.reset()
    PublisherRegistry.reset()
    SubscriberRegistry.reset()


def declare(name: str = "payment.charged", **rest: Any) -> EventDeclaration:
    return EventDeclaration(name=name, **{"delivery_mode": "fast", **rest})


def event(name: str = "payment.charged") -> InProcessDomainEvent:
    metadata = DomainEventMetadata(
        task_uuid=uuid4(), correlation_id=uuid4(), fired_at="2026-01-01", fired_by="charge"
    )
    return InProcessDomainEvent(
        event_id=uuid4(), event_name=name, metadata=metadata, payload={"items": [1]}
    )


class Recorder(BasePublisher):
    """Notes which hooks ran, and fails in the one that it is told to fail in."""

    publisher_name = "recorder"

    def __init__(self, fail_in: str = "", **answers: Any) -> None:
        self.fail_in = fail_in
        self.answers = answers
        self.calls: list[str] = []
        self.errors: list[Exception] = []

    def _note(self, hook: str, usual: Any) -> Any:
        self.calls.append(hook)
        if hook == self.fail_in:
            raise RuntimeError(hook)
        return self.answers.get(hook, usual)

    def should_publish(self, ctx: StepEventContext) -> bool:
        return bool(self._note("should_publish", True))

    def transform_payload(self, ctx: StepEventContext) -> Any:
        return self._note("transform_payload", {"total": (ctx.result or {}).get("total")})

    def additional_metadata(self, ctx: StepEventContext) -> Any:
        return self._note("additional_metadata", {"more": 1})

    def before_publish(self, event_name: str, payload: Any, metadata: Any) -> bool:
        return bool(self._note("before_publish", True))

    def after_publish(self, event_name: str, payload: Any, metadata: Any) -> None:
        self._note("after_publish", None)

    def on_publish_error(self, event_name: str, error: Exception, payload: Any) -> None:
        self.errors.append(error)
        self._note("on_publish_error", None)


class Listener(BaseSubscriber):
    """Notes the events that it hears of."""

    patterns = ("payment.*",)

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    @classmethod
    def subscribes_to(cls) -> list[str]:
        return list(cls.patterns)

    def handle(self, event: dict[str, Any]) -> None:
        self.heard.append(event)


ORDER = [
    "should_publish",
    "transform_payload",
    "additional_metadata",
    "before_publish",
    "after_publish",
]


# --- publishing the events of an outcome ------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "fires"),
    [
        (None, (True, False, False)),
        ("success", (True, False, False)),
        ("failure", (False, True, True)),
        ("retryable_failure", (False, True, False)),
        ("permanent_failure", (False, False, True)),
        ("always", (True, True, True)),
    ],
)
def test_conditions_look_at_what_was_decided(condition: Any, fires: tuple[bool, ...]):
    """Done, tried again, failed for good; what the handler thought of it does not count."""
    outcomes = [(DONE, False), (FAILED, True), (FAILED, False)]
    published = tuple(
        bool(publish_step_events([declare(condition=condition)], CONTEXT, result, will_retry))
        for result, will_retry in outcomes
    )

    assert published == fires


def test_an_event_says_where_it_comes_from():
    """Payload, ids, names, and how the step went."""
    bus, heard = EventBus(), []
    bus.on_event(heard.append)
    (published,) = publish_step_events([declare()], CONTEXT, DONE, False, bus)

    assert heard == [published]
    assert (published.event_name, published.event_version) == ("payment.charged", "1.0")
    assert published.payload == {"total": 3}
    assert published.metadata.task_uuid == CONTEXT.task_uuid
    assert (published.metadata.step_name, published.metadata.namespace) == ("charge", "shop")
    assert published.metadata.fired_by == "charge_card"
    assert published.metadata.model_dump()["publisher"] == "default"
    assert published.execution_result is not None
    assert (published.execution_result.success, published.execution_result.result) == (
        True,
        {"total": 3},
    )


def test_failures_are_told_without_their_traceback():
    """Subscribers learn type and message."""
    (published,) = publish_step_events([declare(condition="failure")], CONTEXT, FAILED, False)

    assert published.payload == {}
    assert published.execution_result is not None
    assert published.execution_result.error_type == "declined"
    assert "secret frames" not in published.model_dump_json()


def test_the_same_event_has_the_same_id():
    """By step, attempt and name, so that a consumer can tell."""
    again = StepContext.for_testing(
        step_uuid=CONTEXT.step_uuid, step_name="charge", attempts=CONTEXT.retry_count
    )
    later = StepContext.for_testing(step_uuid=CONTEXT.step_uuid, step_name="charge", attempts=2)

    def ids(context: StepContext) -> list[UUID]:
        found = [declare(), declare("payment.done")]
        return [e.event_id for e in publish_step_events(found, context, DONE, False)]

    assert ids(CONTEXT) == ids(again)
    assert len({*ids(CONTEXT), *ids(later)}) == 4


@pytest.mark.parametrize(
    ("mode", "is_heard"), [("fast", True), ("broadcast", True), ("durable", False), (None, False)]
)
def test_only_some_modes_are_heard_in_the_process(mode: Any, is_heard: bool):
    """All are given back, for whoever stores them."""
    bus, heard = EventBus(), []
    bus.on_event(heard.append)
    published = publish_step_events([declare(delivery_mode=mode)], CONTEXT, DONE, False, bus)

    assert len(published) == 1
    assert bool(heard) is is_heard


def test_every_event_has_its_own_publisher():
    """And the default one if it names none, or one that does not exist."""
    registry, recorder = PublisherRegistry(), Recorder()
    registry.register(recorder)
    published = publish_step_events(
        [declare("a.a", publisher="recorder"), declare("a.b"), declare("a.c", publisher="gone")],
        CONTEXT,
        DONE,
        False,
        registry=registry,
    )

    names = [e.metadata.model_dump()["publisher"] for e in published]
    assert names == ["recorder", "default", "default"]
    assert recorder.calls == ORDER
    assert published[0].metadata.model_dump()["more"] == 1


@pytest.mark.parametrize("payload", [{}, {"total": "three"}, {"total": float("nan")}, [1]])
def test_payloads_are_checked(payload: Any):
    """What does not fit the schema, or is no JSON object, is not published."""
    recorder = Recorder(transform_payload=payload)
    registry, bus, heard = PublisherRegistry(), EventBus(), []
    registry.register(recorder)
    bus.on_event(heard.append)
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}
    declared = declare(publisher="recorder", schema=schema)

    assert publish_step_events([declared], CONTEXT, DONE, False, bus, registry) == []
    assert heard == []
    assert len(recorder.errors) == 1


def test_the_templates_own_declarations_will_do():
    """Anything with the same attributes, such as an empty schema."""

    @dataclass
    class Own:
        name: str
        schema: dict[str, Any] = field(default_factory=dict)
        condition: str = "success"
        delivery_mode: str = "fast"
        publisher: str | None = None

    assert len(publish_step_events([Own("a.b")], CONTEXT, DONE, False)) == 1


def test_a_checkpoint_publishes_nothing():
    """The step goes on."""
    declared = [declare(condition="always")]

    assert publish_step_events(declared, CONTEXT, checkpoint_yield(3, 3), False) == []


def test_publishing_never_raises(caplog: pytest.LogCaptureFixture):
    """Whatever is wrong is logged, or goes to the publisher's own hook."""

    class Broken:
        @property
        def condition(self) -> str:
            raise RuntimeError("broken")

    assert publish_step_events([Broken()], CONTEXT, DONE, False) == []  # type: ignore[list-item]
    broken_schema = declare(schema={"type": "nonsense"})
    assert publish_step_events([broken_schema], CONTEXT, DONE, False) == []
    assert "broken" in caplog.text


def test_declarations_can_be_read_from_templates():
    """`schema` is the key, the argument and the attribute."""
    declared = EventDeclaration.model_validate({"name": "a.b", "schema": {"type": "object"}})

    assert declared.schema == declared.schema_ == {"type": "object"}
    assert (declared.condition, declared.delivery_mode, declared.publisher) == (None, None, None)
    assert EventDeclaration(name="a.b", schema_={"a": 1}).schema == {"a": 1}


# --- publishers -------------------------------------------------------------------------

FACTS = StepEventContext.from_step_context(CONTEXT, {"total": 3}, {"tries": 2})


def test_hooks_run_in_order():
    """And the metadata are put together from three places."""
    recorder, delivered = Recorder(), []
    done = recorder.publish(FACTS, "a.b", deliver=lambda *event: delivered.append(event))
    ((name, payload, metadata),) = delivered

    assert (done, recorder.calls) == (True, ORDER)
    assert (name, payload) == ("a.b", {"total": 3})
    assert (metadata["publisher"], metadata["tries"], metadata["more"]) == ("recorder", 2, 1)
    assert (metadata["step_name"], metadata["namespace"]) == ("charge", "shop")


@pytest.mark.parametrize(
    ("hook", "calls"), [("should_publish", ORDER[:1]), ("before_publish", ORDER[:4])]
)
def test_a_publisher_may_hold_back_an_event(hook: str, calls: list[str]):
    """Then nothing that comes after is run."""
    recorder = Recorder(**{hook: False})

    assert recorder.publish(FACTS) is False
    assert recorder.calls == calls


@pytest.mark.parametrize("hook", ORDER)
def test_errors_of_hooks_go_to_the_error_hook(hook: str):
    """Of each hook; they never come out."""
    recorder = Recorder(fail_in=hook)

    assert recorder.publish(FACTS) is False
    assert recorder.calls[-1] == "on_publish_error"
    assert [str(e) for e in recorder.errors] == [hook]


def test_an_error_hook_may_fail_itself(caplog: pytest.LogCaptureFixture):
    """The log has it."""
    failing = Recorder(fail_in="on_publish_error")
    failing.transform_payload = MagicMock(side_effect=ValueError)  # type: ignore[method-assign]

    assert failing.publish(FACTS) is False
    assert "on_publish_error failed" in caplog.text


@pytest.mark.parametrize("in_loop", [True, False])
def test_hooks_may_be_async(in_loop: bool):
    """Inside of a running loop and outside."""

    class Later(BasePublisher):
        publisher_name = "later"

        async def transform_payload(self, ctx: StepEventContext) -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"total": 9}

        async def before_publish(self, *args: Any) -> bool:
            return False

        async def on_publish_error(self, *args: Any) -> None:
            raise AssertionError

    class Broken(Later):
        async def transform_payload(self, ctx: StepEventContext) -> dict[str, Any]:
            raise RuntimeError("late")

        async def on_publish_error(self, event_name: str, error: Exception, payload: Any) -> None:
            errors.append(error)

    errors: list[Exception] = []

    async def publish() -> list[bool]:
        return [Later().publish(FACTS), Broken().publish(FACTS)]

    if in_loop:
        assert asyncio.run(publish()) == [False, False]
    else:
        assert [Later().publish(FACTS), Broken().publish(FACTS)] == [False, False]
    assert [str(e) for e in errors] == ["late"]


def test_a_publish_context_will_do():
    """It names the event; without one the step's name is taken."""
    delivered: list[str] = []

    def deliver(name: str, payload: Any, metadata: Any) -> None:
        delivered.append(name)

    outcome = StepResult(success=True, result={"total": 3})
    for known in (CONTEXT, FACTS, None):
        ctx = PublishContext(event_name="a.b", step_result=outcome, step_context=known)
        assert DefaultPublisher().publish(ctx, deliver=deliver)
    assert DefaultPublisher().publish(FACTS, deliver=deliver)
    assert delivered == ["a.b", "a.b", "a.b", "charge"]


def test_events_published_by_hand_are_heard():
    """On the process's own bus."""
    heard: list[InProcessDomainEvent] = []
    assert DefaultPublisher().publish(FACTS, "a.b")
    EventBus.instance().on_event(heard.append)
    assert DefaultPublisher().publish(FACTS, "a.b")

    assert [(e.event_name, e.payload) for e in heard] == [("a.b", {"total": 3})]


def test_a_registry_keeps_publishers_by_name(caplog: pytest.LogCaptureFixture):
    """Their own or another; a name in use is given anew, with a warning."""
    registry, recorder = PublisherRegistry(), Recorder()
    registry.register(recorder)
    registry.register(recorder, "other")
    with caplog.at_level(logging.WARNING):
        registry.register(Recorder(), "other")

    assert "'other'" in caplog.text
    assert registry.get("recorder") is recorder
    assert registry.get("gone") is None
    assert isinstance(registry.get("default"), DefaultPublisher)
    assert registry.get_or_default("recorder") is recorder
    assert isinstance(registry.get_or_default(None), DefaultPublisher)
    assert registry.list_publishers() == ["recorder", "other"]
    assert registry.validate_required(["recorder", "gone", "default"]) == ["gone"]
    with pytest.raises(ValueError, match="Expected BasePublisher"):
        registry.register("recorder")  # type: ignore[arg-type]


def test_a_registry_can_be_frozen():
    """Then nothing is added or taken away."""
    registry = PublisherRegistry.instance()
    registry.freeze()

    for change in (lambda: registry.register(Recorder()), registry.clear):
        with pytest.raises(RuntimeError, match="frozen"):
            change()
    assert registry.is_frozen
    registry.unfreeze()
    registry.register(Recorder())
    registry.clear()
    assert registry.list_publishers() == []
    assert PublisherRegistry.instance() is registry
    PublisherRegistry.reset()
    assert PublisherRegistry.instance() is not registry


# --- the bus ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("*", True),
        ("payment.charged", True),
        ("payment.*", True),
        ("*.charged", True),
        ("order.*", False),
        ("payment", False),
        ("Payment.*", False),
    ],
)
def test_patterns_choose_events(pattern: str, fits: bool):
    """A star stands for any characters; case counts."""
    bus, heard = EventBus(), []
    bus.subscribe(pattern, heard.append)

    assert bus.publish(event()) == len(heard) == int(fits)


def test_one_subscriber_does_not_disturb_another(caplog: pytest.LogCaptureFixture):
    """Neither by an error nor by changing what it got."""
    bus, heard = EventBus(), []

    def spoil(found: InProcessDomainEvent) -> None:
        found.payload["items"].append(2)
        raise RuntimeError("spoilt")

    async def later(found: InProcessDomainEvent) -> None:
        heard.append(found)

    for callback in (spoil, later, heard.append):
        bus.on_event(callback)
    sent = event()

    assert bus.publish(sent) == 2
    assert [e.payload for e in heard] == [{"items": [1]}] * 2
    assert "spoilt" in caplog.text


def test_a_subscription_can_be_ended():
    """More than once; the others stay."""
    bus, heard = EventBus(), []
    detach = bus.on_event(heard.append)
    bus.on_event(heard.append)
    detach()
    detach()
    bus.publish(event())

    assert (len(heard), bus.subscriber_count) == (1, 1)


# --- subscribers ------------------------------------------------------------------------


def test_a_subscriber_hears_each_event_once():
    """Though several of its patterns fit, and though it was restarted."""

    class Twice(Listener):
        patterns = ("payment.*", "*.charged", "order.*")

    bus, subscriber = EventBus(), Twice()
    for _ in range(3):
        subscriber.start(bus)
        subscriber.start(bus)
        assert bus.subscriber_count == 3
        bus.publish(event())
        subscriber.stop()
        subscriber.stop()
        bus.publish(event())
    subscriber.start(bus)
    sent = event()
    bus.publish(sent)
    bus.publish(sent)

    assert len(subscriber.heard) == 4
    assert subscriber.heard[-1] == sent.model_dump()


def test_a_subscriber_says_what_it_wants():
    """Before it is started and after."""
    subscriber = Listener()

    assert subscriber.matches("payment.charged")
    assert not subscriber.matches("order.placed")
    assert (subscriber.active, subscriber.subscriptions) == (False, [])
    subscriber.start()
    subscriber.subscriptions.append("mine")
    assert (subscriber.active, subscriber.subscriptions) == (True, ["payment.*"])
    EventBus.instance().publish(event())
    assert len(subscriber.heard) == 1


def test_anything_that_offers_events_will_do():
    """With one registration a pattern."""
    source, subscriber = MagicMock(), Listener()
    subscriber.start(source)
    (callback,) = [call.args[0] for call in source.on_event.call_args_list]
    callback({"event_name": "payment.charged", "payload": 1})
    callback({"event_name": "order.placed"})
    subscriber.stop()
    callback({"event_name": "payment.charged"})

    assert subscriber.heard == [{"event_name": "payment.charged", "payload": 1}]


@pytest.mark.parametrize("fail_in", ["before_handle", "handle", "after_handle"])
def test_errors_of_a_subscriber_go_to_its_hook(fail_in: str):
    """They reach nobody else."""
    errors: list[Exception] = []

    class Failing(Listener):
        def on_handle_error(self, event: dict[str, Any], error: Exception) -> None:
            errors.append(error)
            raise RuntimeError("worse")

    def fail(event: dict[str, Any]) -> Any:
        raise RuntimeError(fail_in)

    subscriber = Failing()
    setattr(subscriber, fail_in, fail)
    subscriber.start(EventBus.instance())

    assert EventBus.instance().publish(event()) == 1
    assert [str(e) for e in errors] == [fail_in]


def test_an_error_has_its_traceback_once(caplog: pytest.LogCaptureFixture):
    """However often the event comes again; another event, or another error, has its own."""

    class Failing(Listener):
        durable = True
        reason = "first"

        def handle(self, event: dict[str, Any]) -> None:
            raise RuntimeError(self.reason)

    subscriber, told = Failing(), event().model_dump()
    for reason in ("first", "first", "first", "second"):
        subscriber.reason = reason
        with pytest.raises(RuntimeError, match=reason):
            subscriber.handle_durable_event(told)

    lines = [(record.getMessage(), record.exc_info is None) for record in caplog.records]
    said = f"subscriber Failing failed on {told['event_name']}: "
    assert lines == [
        (f"{said}first", False),
        (f"{said}first, again", True),
        (f"{said}first, again", True),
        (f"{said}second", False),
    ]


async def test_subscribers_may_be_async_and_picky():
    """`before_handle` may pass an event over."""

    class Later(Listener):
        async def before_handle(self, event: dict[str, Any]) -> bool:
            return event["event_name"] != "payment.refused"

        async def handle(self, event: dict[str, Any]) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.heard.append(event)

    subscriber = Later()
    subscriber.start()
    EventBus.instance().publish(event("payment.refused"))
    EventBus.instance().publish(event("payment.charged"))

    assert [e["event_name"] for e in subscriber.heard] == ["payment.charged"]


def test_a_registry_starts_and_stops_its_subscribers(caplog: pytest.LogCaptureFixture):
    """One that cannot be made is logged, and the others hear."""

    class Broken(Listener):
        def __init__(self) -> None:
            raise RuntimeError("cannot be made")

    registry, existing = SubscriberRegistry.instance(), Listener()
    registry.register(Broken)
    registry.register(Listener)
    registry.register(Listener)
    registry.register_instance(existing, "mail")

    assert registry.list_registered() == {
        "classes": ["Broken", "Listener"],
        "instances": ["mail"],
    }
    assert registry.start_all() == 2
    assert registry.start_all() == 0
    assert registry.active_count == 2
    assert registry.stats() == {
        "registered_classes": 2,
        "registered_instances": 1,
        "active_subscribers": 2,
        "subscriptions": [{"class": "Listener", "patterns": ["payment.*"], "active": True}] * 2,
    }
    EventBus.instance().publish(event())
    assert registry.stop_all() == 2
    EventBus.instance().publish(event())
    assert (len(existing.heard), registry.active_count) == (1, 0)
    registry.clear()
    assert registry.list_registered() == {"classes": [], "instances": []}
    assert "cannot be made" in caplog.text


def test_a_registry_takes_subscribers_only():
    """Classes in one way, instances in the other."""
    registry = SubscriberRegistry()

    with pytest.raises(ValueError, match="Expected BaseSubscriber"):
        registry.register(Listener())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected BaseSubscriber"):
        registry.register_instance(Listener)  # type: ignore[arg-type]


def test_what_forgotten_modules_made_goes_and_the_rest_stays():
    """As when `tasker-ctl dev` imports handlers anew."""
    from tasker_core.handlers.events.anew import Earlier

    PublisherRegistry.instance().register(Recorder(), "recorder")
    SubscriberRegistry.instance().register(Listener)
    EventBus.instance().subscribe("*", print)
    EventBus.instance().subscribe("*", lambda event: None)
    earlier = Earlier()
    assert SubscriberRegistry.instance().list_registered()["classes"] == []
    earlier.restore()
    assert PublisherRegistry.instance().list_publishers() == ["recorder"]
    assert EventBus.instance().subscriber_count == 2

    Earlier().keep_but({"builtins"})
    assert SubscriberRegistry.instance().list_registered()["classes"] == ["Listener"]
    assert EventBus.instance().subscriber_count == 1
    Earlier().keep_but({__name__})
    assert SubscriberRegistry.instance().list_registered()["classes"] == []
    assert PublisherRegistry.instance().list_publishers() == []
    assert EventBus.instance().subscriber_count == 0
