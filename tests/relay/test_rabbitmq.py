"""A real RabbitMQ that is killed in the middle: every event arrives, in the order of its task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby

import aio_pika
import pytest

from support.events import outbox, told
from support.rabbitmq import MISSING, RabbitMQ
from support.workers import eventually
from tasker_core.payload import decode
from tasker_core.relay.broker import make_sink

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

QUEUE = "shop.domain_events"


@pytest.fixture
def rabbitmq() -> Iterator[RabbitMQ]:
    """A broker that has not been started yet."""
    broker = RabbitMQ()
    yield broker
    broker.close()


async def consume(url: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take everything that the queue has."""
    taken = []
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE)
        while (message := await queue.get(fail=False)) is not None:
            await message.ack()
            taken.append(message)
    return taken


async def test_a_broker_that_is_killed(conn, start, record, rabbitmq):
    """At least once, with the same ids, in order; and nothing of it is put aside."""
    starting = asyncio.create_task(asyncio.to_thread(rabbitmq.start))
    for names in ("abcdefghij", "klmno"):
        await record(tasks=40, names=names)
    expected = {str(row["event_uuid"]): row for row in await outbox(conn)}
    relay = await start(make_sink(rabbitmq.url, "{namespace}.domain_events"))
    await starting
    await eventually(lambda: relay.delivered_count >= 200, seconds=30)

    rabbitmq.kill()
    begun_again = asyncio.create_task(asyncio.to_thread(rabbitmq.start))
    assert await told(conn), "it was too quick to be killed in the middle"
    await record(tasks=5, names="xyz")
    expected |= {str(row["event_uuid"]): row for row in await outbox(conn)}
    await begun_again
    await eventually(lambda: _is_empty(conn), seconds=30)

    messages = await consume(rabbitmq.url)
    assert {message.message_id for message in messages} == expected.keys()
    assert await conn.fetchval("select count(*) from tasker.failed_events") == 0
    for message in messages:
        row = expected[message.message_id]
        assert decode(message.body) == decode(row["event"])
        assert message.routing_key == message.type == message.headers["event_name"] == row["name"]
        assert message.headers["task_uuid"] == str(row["task_uuid"])
        assert message.correlation_id == decode(row["event"])["metadata"]["correlation_id"]
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    first = dict.fromkeys(message.message_id for message in messages)
    by_task = sorted((expected[one] for one in first), key=lambda row: row["task_uuid"])
    for _, rows in groupby(by_task, lambda row: row["task_uuid"]):
        names = [row["name"] for row in rows]
        assert names == sorted(names)


async def _is_empty(conn) -> bool:
    return not await told(conn)
