"""What one reader gets: what it missed, what comes, heartbeats, an end.

A reader that cannot keep up falls out of the window and is sent home; like every reader
that comes back, it goes on after the last id that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine import inspect
from tasker_core.engine.history import Snapshot, follow_tasks, task_changes
from tasker_core.server.live.event import (
    HEARTBEAT,
    RETRY,
    Change,
    Cursor,
    Mark,
    change_event,
    end_frame,
    id_frame,
    snapshot_event,
    task_event,
)
from tasker_core.server.live.live import PAGE_SIZE, Connect, Feed, Live, TaskTopic
from tasker_core.server.live.topic import Behind
from tasker_core.server.render import task_response

HEARTBEAT_SECONDS = 15.0
CHUNK = 100  # events that are sent at a time

Wanted = Callable[[Change], bool]
Place = tuple[datetime, UUID, int]


async def is_known(connect: Connect, topic: TaskTopic, mark: Mark) -> bool:
    """Say whether an event with this mark is part of the task's history."""
    if mark.position == 0:
        return True
    if mark.position == topic.mark.position:
        return mark == topic.mark
    async with connect() as conn:
        news = await follow_tasks(conn, {topic.task.task_uuid: mark.position}, max_events=0)
    return any(
        (one.position, one.check) == (mark.position, mark.check)
        for found in news
        for one in found.events
    )


async def task_stream(
    live: Live, connect: Connect, task_uuid: UUID, mark: Mark | None, *, with_steps: bool
) -> AsyncGenerator[bytes]:
    """Tell what happens to one task, after a mark of its history.

    Args:
        mark: None begins with how the task stands.
    """
    async with live.task(task_uuid) as topic:
        window = topic.window
        if mark is None:
            async with connect() as conn:
                mark, frame = await _snapshot(conn, topic, with_steps=with_steps)
            yield RETRY + frame
        else:
            yield RETRY
        position = mark.position
        while position + 1 < window.first:
            async with connect() as conn:
                news = await follow_tasks(conn, {task_uuid: position}, max_events=PAGE_SIZE)
            missed = [one for found in news for one in found.events if one.position > position]
            if not missed:
                break
            position = missed[-1].position
            yield b"".join(
                task_event(topic.task, one).frame
                for one in missed
                if with_steps or one.step_no is None
            )
        while True:
            try:
                events = window.after(position, CHUNK)
            except Behind:
                yield end_frame("too_slow")
                return
            if events:
                position += len(events)
                frames = b"".join(one.frame for one in events if with_steps or not one.is_step)
                if frames:
                    yield frames
            elif window.end is not None:
                yield end_frame(window.end)
                return
            elif topic.has_ended and position <= window.count:
                yield end_frame("finished")
                return
            elif not await window.wait(position, HEARTBEAT_SECONDS):
                yield HEARTBEAT


async def feed_stream(
    live: Live, connect: Connect, cursor: Cursor | None, wanted: Wanted
) -> AsyncGenerator[bytes]:
    """Tell what happens to all tasks that are wanted, after a cursor; None: from now on."""
    async with live.feed() as feed:
        window, number, until = feed.window, feed.window.count, feed.seen
        yield RETRY + (id_frame(until) if cursor is None else b"")
        if cursor is not None:
            async for frame in _missed(connect, cursor, until, wanted):
                yield frame
        known = until if cursor is None else cursor.until or cursor.seen
        while True:
            try:
                changes = window.after(number, CHUNK)
            except Behind:
                yield end_frame("too_slow")
                return
            if changes:
                number += len(changes)
                frames = b"".join(
                    one.event.frame for one in changes if not known.sees(one.xid) and wanted(one)
                )
                if frames:
                    yield frames
            elif window.end is not None:
                yield end_frame(window.end)
                return
            elif not await window.wait(number, HEARTBEAT_SECONDS):
                yield _heartbeat(feed, number)


async def until(frames: AsyncGenerator[bytes], end: datetime) -> AsyncGenerator[bytes]:
    """Tell what a stream tells, up to a moment."""
    async with aclosing(frames):
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            try:
                async with asyncio.timeout(left) as limit:
                    frame = await anext(frames)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                break
            yield frame
        yield end_frame("expired")


def _heartbeat(feed: Feed, number: int) -> bytes:
    """Beat, and let a reader whose filter lets nothing pass go on from here all the same."""
    return HEARTBEAT + id_frame(feed.seen) if number == feed.window.count else HEARTBEAT


async def _missed(
    connect: Connect, cursor: Cursor, until: Snapshot, wanted: Wanted
) -> AsyncIterator[bytes]:
    """Tell what lies between a cursor and what the feed has seen."""
    steps: list[tuple[Snapshot, Snapshot, Place | None]] = [(cursor.seen, until, None)]
    if cursor.until is not None:
        steps = [(cursor.seen, cursor.until, cursor.last), (cursor.until, until, None)]
    for seen, end, last in steps:
        while True:
            async with connect() as conn:
                changes = await task_changes(conn, seen, end, last=last, limit=PAGE_SIZE)
            frames = []
            for one in changes:
                last = (one.moved_at, one.task_uuid, one.change_no)
                told = change_event(one, str(Cursor(seen, end, last)))
                if wanted(told):
                    frames.append(told.event.frame)
            if frames:
                yield b"".join(frames)
            if len(changes) < PAGE_SIZE:
                break


async def _snapshot(conn: Connection, topic: TaskTopic, *, with_steps: bool) -> tuple[Mark, bytes]:
    """Tell how a task stands, and after which event."""
    task_uuid = topic.task.task_uuid
    mark = topic.mark
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        for news in await follow_tasks(conn, {task_uuid: mark.position}, max_events=2**30):
            if news.events:
                mark = Mark(news.events[-1].position, news.events[-1].check)
        task = await inspect.get_task(conn, task_uuid)
        steps = await inspect.list_steps(conn, task_uuid, with_results=False)
    shown = task_response(task, steps).model_dump(mode="json")
    if not with_steps:
        shown["steps"] = []
    return mark, snapshot_event(task, mark, shown, datetime.now(UTC)).frame
