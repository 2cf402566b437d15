"""A worker that a test drives: it works until nothing can run, and then stands still.

It is the worker, turn for turn: its claims, its threads and its loop, its finishing. Only
what happens by itself is left out: no timer wakes it, no notification, no renewal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection, Database
from tasker_core.engine.relay import next_events
from tasker_core.handlers.events.types import InProcessDomainEvent
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.relay.subscribers import hand_over, wants_durable_events
from tasker_core.settings import Settings
from tasker_core.worker.announce import Announcer
from tasker_core.worker.attempt import Ended
from tasker_core.worker.loop import AsyncWorker
from tasker_core.worker.run import Runner

MOST_EVENTS = 10_000
HUNG_SECONDS = 0.05  # an attempt that is over and does not say so by then hangs in its thread


class StepwiseWorker(AsyncWorker):
    """Made and used on one event loop; `close` it there."""

    def __init__(self, database: Database, settings: Settings, registry: HandlerRegistry) -> None:
        super().__init__(database, settings, registry)
        self._registry = registry
        self.runner = Runner(
            self._lookup,
            self._transactions,
            self.concurrency,
            settings.max_result_bytes,
            self._woken.set,
        )
        self.recorder = RecordingAnnouncer()
        self._announcer = self.recorder
        self._announcer.attach()
        self._told: set[UUID] = set()  # events that durable subscribers have got

    def forget_plans(self) -> None:
        """Ask for handlers anew."""
        self._plans.use(self._registry)

    async def settle(
        self, conn: Connection, stop: Callable[[], Awaitable[bool]] | None = None
    ) -> bool:
        """Work until nothing can run at this moment.

        Args:
            conn: Nobody else uses it meanwhile.
            stop: Asked after results are recorded and before new steps are claimed; True:
                claim no more.

        Returns:
            Whether `stop` said so.
        """
        self._is_draining = False
        await self.look_for_lanes(conn)
        while True:
            self._woken.clear()
            if stop is not None and not self._is_draining:
                self._is_draining = True  # this turn only records
                await self._whole_turn(conn)
                self._is_draining = await stop()
            await self._whole_turn(conn)
            if not self.runner.running and not self.unrecorded:
                break
            if not await self._something_ends():
                break
        await asyncio.to_thread(self.recorder.wait)
        await self._tell_durable_subscribers(conn)
        return self._is_draining

    async def _whole_turn(self, conn: Connection) -> None:
        self._lookout.look_everywhere()  # nobody tells it anything
        self._take_committed()
        await self._finish_held(conn)
        await self._turn(conn)
        while self._lookout.has_any and await self._turn(conn) is not None:
            pass

    async def _tell_durable_subscribers(self, conn: Connection) -> None:
        """Bring them what is new in the outbox, as a relay does; it stays there to be looked at."""
        if not wants_durable_events():
            return
        for event in await next_events(conn, limit=MOST_EVENTS):
            if event.event_uuid not in self._told:
                self._told.add(event.event_uuid)
                with contextlib.suppress(Exception):  # the subscriber has been told of it
                    await asyncio.to_thread(hand_over, event)

    async def _something_ends(self) -> bool:
        """Wait until an attempt ends; False if only hung ones are left, which have timed out."""
        running = self.runner.running.values()
        if self.unrecorded or any(one.is_at_work for one in running):
            await self._woken.wait()
        elif not any(one.is_publishing for one in self.runner.running.values()):
            try:
                await asyncio.wait_for(self._woken.wait(), HUNG_SECONDS)
            except TimeoutError:
                return False
        # `stop` is to be asked after a result is recorded: wait until it can be
        while any(one.is_publishing for one in self.runner.running.values()):
            self._woken.clear()
            await self._woken.wait()
        return True

    def lose(self, task_uuid: UUID, step_name: str) -> None:
        """Let go of a running attempt as a worker that dies does: its lease stays."""
        for attempt in list(self.runner.running.values()):
            if (attempt.task_uuid, attempt.claim.name) == (task_uuid, step_name):
                self.runner.drop(attempt)

    async def close(self) -> None:
        """Let go of everything."""
        for attempt in list(self.runner.running.values()):
            self.runner.drop(attempt)
        self.runner.close()
        self._transactions.close()
        # On this thread: at the interpreter's exit there is no other to be had.
        self._lookup.close()
        self.recorder.close()


class RecordingAnnouncer(Announcer):
    """Publishes events as every worker does, and remembers them by task."""

    def __init__(self) -> None:
        super().__init__()
        self.published: dict[UUID, list[InProcessDomainEvent]] = {}
        self._under_way: list[Future[Any]] = []

    def announce(self, ended: Ended) -> None:
        """Publish what the step declares; returns at once."""
        if ended.plan.events and ended.context is not None and ended.checkpoint is None:
            self._under_way.append(self._in_thread(ended))

    def wait(self) -> None:
        """Wait until all of it is published."""
        under_way, self._under_way = self._under_way, []
        wait(under_way)

    def _in_thread(self, ended: Ended) -> Future[Any]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tasker-events")
        return self._thread.submit(self._publish, ended)

    def _publish(self, ended: Ended) -> list[InProcessDomainEvent]:
        events = super()._publish(ended)
        self.published.setdefault(ended.task_uuid, []).extend(events)
        return events
