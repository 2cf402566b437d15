"""The relay: from the outbox to a sink, at least once, the events of a task in their order.

Any number of relays may run; the one that holds a lock of the database works, and the
others wait for their turn. An event leaves the outbox when its sink has confirmed it. A
sink that is down is tried again and again, and nothing is lost. An event that a sink
refuses while it is up holds up its own task for a while, and is put aside after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

import asyncpg
import structlog

from tasker_core.db.connect import Connection, Database, reconnect
from tasker_core.engine.relay import (
    CHANNEL,
    OutboxEvent,
    confirm_events,
    lead_relay,
    next_events,
    refuse_event,
)
from tasker_core.errors import DatabaseUnreachable
from tasker_core.relay.sink import Sink, SinkDown

BATCH = 200
MAX_TRIES = 10  # about three minutes
MAX_HELD = 1000  # tasks of which an event is refused; with more of them it is the sink's fault
FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
CALL_SECONDS = 60.0  # a connection that is silent for longer is taken for broken
CLOSE_SECONDS = 10.0
MAX_REASON = 2000

# a relay of which the network is cut off must not keep the lock for long
_KEEPALIVE = (
    "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3"
)

_BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_log = structlog.get_logger("tasker.events")


@dataclass(slots=True)
class _Sent:
    """What became of the events of one task in one batch."""

    delivered: list[OutboxEvent] = field(default_factory=list)
    refused: OutboxEvent | None = None  # the others after it have not been tried
    error: Exception | None = None


class Relay:
    """Relays the events of a database to one sink, until it is stopped.

    Args:
        database: Where the outbox is.
        sink: Who gets the events.
        poll_seconds: How often it looks by itself, and asks whether it may be the relay.
    """

    def __init__(self, database: Database, sink: Sink, *, poll_seconds: float = 5.0) -> None:
        self.delivered_count = 0
        self._database = database
        self._sink = sink
        self._poll_seconds = poll_seconds
        self._stop = asyncio.Event()
        self._woken = asyncio.Event()
        self._is_open = False
        self._failures = 0  # of the sink, in a row
        self._held: dict[UUID, float] = {}  # tasks whose next event was refused; until when
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="tasker-relay")

    async def stop(self) -> None:
        """Deliver what is under way, and end. A second call does nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stop.set()
        self._woken.set()
        await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def wait_closed(self) -> None:
        """Wait until it has stopped; raise what made it stop, if anything did."""
        assert self._task is not None
        await asyncio.shield(self._task)

    # --- the database ----------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while (conn := await reconnect(self._connect, self._stop)) is not None:
                try:
                    await self._relay(conn)
                except _BROKEN as error:
                    _log.warning("relay_disconnected", error=_reason(error))
                except Exception:  # else events would wait until somebody looks
                    _log.exception("relay_failed")
                finally:
                    conn.terminate()
                await self._rest(self._poll_seconds)
        finally:
            await self._close_sink()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        try:
            conn = await self._database.connect("tasker relay")
            await conn.execute(_KEEPALIVE)
            await conn.add_listener(CHANNEL, lambda *_: self._woken.set())
        except _BROKEN as error:
            raise DatabaseUnreachable("the database", _reason(error)) from error
        return conn

    async def _relay(self, conn: Connection) -> None:
        """Wait for the turn to be the relay, and be it until stopped."""
        leads = False
        while not self._stop.is_set():
            self._woken.clear()
            if not leads:
                async with asyncio.timeout(CALL_SECONDS):
                    leads = await lead_relay(conn)
                if leads:
                    _log.info("relay_leads", sink=self._sink.name)
            seconds = await self._turn(conn) if leads else self._poll_seconds
            if seconds > 0:
                with contextlib.suppress(TimeoutError):
                    # a sink that is down is not asked sooner because there is more to deliver
                    waited_for = self._stop if self._failures else self._woken
                    await asyncio.wait_for(waited_for.wait(), seconds)

    async def _turn(self, conn: Connection) -> float:
        """Deliver a batch; say after how many seconds there may be more to do."""
        now = asyncio.get_running_loop().time()
        self._held = {task: until for task, until in self._held.items() if until > now}
        if len(self._held) >= MAX_HELD:
            return min(self._held.values()) - now
        async with asyncio.timeout(CALL_SECONDS):
            events = await next_events(conn, limit=BATCH, held_tasks=list(self._held))
        if not events:
            return min([self._poll_seconds, *(until - now for until in self._held.values())])
        try:
            await self._open_sink()
            sent = await self._send(events)
            if any(one.refused for one in sent):
                await self._take_away(conn, sent)
                await self._reopen_sink(sent)
        except SinkDown as error:
            self._failures += 1
            seconds = _rest_seconds(self._failures)
            _log.warning(
                "sink_down", sink=self._sink.name, error=str(error), rest=round(seconds, 1)
            )
            return seconds
        self._failures = 0
        await self._take_away(conn, sent)
        for one in sent:
            if one.refused is not None and one.error is not None:
                await self._refuse(conn, one.refused, _reason(one.error)[:MAX_REASON])
        return 0.0

    async def _take_away(self, conn: Connection, sent: Sequence[_Sent]) -> None:
        delivered = [event for one in sent for event in one.delivered]
        if delivered:
            async with asyncio.timeout(CALL_SECONDS):
                await confirm_events(conn, delivered)
            self.delivered_count += len(delivered)
            for one in sent:
                one.delivered.clear()

    async def _refuse(self, conn: Connection, event: OutboxEvent, reason: str) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            is_aside = await refuse_event(conn, event, reason, max_tries=MAX_TRIES)
        facts = {"name": event.name, "event_uuid": str(event.event_uuid), "reason": reason}
        if is_aside:
            _log.error("event_put_aside", tries=event.tries + 1, **facts)
            return
        _log.warning("event_refused", tries=event.tries + 1, **facts)
        now = asyncio.get_running_loop().time()
        self._held[event.task_uuid] = now + _rest_seconds(event.tries + 1)

    # --- the sink --------------------------------------------------------------------------

    async def _send(self, events: Sequence[OutboxEvent]) -> list[_Sent]:
        """Deliver these events: one task's in order, several tasks' at a time."""
        turns = asyncio.Semaphore(self._sink.width)

        async def send(own: Sequence[OutboxEvent]) -> _Sent:
            sent = _Sent()
            async with turns:
                for event in own:
                    if self._stop.is_set():
                        break
                    try:
                        await self._sink.deliver(event)
                    except Exception as error:
                        sent.refused, sent.error = event, error
                        break
                    sent.delivered.append(event)
            return sent

        groups = [list(own) for _, own in groupby(events, lambda event: event.task_uuid)]
        return await asyncio.gather(*(send(own) for own in groups))

    async def _open_sink(self) -> None:
        if self._is_open:
            return
        try:
            await self._sink.open()
        except Exception as error:
            await self._close_sink()
            raise SinkDown(_reason(error)) from error
        self._is_open = True

    async def _reopen_sink(self, sent: Sequence[_Sent]) -> None:
        """Tell a sink that is down from one that refuses an event: the former does not open."""
        await self._close_sink()
        for one in sent:
            if isinstance(one.error, SinkDown):
                raise one.error
        await self._open_sink()

    async def _close_sink(self) -> None:
        self._is_open = False
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._sink.close()
        except Exception as error:
            _log.debug("sink_not_closed", sink=self._sink.name, error=_reason(error))

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), random.uniform(0, seconds))


def _rest_seconds(failures: int) -> float:
    """Say how long to rest after so many failures in a row."""
    longest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** min(failures - 1, 10))
    return random.uniform(longest / 2, longest)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
