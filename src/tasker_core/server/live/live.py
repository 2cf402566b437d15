"""The one reader: as long as somebody listens, it looks at the history.

However many readers a task has, a look costs one statement, and one statement serves all
tasks that are followed. The rests between two looks grow from 20 to 200 ms while nothing
happens. No reader holds a connection, and without readers there is no look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from uuid import UUID

import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.history import (
    News,
    Snapshot,
    current_snapshot,
    follow_tasks,
    task_changes,
)
from tasker_core.engine.inspect import TaskRecord, get_task
from tasker_core.errors import DatabaseUnreachable
from tasker_core.server.live.event import Change, Cursor, Event, Mark, change_event, task_event
from tasker_core.server.live.topic import Window
from tasker_core.states import TASK_TERMINAL, TaskState

FIRST_REST_SECONDS = 0.02
LONGEST_REST_SECONDS = 0.2
TROUBLE_REST_SECONDS = 1.0

PAGE_SIZE = 1000  # events of one task, or of all, that one statement brings
TASK_WINDOW = 1000
FEED_WINDOW = 10_000

_SETTLED = frozenset({*TASK_TERMINAL, TaskState.BLOCKED_BY_FAILURES})

_log = structlog.get_logger("tasker.server")

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class TaskTopic:
    """What is known of one task that somebody follows."""

    def __init__(self, task: TaskRecord) -> None:
        self.task = task
        self.window: Window[Event] = Window(TASK_WINDOW)
        self.mark = Mark(0, "")  # of the last event
        self.state = TaskState.STEPS_IN_PROCESS
        self.readers = 0
        self.is_loaded = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the task has; an operator may still take it up again."""
        return self.state in TASK_TERMINAL

    @property
    def has_settled(self) -> bool:
        """Whether nothing more happens without an operator."""
        return self.state in _SETTLED

    def take(self, news: News) -> bool:
        """Take in what has happened; say whether there is more to read."""
        events = news.events
        if not news.is_there:
            self._close("deleted")
            return False
        if self.mark.position:
            known, events = events[:1], events[1:]
            if not known or (known[0].position, known[0].check) != (
                self.mark.position,
                self.mark.check,
            ):
                # the database's clock went back, so that the history is another one now
                self._close("reordered")
                return False
        if events:
            for one in events:
                if one.step_no is None:
                    self.state = TaskState(one.to_state)
            self.mark = Mark(events[-1].position, events[-1].check)
            self.window.add([task_event(self.task, one) for one in events])
        return len(events) >= PAGE_SIZE

    def _close(self, why: str) -> None:
        self.window.close(why)
        self.is_loaded.set()


class Feed:
    """What is known of all tasks, from the moment on when somebody began to listen."""

    def __init__(self, seen: Snapshot) -> None:
        self.seen = seen
        self.window: Window[Change] = Window(FEED_WINDOW)
        self.readers = 0

    async def look(self, conn: Connection) -> bool:
        """Read what has happened since the last look; say whether anything has."""
        until = await current_snapshot(conn)
        if until == self.seen:
            return False
        last, found = None, False
        while changes := await task_changes(conn, self.seen, until, last=last, limit=PAGE_SIZE):
            found = True
            told = []
            for one in changes:
                last = (one.moved_at, one.task_uuid, one.change_no)
                told.append(change_event(one, str(Cursor(self.seen, until, last))))
            self.window.add(told)
            if len(changes) < PAGE_SIZE:
                break
        self.seen = until
        return found


class Live:
    """Follows tasks for readers; `connect` lends a connection for one look."""

    def __init__(self, connect: Connect, is_draining: Callable[[], bool]) -> None:
        self._connect = connect
        self._is_draining = is_draining
        self._topics: dict[UUID, TaskTopic] = {}
        self._feed: Feed | None = None
        self._runner: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @asynccontextmanager
    async def task(self, task_uuid: UUID) -> AsyncIterator[TaskTopic]:
        """Follow one task; what has happened to it so far is known at the begin.

        Raises:
            UnknownTask: There is none.
            DatabaseUnreachable: It cannot be looked at.
        """
        topic = self._topics.get(task_uuid)
        if topic is None or topic.window.end is not None:
            async with self._connect() as conn:
                task = await get_task(conn, task_uuid)
            topic = self._topics.get(task_uuid)
            if topic is None or topic.window.end is not None:
                topic = self._topics[task_uuid] = TaskTopic(task)
        topic.readers += 1
        try:
            self._start()
            await topic.is_loaded.wait()
            yield topic
        finally:
            topic.readers -= 1

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[Feed]:
        """Follow all tasks, from now on.

        Raises:
            DatabaseUnreachable: They cannot be looked at.
        """
        if self._feed is None:
            async with self._connect() as conn:
                seen = await current_snapshot(conn)
            if self._feed is None:
                self._feed = Feed(seen)
        feed = self._feed
        feed.readers += 1
        try:
            self._start()
            yield feed
        finally:
            feed.readers -= 1

    async def wait_until_settled(self, task_uuid: UUID, seconds: float) -> bool:
        """Wait until nothing more happens to a task by itself; say whether it has ended."""
        async with self.task(task_uuid) as topic:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not topic.has_settled and topic.window.end is None:
                        await topic.window.wait(topic.window.count, seconds)
            return topic.has_ended

    async def wait_for_news(self, task_uuid: UUID, mark: Mark, seconds: float) -> None:
        """Wait until something has happened to a task after this event of it."""
        async with self.task(task_uuid) as topic:
            if topic.mark == mark:
                await topic.window.wait(topic.window.count, seconds)

    async def mark(self, task_uuid: UUID) -> Mark:
        """Say which event of a task is the last one."""
        async with self.task(task_uuid) as topic:
            return topic.mark

    async def close(self) -> None:
        """Send all readers home."""
        runner, self._runner = self._runner, None
        self._close_all("draining")
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])

    def _start(self) -> None:
        self._hurry.set()
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="tasker-live")

    async def _run(self) -> None:
        rest = FIRST_REST_SECONDS
        while self._forget_unread():
            self._hurry.clear()
            try:
                async with self._connect() as conn:
                    found = await self._look(conn)
                rest = FIRST_REST_SECONDS if found else min(1.5 * rest, LONGEST_REST_SECONDS)
            except DatabaseUnreachable:
                rest = TROUBLE_REST_SECONDS
            except Exception:  # a look that failed must not be the last
                _log.exception("live_look_failed")
                rest = TROUBLE_REST_SECONDS
            if self._is_draining():
                self._close_all("draining")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), rest)

    async def _look(self, conn: Connection) -> bool:
        found = False
        seen = {
            task_uuid: topic.mark.position
            for task_uuid, topic in self._topics.items()
            if topic.window.end is None
        }
        if seen:
            more = set()
            for news in await follow_tasks(conn, seen, max_events=PAGE_SIZE):
                found = True
                if self._topics[news.task_uuid].take(news):
                    more.add(news.task_uuid)
            for task_uuid in seen.keys() - more:
                self._topics[task_uuid].is_loaded.set()
            if more:
                self._hurry.set()
        if self._feed is not None:
            found = await self._feed.look(conn) or found
        return found

    def _forget_unread(self) -> bool:
        """Let go of what nobody reads; say whether anything is left."""
        self._topics = {
            task_uuid: topic for task_uuid, topic in self._topics.items() if topic.readers
        }
        if self._feed is not None and not self._feed.readers:
            self._feed = None
        return bool(self._topics or self._feed)

    def _close_all(self, why: str) -> None:
        for topic in self._topics.values():
            topic.window.close(why)
            topic.is_loaded.set()
        if self._feed is not None:
            self._feed.window.close(why)
