"""Carry durable events from the outbox to a sink: subscribers of a process, or a broker.

relay.py         one relay a database: take, deliver, take away; rest when the sink is down
sink.py          what a sink is
subscribers.py   the subscribers of this process
broker.py        Kafka, RabbitMQ, NATS and Redis, through faststream
"""

from tasker_core.relay.relay import Relay
from tasker_core.relay.sink import Sink

__all__ = ["Relay", "Sink"]
