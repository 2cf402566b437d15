"""What a relay hands events to."""

from __future__ import annotations

from typing import Protocol

from tasker_core.engine.relay import OutboxEvent


class SinkDown(Exception):
    """The fault lies with the sink, and not with the event."""


class Sink(Protocol):
    """Where durable events go. Whatever a method raises counts as not delivered.

    What `open` raises is the sink's fault; what `deliver` raises is the event's, if the sink
    opens once more after it, and it is not `SinkDown`.
    """

    name: str  # for logs
    width: int  # of how many tasks it takes events at a time; those of one task come in order

    async def open(self) -> None:
        """Get ready to take events; raise if that is not possible at the moment."""

    async def deliver(self, event: OutboxEvent) -> None:
        """Return once whoever is to have the event has it for good."""

    async def close(self) -> None:
        """Let go of everything; it may be opened again."""
