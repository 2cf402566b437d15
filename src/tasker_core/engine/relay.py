"""Carry events from the outbox to whoever consumes them, at least once.

One session of a database is the relay; it takes events in their order, and takes away
what has been delivered. The rules are in relay.sql; the loop is `tasker_core.relay`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.payload import storable_text

CHANNEL = "tasker_outbox"


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event that waits for its consumers."""

    task_uuid: UUID
    event_no: int  # grows within the waiting events of a task
    event_uuid: UUID
    step_no: int
    attempt: int  # 0: by an operator's hand
    tries: int  # that a sink which was up refused
    recorded_at: datetime
    namespace: str
    name: str
    error: str | None  # of the last of these tries
    event: str  # as consumers get it: JSON


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """One event that was refused too often, and put aside."""

    event_uuid: UUID
    name: str
    namespace: str
    task_uuid: UUID
    step_no: int
    attempt: int
    tries: int
    recorded_at: datetime
    failed_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How the outbox is."""

    waiting: int  # counted up to ten thousand
    oldest_at: datetime | None  # when the first of these was recorded
    waited: timedelta | None  # how long ago that was
    failed: int  # put aside
    is_relayed: bool  # whether a relay runs


async def lead_relay(conn: Connection) -> bool:
    """Become the relay for as long as this session lives, unless another one is it."""
    leads: bool = await conn.fetchval("select tasker.lead_relay()")
    return leads


async def next_events(
    conn: Connection, *, limit: int, held_tasks: Sequence[UUID] = ()
) -> list[OutboxEvent]:
    """Read the next events, those of one task in their order; these tasks are left out."""
    rows = await conn.fetch("select * from tasker.next_events($1, $2)", limit, held_tasks)
    return [OutboxEvent(**row) for row in rows]


async def confirm_events(conn: Connection, events: Sequence[OutboxEvent]) -> None:
    """Take away events that have been delivered."""
    await conn.execute(
        "select tasker.confirm_events($1, $2, $3)",
        [event.task_uuid for event in events],
        [event.event_no for event in events],
        [event.event_uuid for event in events],
    )


async def refuse_event(
    conn: Connection, event: OutboxEvent, reason: str, *, max_tries: int
) -> bool:
    """Count a try that failed; say whether that was the last, and the event is put aside."""
    is_aside: bool = await conn.fetchval(
        "select tasker.refuse_event($1, $2, $3, $4)",
        event.task_uuid,
        event.event_no,
        storable_text(reason),
        max_tries,
    )
    return is_aside


async def list_failed_events(conn: Connection, *, limit: int = 100) -> list[FailedEvent]:
    """Read events that were put aside, the latest first."""
    rows = await conn.fetch(
        "select event_uuid, name, namespace, task_uuid, step_no, attempt, tries, recorded_at, "
        "failed_at, error from tasker.failed_events order by failed_at desc, event_uuid limit $1",
        limit,
    )
    return [FailedEvent(**row) for row in rows]


async def retry_events(conn: Connection, event_uuids: Sequence[UUID] | None) -> int:
    """Send events that were put aside once more, None: all of them; say how many."""
    retried: int = await conn.fetchval("select tasker.retry_events($1)", event_uuids)
    return retried


async def drop_events(conn: Connection, event_uuids: Sequence[UUID] | None) -> int:
    """Forget events that were put aside, None: all of them; say how many."""
    dropped = await conn.fetch(
        "delete from tasker.failed_events where $1::uuid[] is null or event_uuid = any ($1) "
        "returning true",
        event_uuids,
    )
    return len(dropped)


async def read_outbox_state(conn: Connection) -> OutboxState:
    """Say how many events wait, since when, and whether anybody relays them."""
    row = await conn.fetchrow("select * from tasker.outbox_state()")
    assert row is not None
    return OutboxState(**row)
