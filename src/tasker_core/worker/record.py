"""Results on their way into the database: one call for many, and what it does not accept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.claim import Work
from tasker_core.engine.finish import GROWN, Finished, finish_steps
from tasker_core.worker.ends import expanded, is_unaccepted, rejected

CALL_SECONDS = 60.0  # a connection that is silent for longer is taken for broken
MOST_CHARACTERS = 16 * 1024 * 1024  # of results in one call

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_log = structlog.get_logger("tasker.worker")


class Recorder:
    """Makes calls until they go through."""

    def __init__(self, worker_uuid: UUID, lease: timedelta) -> None:
        self._worker_uuid = worker_uuid
        self._lease = lease

    async def record(
        self,
        conn: Connection,
        batch: Sequence[Finished],
        *,
        lanes: Sequence[int],
        looked_lanes: Sequence[int],
        limit: int,
    ) -> tuple[Work, list[Finished]]:
        """Record results and claim steps, as `finish_steps`; give the results that counted, too."""
        recorded: list[Finished] = []
        while True:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    ends = await expanded(conn, batch)
                    work = await finish_steps(
                        conn,
                        self._worker_uuid,
                        ends,
                        lanes=lanes,
                        limit=limit,
                        lease=self._lease,
                        looked_lanes=looked_lanes,
                    )
                    return work, [*recorded, *_accepted(ends, work)]
            except CONFLICTS as error:
                _log.warning("finish_repeated", error=str(error))
            except asyncpg.PostgresError as error:
                # two decisions of one task in one call, or another worker's came first
                has_grown = error.sqlstate == GROWN
                if not batch or not (has_grown or is_unaccepted(error)):
                    raise
                _log.warning("finish_rejected", error=str(error))
                for one in batch:
                    recorded += await self.record_alone(conn, one)
                batch = []

    async def record_alone(self, conn: Connection, one: Finished) -> list[Finished]:
        """Record one result; one that the database does not accept fails its step instead."""
        while True:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    ends = await expanded(conn, [one])
                    work = await finish_steps(
                        conn, self._worker_uuid, ends, lanes=[], limit=0, lease=self._lease
                    )
                    return _accepted(ends, work)
            except asyncpg.PostgresError as error:
                if error.sqlstate != GROWN and not isinstance(error, CONFLICTS):
                    if not is_unaccepted(error):
                        raise
                    one = await rejected(one, error)


def fitting(finished: list[Finished]) -> list[Finished]:
    """Take as many results from the front as one call may carry, at least one."""
    size = 0
    for count, one in enumerate(finished):
        for text in (one.result, one.error, one.metadata, one.checkpoint, one.events):
            size += len(text or "")
        if size > MOST_CHARACTERS and count:
            return finished[:count]
    return finished


def _accepted(ends: Sequence[Finished], work: Work) -> list[Finished]:
    if not work.refusals:
        return list(ends)
    refused = {(one.task_uuid, one.step_no, one.attempt) for one in work.refusals}
    return [one for one in ends if (one.task_uuid, one.step_no, one.attempt) not in refused]
