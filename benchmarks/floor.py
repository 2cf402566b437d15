"""The floor: the least durable work in PostgreSQL that could stand for the job.

One at a time: an UPDATE of the step's row, an INSERT of its history, a commit. Nobody
claims, no lease is kept, nothing can be retried.

In bulk: the same for up to a hundred steps a commit, with the steps taken from the table
with SKIP LOCKED as several workers would have to, and each task's next step made ready.

An engine has to do more. This is how much of its time is PostgreSQL's own.
"""

from __future__ import annotations

import time

import asyncpg

from tasker_core.engine.ids import new_uuid

STEPS = 4

_TABLES = """
drop schema if exists floor cascade;
create schema floor;
create table floor.steps (
    task uuid, no int, state text not null, result json, primary key (task, no)
) with (fillfactor = 70);
create index on floor.steps (task) where state = 'ready';
create table floor.history (
    task uuid, no int, finished_at timestamptz not null, primary key (task, no)
);
"""
_CREATE = (
    "insert into floor.steps (task, no, state) "
    "select task, no, case no when 1 then 'ready' else 'waiting' end "
    "from unnest($1::uuid[]) as task, generate_series(1, 4) as no"
)
_UPDATE = "update floor.steps set state = 'complete', result = $3 where task = $1 and no = $2"
_INSERT = "insert into floor.history values ($1, $2, clock_timestamp())"
_TAKE = (
    "update floor.steps set state = 'running' where ctid = any (array("
    "select ctid from floor.steps where state = 'ready' order by task limit $1 "
    "for update skip locked)) returning task, no"
)
_FINISH = (
    "update floor.steps set state = 'complete', result = $3 "
    "from unnest($1::uuid[], $2::int[]) as done (task, no) "
    "where steps.task = done.task and steps.no = done.no"
)
_RECORD = (
    "insert into floor.history select task, no, clock_timestamp() "
    "from unnest($1::uuid[], $2::int[]) as done (task, no)"
)
_RELEASE = (
    "update floor.steps set state = 'ready' from unnest($1::uuid[], $2::int[]) as done (task, no) "
    "where steps.task = done.task and steps.no = done.no + 1"
)
_RESULT = '{"ok":true}'


class Floor:
    """The least work, on a connection of its own."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self._conn = conn

    async def prepare(self) -> None:
        """Make empty tables."""
        await self._conn.execute(_TABLES)

    async def latency(self) -> float:
        """Run one task of four steps, a commit a step; give the seconds it took."""
        task = new_uuid()
        began = time.perf_counter()
        await self._conn.execute(_CREATE, [task])
        for no in range(1, STEPS + 1):
            async with self._conn.transaction():
                await self._conn.execute(_UPDATE, task, no, _RESULT)
                await self._conn.execute(_INSERT, task, no)
        return time.perf_counter() - began

    async def throughput(self, tasks: int, batch: int = 100) -> float:
        """Queue many tasks and run them, `batch` steps a commit; give steps a second."""
        await self._conn.execute(_CREATE, [new_uuid() for _ in range(tasks)])
        began = time.perf_counter()
        rows = await self._conn.fetch(_TAKE, batch)
        while rows:
            ids = [row["task"] for row in rows]
            numbers = [row["no"] for row in rows]
            async with self._conn.transaction():
                await self._conn.execute(_FINISH, ids, numbers, _RESULT)
                await self._conn.execute(_RECORD, ids, numbers)
                await self._conn.execute(_RELEASE, ids, numbers)
                rows = await self._conn.fetch(_TAKE, batch)
        return tasks * STEPS / (time.perf_counter() - began)
