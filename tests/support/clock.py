"""The clock of the database, in the hands of a test.

Everything the engine knows of time it asks of `tasker.now()`. While a `Clock` is
installed, that function gives the server's time, or a frozen moment, plus an offset
that is kept in a table of one row. A clock that ticks is frozen too, but no two looks
at it give the same moment: nothing that the engine does is ambiguous in the order of time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

START = datetime(2030, 1, 1, tzinfo=UTC)

_INSTALL = """
drop schema if exists test_clock cascade;
create schema test_clock;
create table test_clock.hands (frozen_at timestamptz, ahead interval not null, tick interval);
create sequence test_clock.ticks;
insert into test_clock.hands values (null, interval '0', null);
create or replace function tasker.now() returns timestamptz
language sql volatile
as $$
    select coalesce(frozen_at, clock_timestamp()) + ahead
        + coalesce(tick * nextval('test_clock.ticks'), interval '0')
    from test_clock.hands
$$;
"""


class Clock:
    """Moves the time of the database; it never moves while a test looks, if frozen."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self._conn = conn

    async def now(self) -> datetime:
        """Read what the engine reads."""
        return await self._conn.fetchval("select tasker.now()")

    async def advance(self, seconds: float) -> None:
        """Let time pass, or go back."""
        await self._conn.execute(
            "update test_clock.hands set ahead = ahead + $1::interval", timedelta(seconds=seconds)
        )

    async def freeze(self, at: datetime = START) -> None:
        """Stop at a moment; from there only `advance` moves."""
        await self._conn.execute(
            "update test_clock.hands set frozen_at = $1, ahead = interval '0', tick = null", at
        )

    async def tick(self, at: datetime = START) -> None:
        """Begin at a moment and go on by one microsecond whenever somebody looks."""
        await self.freeze(at)
        await self._conn.execute("update test_clock.hands set tick = interval '1 microsecond'")


@asynccontextmanager
async def installed(url: str) -> AsyncIterator[Clock]:
    """Put a clock in the place of the database's own, for as long as the context is open."""
    conn = await asyncpg.connect(url)
    own = await conn.fetchval("select pg_get_functiondef('tasker.now()'::regprocedure)")
    await conn.execute(_INSTALL)
    try:
        yield Clock(conn)
    finally:
        await conn.execute(own + "; drop schema test_clock cascade")
        await conn.close()
