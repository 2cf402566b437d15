"""The clock of a throw-away database, in the hands of a test.

Everything the engine knows of time it asks of `tasker.now()`. In a throw-away database
that is a clock that stands still, but for a microsecond whenever somebody looks: so
nothing is due before the test says so, and no two calls of the clock give one moment.

The backoff's jitter is taken out too: a step that should rest for two seconds rests for
exactly two. And tasks can be held: what of them is ready or delayed is put aside, while
another run of the test is driven.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack
from uuid import UUID

if TYPE_CHECKING:
    from tasker_core.db.connect import Connection
    from tasker_core.testing.database import ThrowAwayDatabase

INSTALL = """
create schema tasker_test;
create table tasker_test.hands (at timestamptz not null);
create sequence tasker_test.ticks;
insert into tasker_test.hands values (clock_timestamp());
create or replace function tasker.now() returns timestamptz
language sql volatile
as $$
    select hands.at + nextval('tasker_test.ticks') * interval '1 microsecond'
    from tasker_test.hands as hands
$$;
create table tasker_test.held_ready (like tasker.ready);
create table tasker_test.held_delayed (like tasker.delayed);
alter function tasker.retry_delay(text, int, int, int, double precision)
    rename to retry_delay_with_jitter;
create function tasker.retry_delay(
    backoff text, first_delay_ms int, max_delay_ms int, failed_attempt int, jitter double precision
)
returns interval
language sql immutable
as $$
    select tasker.retry_delay_with_jitter(
        backoff, first_delay_ms, max_delay_ms, failed_attempt, 0.5
    )
$$;
"""

_SET = "update tasker_test.hands set at = $1"


class TimeUnits(TypedDict, total=False):
    """How long: the arguments of `timedelta`."""

    milliseconds: float
    seconds: float
    minutes: float
    hours: float
    days: float
    weeks: float


class Clock:
    """The time of the database. Moving it runs nothing: `run.advance` does both."""

    def __init__(self, database: ThrowAwayDatabase) -> None:
        self._database = database

    def now(self) -> datetime:
        """Read what the engine would read."""
        return self._database.do(read)

    def advance(self, by: timedelta | None = None, /, **units: Unpack[TimeUnits]) -> datetime:
        """Let time pass: `clock.advance(hours=1)`. Gives the new time."""
        step = span(by, units)
        return self._database.do(lambda conn: _advance(conn, step))

    def set(self, at: datetime) -> datetime:
        """Put the clock at a moment, later or earlier; a moment without a zone is UTC."""
        moment = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return self._database.do(lambda conn: set_clock(conn, moment))


def span(by: timedelta | None, units: TimeUnits) -> timedelta:
    """Add up a time that was given in either way."""
    return (by or timedelta()) + timedelta(**units)


async def read(conn: Connection) -> datetime:
    """Read the clock."""
    found: datetime = await conn.fetchval("select tasker.now()")
    return found


async def set_clock(conn: Connection, at: datetime) -> datetime:
    """Put the clock at a moment."""
    await conn.execute(_SET, at)
    return await read(conn)


async def move_on_to(conn: Connection, at: datetime) -> None:
    """Put the clock at a moment unless that has passed."""
    if await read(conn) < at:
        await conn.execute(_SET, at)


async def hold(conn: Connection, task_uuids: Sequence[UUID]) -> None:
    """Put aside what of these tasks is ready or delayed."""
    for table in ("ready", "delayed"):
        await conn.execute(
            f"with gone as (delete from tasker.{table} where task_uuid = any ($1) returning *) "
            f"insert into tasker_test.held_{table} select * from gone",
            task_uuids,
        )


async def release(conn: Connection) -> None:
    """Put back everything that is held."""
    for table in ("ready", "delayed"):
        await conn.execute(
            f"with gone as (delete from tasker_test.held_{table} returning *) "
            f"insert into tasker.{table} select * from gone"
        )


async def _advance(conn: Connection, by: timedelta) -> datetime:
    await conn.execute("update tasker_test.hands set at = at + $1", by)
    return await read(conn)
