"""What a worker does now and then, on a connection of its own.

It renews the leases of what runs for long, says that it is alive, looks for new
lanes, and for everybody sweeps and lets old tasks leave. Work goes on beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from tasker_core.db.connect import Connection, Database, reconnect
from tasker_core.engine.lease import Loan, beat, renew_leases
from tasker_core.engine.retention import Retention
from tasker_core.engine.sweep import sweep
from tasker_core.settings import Settings
from tasker_core.worker.broken import BROKEN, connect, reason, rest

if TYPE_CHECKING:
    from tasker_core.worker.attempt import AttemptKey
    from tasker_core.worker.loop import AsyncWorker

BEAT_SECONDS = 10.0
SHORTEST_CALL_SECONDS = 2.0

_log = structlog.get_logger("tasker.worker")


class Upkeep:
    """The periodic part of one worker."""

    def __init__(self, worker: AsyncWorker, database: Database, settings: Settings) -> None:
        self._worker = worker
        self._database = database
        self._sweep_seconds = settings.sweep_seconds
        self._renew_seconds = settings.lease_seconds / 3
        self._retention = Retention(settings)
        self._stopping = asyncio.Event()
        self._asked = asyncio.Event()
        # a sweep that waits for somebody's lock must not keep renewals waiting
        self._call_seconds = max(SHORTEST_CALL_SECONDS, self._renew_seconds)
        self._next_renewal = self._next_beat = self._next_sweep = 0.0  # time.monotonic()
        self._next_pruning = 0.0
        self._in_doubt: set[AttemptKey] = set()
        self.seen_at = time.monotonic()  # when the database last heard that the worker lives

    async def start(self, conn: Connection) -> None:
        """Say that the worker is alive, on the caller's connection; then begin."""
        await self._beat(conn)
        self._task = asyncio.create_task(self._run(), name="tasker-upkeep")

    async def stop(self) -> None:
        """End; whatever is under way is cut off."""
        self._stopping.set()
        self._task.cancel()
        await asyncio.wait({self._task})

    def look_for_lanes_soon(self) -> None:
        """There may be new lanes, or other handlers."""
        self._next_beat = 0.0
        self._asked.set()

    def check_soon(self, attempts: Iterable[AttemptKey]) -> None:
        """Their leases may be gone."""
        self._in_doubt.update(attempts)
        if self._in_doubt:
            self._next_renewal = 0.0
            self._asked.set()

    async def _run(self) -> None:
        failures = 0
        while (conn := await reconnect(self._connect, self._stopping)) is not None:
            self._next_renewal = 0.0  # what runs may have waited for it
            try:
                while True:
                    await self._round(conn)
                    failures = 0
                    await self._pause()
            except BROKEN as error:
                _log.warning("upkeep_disconnected", error=reason(error))
            except Exception:  # without renewals every long step would be lost: go on
                _log.exception("upkeep_failed")
            finally:
                conn.terminate()
            await rest(failures, self._stopping)
            failures += 1

    async def _connect(self) -> Connection:
        return await connect(self._database, "tasker worker upkeep")

    async def _round(self, conn: Connection) -> None:
        moment = time.monotonic()
        if moment >= self._next_renewal:
            self._next_renewal = moment + self._renew_seconds
            async with asyncio.timeout(self._call_seconds):
                await self._renew(conn, moment)
        if moment >= self._next_beat:
            self._next_beat = moment + BEAT_SECONDS
            async with asyncio.timeout(self._call_seconds):
                await self._worker.look_for_lanes(conn)
                await self._beat(conn)
                self.seen_at = moment
        if moment >= self._next_sweep:
            self._next_sweep = moment + self._sweep_seconds
            async with asyncio.timeout(self._call_seconds):
                taken_back = await sweep(conn)
            if taken_back:
                _log.warning("leases_expired", steps=taken_back)
                self._worker.tally.taken_back += taken_back
                self._next_sweep = 0.0  # there may be more than one call takes
        if moment >= self._next_pruning:
            async with asyncio.timeout(self._call_seconds):
                pruned, wait = await self._retention.turn(conn)
            self._next_pruning = time.monotonic() + wait
            if pruned:
                _log.info("tasks_pruned", tasks=pruned)

    async def _pause(self) -> None:
        """Wait until something is due, or asked for."""
        due = min(self._next_renewal, self._next_beat, self._next_sweep, self._next_pruning)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), max(0.0, due - time.monotonic()))
        self._asked.clear()

    async def _renew(self, conn: Connection, moment: float) -> None:
        """Renew what began a while ago: a step that is quick needs no renewal.

        A result that is not recorded yet still needs its lease.
        """
        runner = self._worker.runner
        in_doubt, self._in_doubt = self._in_doubt, set()
        old: list[Loan] = [
            attempt
            for attempt in list(runner.running.values())
            if moment - attempt.claimed_at > self._renew_seconds / 2 or attempt.key in in_doubt
        ]
        old += self._worker.unrecorded
        if not old:
            return
        lost = await renew_leases(conn, self._worker.worker_uuid, old, lease=self._worker.lease)
        for loan in lost:
            attempt = runner.running.get((loan.task_uuid, loan.step_no, loan.attempt))
            if attempt is not None and not attempt.is_over:
                _log.warning(
                    "lease_lost",
                    task_uuid=str(loan.task_uuid),
                    step=attempt.claim.name,
                    attempt=loan.attempt,
                )
                self._worker.tally.lost += 1
                runner.drop(attempt)

    async def _beat(self, conn: Connection) -> None:
        await beat(
            conn,
            self._worker.worker_uuid,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("tasker-py"),
            concurrency=self._worker.concurrency,
            lanes=self._worker.lanes,
        )
