"""Durable events for a broker, through faststream.

Each sink waits until its broker has confirmed an event. The body is the event as JSON,
the message's id is the event's, and the key is the task, where a broker has such things.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from tasker_core.engine.relay import OutboxEvent
from tasker_core.errors import SetupError
from tasker_core.payload import decode
from tasker_core.relay.sink import SinkDown

OPEN_SECONDS = 10.0
PING_SECONDS = 5.0
DELIVER_SECONDS = 10.0
CONTENT_TYPE = "application/json"


class BrokerNotInstalled(SetupError):
    """The library that talks to the broker of `events_url` is missing."""

    code = "broker_not_installed"

    def __init__(self, scheme: str, extra: str) -> None:
        self.scheme, self.extra = scheme, extra
        super().__init__(
            f"events_url begins with {scheme}://, and what talks to that broker is not installed; "
            f"install it: pip install 'tasker-py[{extra}]'"
        )


class BrokerSink:
    """One broker. `make_sink` chooses it by the address.

    Args:
        url: Its address.
        topic: Where events go; `{namespace}` and `{name}` in it are the event's.
    """

    extra: ClassVar[str]
    module: ClassVar[str]  # of faststream

    def __init__(self, url: str, topic: str) -> None:
        scheme = urlsplit(url).scheme
        self.name = scheme
        self.width = 32
        self._url = url
        self._topic = topic
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        try:
            self._library: Any = import_module(self.module)
        except ImportError as error:
            raise BrokerNotInstalled(scheme, self.extra) from error
        self.broker = self._make()

    async def open(self) -> None:
        """Connect.

        Raises:
            Exception: The broker does not answer.
        """
        async with asyncio.timeout(OPEN_SECONDS):
            await self.broker.connect()
            if not await self.broker.ping(PING_SECONDS):  # Redis connects later
                raise ConnectionError("the broker does not answer")

    async def deliver(self, event: OutboxEvent) -> None:
        """Return once the broker has confirmed the event."""
        topic = self._topic.format(namespace=event.namespace, name=event.name)
        metadata = decode(event.event)["metadata"]
        headers = {
            "content-type": CONTENT_TYPE,
            "event_id": str(event.event_uuid),
            "event_name": event.name,
            "namespace": event.namespace,
            "task_uuid": str(event.task_uuid),
        }
        async with asyncio.timeout(DELIVER_SECONDS):
            await self._ensure(topic)
            await self._publish(topic, event, headers, str(metadata["correlation_id"]))

    async def close(self) -> None:
        """Disconnect."""
        self._declared.clear()
        try:
            await self.broker.stop()
        finally:
            self.broker = self._make()  # nothing of a broken connection is used again

    async def _ensure(self, topic: str) -> None:
        async with self._declaring:
            if topic in self._declared:
                return
            try:
                await self._declare(topic)
            except Exception as error:
                raise SinkDown(
                    f"{topic} cannot be made: {error or type(error).__name__}"
                ) from error
            self._declared.add(topic)

    def _make(self) -> Any:
        raise NotImplementedError

    async def _declare(self, topic: str) -> None:
        """Make sure that what arrives is kept, whether or not anybody consumes it yet."""

    async def _publish(
        self, topic: str, event: OutboxEvent, headers: Mapping[str, str], correlation_id: str
    ) -> None:
        raise NotImplementedError


class RabbitSink(BrokerSink):
    """A durable topic exchange, and a durable queue of the same name that gets everything."""

    extra = "events-rabbitmq"
    module = "faststream.rabbit"

    def _make(self) -> Any:
        return self._library.RabbitBroker(self._url, logger=None, timeout=OPEN_SECONDS)

    async def _declare(self, topic: str) -> None:
        exchange = await self.broker.declare_exchange(self._exchange(topic))
        queue = await self.broker.declare_queue(self._library.RabbitQueue(topic, durable=True))
        await queue.bind(exchange, routing_key="#")

    async def _publish(
        self, topic: str, event: OutboxEvent, headers: Mapping[str, str], correlation_id: str
    ) -> None:
        await self.broker.publish(
            event.event.encode(),
            exchange=self._exchange(topic),
            routing_key=event.name,
            persist=True,
            mandatory=True,
            message_id=str(event.event_uuid),
            message_type=event.name,
            timestamp=event.recorded_at,
            content_type=CONTENT_TYPE,
            correlation_id=correlation_id,
            headers=dict(headers),
        )

    def _exchange(self, topic: str) -> Any:
        kind = self._library.ExchangeType.TOPIC
        return self._library.RabbitExchange(topic, type=kind, durable=True)


class KafkaSink(BrokerSink):
    """A topic; the events of one task go to one partition."""

    extra = "events-kafka"
    module = "faststream.kafka"

    def _make(self) -> Any:
        parts = urlsplit(self._url)
        hosts = parts.netloc.rpartition("@")[2]
        security = None
        if parts.username is not None or parts.scheme == "kafkas":
            from faststream import security as kinds

            use_ssl = parts.scheme == "kafkas"
            security = (
                kinds.BaseSecurity(use_ssl=use_ssl)
                if parts.username is None
                else kinds.SASLPlaintext(
                    unquote(parts.username), unquote(parts.password or ""), use_ssl=use_ssl
                )
            )
        return self._library.KafkaBroker(
            hosts.split(","), acks="all", enable_idempotence=True, security=security, logger=None
        )

    async def _publish(
        self, topic: str, event: OutboxEvent, headers: Mapping[str, str], correlation_id: str
    ) -> None:
        await self.broker.publish(
            event.event.encode(),
            topic,
            key=str(event.task_uuid).encode(),
            headers=dict(headers),
            correlation_id=correlation_id,
            timestamp_ms=int(event.recorded_at.timestamp() * 1000),
        )


class NatsSink(BrokerSink):
    """A subject of a JetStream stream, which is made if no stream has the subject."""

    extra = "events-nats"
    module = "faststream.nats"

    def __init__(self, url: str, topic: str) -> None:
        self._streams: dict[str, str] = {}
        super().__init__(url, topic)

    def _make(self) -> Any:
        return self._library.NatsBroker(self._url.split(","), allow_reconnect=False, logger=None)

    async def _declare(self, topic: str) -> None:
        from nats.js.errors import NotFoundError

        jetstream = self.broker.connection.jetstream()
        try:
            self._streams[topic] = await jetstream.find_stream_name_by_subject(topic)
        except NotFoundError:
            name = topic.replace(".", "_")
            await jetstream.add_stream(name=name, subjects=[topic])
            self._streams[topic] = name

    async def _publish(
        self, topic: str, event: OutboxEvent, headers: Mapping[str, str], correlation_id: str
    ) -> None:
        await self.broker.publish(
            event.event.encode(),
            topic,
            headers={**headers, "Nats-Msg-Id": str(event.event_uuid)},
            correlation_id=correlation_id,
            stream=self._streams[topic],
            timeout=DELIVER_SECONDS,
        )


class RedisSink(BrokerSink):
    """A stream."""

    extra = "events-redis"
    module = "faststream.redis"

    def _make(self) -> Any:
        return self._library.RedisBroker(self._url, logger=None)

    async def _publish(
        self, topic: str, event: OutboxEvent, headers: Mapping[str, str], correlation_id: str
    ) -> None:
        await self.broker.publish(
            event.event.encode(),
            stream=topic,
            headers=dict(headers),
            correlation_id=correlation_id,
        )


SINKS: Mapping[str, type[BrokerSink]] = {
    "amqp": RabbitSink,
    "amqps": RabbitSink,
    "kafka": KafkaSink,
    "kafkas": KafkaSink,
    "nats": NatsSink,
    "tls": NatsSink,
    "redis": RedisSink,
    "rediss": RedisSink,
}


def make_sink(url: str, topic: str) -> BrokerSink:
    """Make the sink for the address of a broker; nothing is connected yet.

    Raises:
        BrokerNotInstalled: The extra for this broker is missing.
    """
    return SINKS[urlsplit(url).scheme](url, topic)
