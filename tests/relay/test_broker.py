"""Which broker an address means, and what a message to it is made of."""

from __future__ import annotations

import gc
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from faststream.kafka import KafkaBroker, KafkaMessage, TestKafkaBroker
from faststream.nats import NatsBroker, NatsMessage, TestNatsBroker
from faststream.rabbit import RabbitBroker
from faststream.redis import RedisBroker, RedisStreamMessage, TestRedisBroker

from tasker_core.engine.relay import OutboxEvent
from tasker_core.payload import decode, encode
from tasker_core.relay import broker
from tasker_core.relay.broker import BrokerNotInstalled, make_sink
from tasker_core.settings import BROKERS

TASK = UUID("01920000-0000-7000-8000-000000000000")
CORRELATION = UUID("01920000-0000-7000-8000-00000000000c")
EVENT = OutboxEvent(
    task_uuid=TASK,
    event_no=1,
    event_uuid=UUID("01920000-0000-8000-8000-00000000000e"),
    step_no=1,
    attempt=1,
    tries=0,
    recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    namespace="shop",
    name="payment.charged",
    error=None,
    event=encode({"event_name": "payment.charged", "metadata": {"correlation_id": CORRELATION}}),
)
TOPIC = "shop.domain_events"


def test_every_scheme_has_its_broker():
    """Those of the settings, and no others."""
    assert broker.SINKS.keys() == set(BROKERS)
    made = {scheme: make_sink(f"{scheme}://host:1", "t").broker for scheme in BROKERS}
    assert {scheme: type(made[scheme]) for scheme in BROKERS} == {
        "amqp": RabbitBroker,
        "amqps": RabbitBroker,
        "kafka": KafkaBroker,
        "kafkas": KafkaBroker,
        "nats": NatsBroker,
        "tls": NatsBroker,
        "redis": RedisBroker,
        "rediss": RedisBroker,
    }


def test_a_library_that_is_missing(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "faststream.kafka", None)

    with pytest.raises(BrokerNotInstalled, match=r"pip install 'tasker-py\[events-kafka\]'"):
        make_sink("kafka://host", "t")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aiokafka's own
@pytest.mark.parametrize("scheme", ["amqp", "kafka", "nats", "redis"])
async def test_a_broker_that_is_not_there(scheme, monkeypatch):
    """It does not open, which is what tells an outage from an event that is refused."""
    monkeypatch.setattr(broker, "OPEN_SECONDS", 1.0)
    monkeypatch.setattr(broker, "PING_SECONDS", 0.5)
    sink = make_sink(f"{scheme}://127.0.0.1:1", "t")

    with pytest.raises(Exception, match=r"(?i)connect|answer|^$"):  # ours; a time-out is mute
        await sink.open()
    await sink.close()
    gc.collect()


async def test_kafka():
    """The key is the task's: its events go to one partition."""
    sink = make_sink("kafka://ann:secret@one:9092,two:9092", "{namespace}.domain_events")
    heard: list[KafkaMessage] = []

    @sink.broker.subscriber(TOPIC)
    async def hear(body: dict[str, Any], message: KafkaMessage) -> None:
        heard.append(message)
        assert body["event_name"] == "payment.charged"

    async with TestKafkaBroker(sink.broker):
        await sink.deliver(EVENT)

    (message,) = heard
    assert message.raw_message.key == str(TASK).encode()
    assert _told(message)


async def test_nats(monkeypatch):
    """A stream is asked for its receipt, and told the id, so that it drops what comes again."""
    sink = make_sink("nats://one:4222,nats://two:4222", "{namespace}.domain_events")
    heard: list[NatsMessage] = []

    async def declare(topic: str) -> None:
        sink._streams[topic] = "shop"

    monkeypatch.setattr(sink, "_declare", declare)

    @sink.broker.subscriber(TOPIC, stream="shop")
    async def hear(body: dict[str, Any], message: NatsMessage) -> None:
        heard.append(message)

    async with TestNatsBroker(sink.broker):
        await sink.deliver(EVENT)

    (message,) = heard
    assert message.headers["Nats-Msg-Id"] == str(EVENT.event_uuid)
    assert _told(message)


async def test_redis():
    """An entry of a stream."""
    sink = make_sink("redis://one:6379/2", "events_{name}")
    heard: list[RedisStreamMessage] = []

    @sink.broker.subscriber(stream="events_payment.charged")
    async def hear(body: dict[str, Any], message: RedisStreamMessage) -> None:
        heard.append(message)

    async with TestRedisBroker(sink.broker):
        await sink.deliver(EVENT)

    (message,) = heard
    assert _told(message)


def _told(message: Any) -> bool:
    assert message.correlation_id == str(CORRELATION)
    assert decode(message.body) == decode(EVENT.event)
    told = ("event_id", "event_name", "namespace", "task_uuid")
    assert {name: message.headers[name] for name in told} == {
        "event_id": str(EVENT.event_uuid),
        "event_name": "payment.charged",
        "namespace": "shop",
        "task_uuid": str(TASK),
    }
    return True
