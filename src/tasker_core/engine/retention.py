"""Let finished tasks leave, with their history, in bounded batches.

A pass walks the tasks in the order of their ids, from the oldest on; each call deletes
whole tasks that ended long enough ago, and says where it got to. The rules are in
retention.sql.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.settings import Settings

BATCH_TASKS = 500

PAUSE_SECONDS = 0.1  # between two batches of a pass
REST_SECONDS = 300.0  # between two passes


@dataclass(frozen=True, slots=True)
class Pruned:
    """One batch of a pass."""

    count: int  # tasks that left, or would have
    reached: UUID | None  # where the next batch goes on; None: the pass is over


async def prune_tasks(
    conn: Connection,
    *,
    older_than: timedelta,
    after: UUID | None = None,
    limit: int = BATCH_TASKS,
    keeps_identities: bool = False,
) -> Pruned:
    """Delete tasks that ended longer ago than `older_than`, with all that belongs to them.

    Tasks that somebody holds are left for the next pass; nobody is waited for.

    Args:
        after: Where the batch before got to; None begins a pass.
        limit: How many tasks to look at, and so to delete at most.
        keeps_identities: Refuse duplicates of these tasks for ever.
    """
    row = await conn.fetchrow(
        "select pruned_count as count, reached "
        "from tasker.prune_tasks(tasker.now() - $1::interval, $2, $3, $4)",
        older_than,
        after,
        limit,
        keeps_identities,
    )
    assert row is not None  # a function with out parameters gives one row
    return Pruned(**row)


async def count_prunable(
    conn: Connection,
    *,
    older_than: timedelta,
    after: UUID | None = None,
    limit: int = 20 * BATCH_TASKS,
) -> Pruned:
    """Count what `prune_tasks` would delete, in the same way; changes nothing."""
    row = await conn.fetchrow(
        "select prunable_count as count, reached "
        "from tasker.count_prunable(tasker.now() - $1::interval, $2, $3)",
        older_than,
        after,
        limit,
    )
    assert row is not None
    return Pruned(**row)


class Retention:
    """The periodic part: a pass now and then, a batch a turn, as the settings say."""

    def __init__(self, settings: Settings) -> None:
        days = settings.retention_days
        self._older_than = None if days is None else timedelta(days=days)
        self._keeps_identities = settings.retention_keeps_identities
        self._reached: UUID | None = None
        self._next_turn = 0.0  # time.monotonic()

    async def turn(self, conn: Connection) -> tuple[int, float]:
        """Delete the next batch, if it is time for one and nobody else is at it.

        Returns:
            How many tasks left, and how many seconds there are to the next turn.
        """
        if self._older_than is None:
            return 0, math.inf
        moment = time.monotonic()
        if moment < self._next_turn:
            return 0, self._next_turn - moment
        self._next_turn = moment + REST_SECONDS  # also if it fails
        async with conn.transaction():
            if not await conn.fetchval(
                "select pg_try_advisory_xact_lock(hashtext('tasker.retention'))"
            ):
                self._reached = None
                return 0, REST_SECONDS
            batch = await prune_tasks(
                conn,
                older_than=self._older_than,
                after=self._reached,
                keeps_identities=self._keeps_identities,
            )
        self._reached = batch.reached
        wait = REST_SECONDS if batch.reached is None else PAUSE_SECONDS
        self._next_turn = time.monotonic() + wait
        return batch.count, wait
