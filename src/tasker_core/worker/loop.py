"""The worker: claim, run, finish, all on one event loop.

One connection finishes and claims, one call at a time. While a call is under way,
handlers go on and their results collect; the next call carries them and brings as many
new steps. So a call carries one result when there is little to do, and hundreds when
there is much, and nothing has to be tuned.

Half of the worker's steps at most go in one call, so that with many quick ones the
handlers of one half run while the database settles the other; when both halves have run,
a second connection makes a call of its own (see second.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import structlog

from tasker_core.db.connect import Connection, Database, reconnect
from tasker_core.db.listen import Listener, Notice
from tasker_core.db.migrate import check
from tasker_core.engine.claim import Claim, Lane, Work, held_steps, list_lanes
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import new_uuid, task_and_step_no
from tasker_core.engine.lease import Loan, forget_worker, give_back, renew_leases
from tasker_core.handlers.bound import HandlerDefinition
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.relay import Relay
from tasker_core.relay.subscribers import SubscriberSink, wants_durable_events
from tasker_core.settings import Settings
from tasker_core.tracing import set_up as set_up_tracing
from tasker_core.worker.alarm import SHORTEST_WAIT_SECONDS, Alarm
from tasker_core.worker.announce import Announcer
from tasker_core.worker.attempt import Attempt, Ended
from tasker_core.worker.broken import BROKEN, connect, reason, rest, unreachable_if_broken
from tasker_core.worker.held import HeldResults, limit_lock_waits
from tasker_core.worker.lookout import Lookout
from tasker_core.worker.lookup import Lookup
from tasker_core.worker.plan import PlanBook
from tasker_core.worker.record import Recorder, fitting
from tasker_core.worker.run import Runner
from tasker_core.worker.second import SecondConnection
from tasker_core.worker.tally import Tally
from tasker_core.worker.transaction import Transactions
from tasker_core.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from tasker_core.worker.page import Page

LAST_CALL_SECONDS = 10.0  # for the last one, when the worker is to stop
WHOLE_CALL = 50  # steps that are not worth two calls

_log = structlog.get_logger("tasker.worker")


class AsyncWorker:
    """A worker on the running event loop.

    Args:
        database: Where the steps are.
        settings: Concurrency, lease, time-outs.
        registry: The handlers; only steps that they can do are claimed.
        namespaces: Serve only these; None serves all.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        registry: HandlerRegistry,
        *,
        namespaces: Sequence[str] | None = None,
    ) -> None:
        self.worker_uuid: UUID = new_uuid()
        self.concurrency = settings.worker_concurrency
        self._most_in_call = max(WHOLE_CALL, self.concurrency // 2)
        self.lease = timedelta(seconds=settings.lease_seconds)
        self.lanes: list[int] = []
        self.unserved: list[Lane] = []  # lanes that this worker has no handler for
        self.finished_count = 0
        self.started_at = 0.0  # time.monotonic()
        self.page: Page | None = None  # health and metrics of this worker
        self.tally = Tally(counts_steps=settings.worker_port is not None)
        self._served: list[Lane] = []
        self._lookout = Lookout(settings.poll_seconds)
        self._database = database
        self._settings = settings
        self._namespaces = namespaces if namespaces is not None else settings.namespaces
        self._plans = PlanBook(registry, settings.handler_timeout_seconds)
        self._lookup = Lookup(database)
        self._transactions = Transactions(database, self.worker_uuid, self._lookup)
        self._announcer = Announcer()
        self._relay: Relay | None = None  # of durable events to this process's subscribers
        self._woken = asyncio.Event()
        self._drained = asyncio.Event()
        self._is_draining = False
        self._stopping = asyncio.Event()
        self._unsent: list[Finished] = []  # results, or nobody knows what became of the call
        self._calls: list[_Call] = []  # under way
        self._held = HeldResults(self._woken.set)
        self._recorder = Recorder(self.worker_uuid, self.lease)
        self._failed_turns = 0  # in a row
        self._must_ask = False  # what is on loan here: a call may have been carried out late
        self._alarm = Alarm(self._lookout, self._woken.set)
        self._second_error: BaseException | None = None
        self._second = SecondConnection(
            self._connect, self._take_second_turn, self._lose_call, self._stopping
        )
        self._stopper: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to claim steps.

        Raises:
            AddressUnavailable: `worker_port` is taken.
            TracingUnavailable: `tracing` is set, and the extra `otel` is not installed.
            DatabaseUnreachable: Nobody answers.
            SchemaOutOfDate, SchemaTooNew: The database is not of this program's version.
        """
        if self._settings.worker_port is not None:
            from tasker_core.worker.page import Page

            self.page = Page(self, self._database, self._settings, self._settings.worker_port)
        try:
            conn = await self._connect()
        except BaseException:
            self._close_page()
            raise
        try:
            with unreachable_if_broken():
                await check(conn)
                self.runner = Runner(
                    self._lookup,
                    self._transactions,
                    self.concurrency,
                    self._settings.max_result_bytes,
                    self._wake,
                    self.tally if self.tally.counts_steps else None,
                    set_up_tracing(self._settings.tracing, "tasker-worker"),
                )
                await self.look_for_lanes(conn)
                self._upkeep = Upkeep(self, self._database, self._settings)
                await self._upkeep.start(conn)
        except BaseException:
            conn.terminate()
            self._close_page()
            raise
        self._listener = Listener(
            lambda: connect(self._database, "tasker worker listener"),
            ["tasker_ready", "tasker_lanes", "tasker_cancelled"],
            self._on_notice,
        )
        await self._listener.start()
        self._announcer.attach()
        await self._start_relay()
        self._woken.set()
        self.started_at = time.monotonic()
        self._flow = asyncio.create_task(self._work(conn), name="tasker-worker")
        if self.page is not None:
            await self.page.start()
        _log.info(
            "worker_started",
            worker_uuid=str(self.worker_uuid),
            lanes=len(self.lanes),
            concurrency=self.concurrency,
        )

    def _close_page(self) -> None:
        if self.page is not None:
            self.page.close()

    async def stop(self, *, drain_seconds: float | None = None) -> None:
        """Claim no more, let running handlers end, give back what has not begun.

        Args:
            drain_seconds: How long running handlers may take; None as the settings say.
                Async handlers are cancelled after that, and their steps given back;
                threads cannot be, and their leases run out.
        """
        if self._stopper is None:
            if drain_seconds is None:
                drain_seconds = self._settings.shutdown_seconds
            self._stopper = asyncio.create_task(self._stop(drain_seconds), name="tasker-stop")
        await asyncio.shield(self._stopper)

    async def _stop(self, drain_seconds: float) -> None:
        self._is_draining = True
        self._woken.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), drain_seconds)
        self._stopping.set()
        self._woken.set()
        await asyncio.wait({self._flow}, timeout=LAST_CALL_SECONDS)
        self._flow.cancel()  # in vain, unless the database does not answer
        await asyncio.wait({self._flow})
        await self._upkeep.stop()
        self.runner.close()
        self._alarm.cancel()
        self._transactions.close()
        await asyncio.to_thread(self._lookup.close)
        if self._relay is not None:
            await self._relay.stop()
        if self.page is not None:
            await self.page.stop()
        await asyncio.to_thread(self._announcer.close)
        try:
            await self._listener.stop()
        except BROKEN as error:  # it ended before its time: only the poll woke the worker
            _log.warning("listener_failed", error=reason(error))
        if not self._flow.cancelled():
            self._flow.result()
        _log.info("worker_stopped", worker_uuid=str(self.worker_uuid))

    async def _start_relay(self) -> None:
        """Bring durable events to the subscribers of this process, if any asks for them."""
        if not wants_durable_events():
            return
        if self._settings.events_url is not None:
            _log.warning(
                "durable_subscribers_idle",
                reason="events_url is set: durable events go to the broker, and only there",
            )
            return
        self._relay = Relay(
            self._database, SubscriberSink(), poll_seconds=self._settings.poll_seconds
        )
        await self._relay.start()

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Keep durable events in the outbox meanwhile: handlers and subscribers may change."""
        if self._relay is not None:
            await self._relay.stop()
            self._relay = None
        try:
            yield
        finally:
            if not self._is_draining:
                await self._start_relay()

    async def wait_closed(self) -> None:
        """Wait until the worker has stopped; raise what made it stop, if anything did."""
        await asyncio.shield(self._flow)

    def use(self, registry: HandlerRegistry) -> None:
        """Take other handlers for the attempts that begin from now on, and other subscribers."""
        self._announcer.attach()
        self._plans.use(registry)
        self._upkeep.look_for_lanes_soon()

    async def look_for_lanes(self, conn: Connection) -> None:
        """See which lanes there are, and which of them the handlers can serve."""
        lanes = await list_lanes(conn, self._namespaces)
        served: list[Lane] = []
        unserved: list[Lane] = []
        for lane in lanes:
            (served if self._serves(lane) else unserved).append(lane)
        self._served, self.unserved = served, unserved
        if [lane.lane for lane in served] != self.lanes:
            self.lanes = [lane.lane for lane in served]
            self._lookout.serve(served)
            self._woken.set()

    @property
    def is_working(self) -> bool:
        """Whether it claims steps: it is not about to stop, nor has it failed."""
        return not (self._is_draining or self._flow.done())

    @property
    def seen_at(self) -> float:
        """When the database last heard that it lives, by time.monotonic()."""
        return self._upkeep.seen_at

    @property
    def unrecorded(self) -> list[Finished]:
        """The results that still need their leases."""
        sent = [one for call in self._calls for one in call.batch]
        return [*sent, *self._unsent, *self._held.results]

    @property
    def registry(self) -> HandlerRegistry:
        """The handlers that it has."""
        return self._plans.registry

    @property
    def announcer(self) -> Announcer:
        """What tells the subscribers of this process."""
        return self._announcer

    def looks_at(self, namespace: str) -> bool:
        """Whether it would serve this namespace, had it the handlers."""
        return self._namespaces is None or namespace in self._namespaces

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of which it can serve at least one lane."""
        return sorted({lane.namespace for lane in self._served})

    def _serves(self, lane: Lane) -> bool:
        wanted = HandlerDefinition(lane.callable, lane.method, lane.resolver)
        return self._plans.registry.find(wanted) is not None

    def _on_notice(self, notice: Notice | None) -> None:
        if notice is None:  # whatever was told meanwhile is lost
            self._upkeep.look_for_lanes_soon()
            self._look_everywhere()
        elif notice.channel == "tasker_lanes":
            self._upkeep.look_for_lanes_soon()
        elif notice.channel == "tasker_cancelled":
            with contextlib.suppress(ValueError):  # anybody can notify anything
                self._check(UUID(notice.payload))
        elif self._lookout.tell(notice.payload):
            self._woken.set()

    def _check(self, ended: UUID) -> None:
        """Somebody has ended a task, or a step: see whether what runs of it still counts.

        A notice may be late, and the step be on loan here again.
        """
        task_uuid, step_no = task_and_step_no(ended)
        self._upkeep.check_soon(
            attempt.key
            for attempt in list(self.runner.running.values())
            if attempt.task_uuid == task_uuid and step_no in (0, attempt.step_no)
        )

    # --- work -------------------------------------------------------------------------

    async def _work(self, conn: Connection) -> None:
        """Take turns until the worker is drained, over every broken connection."""
        second = asyncio.create_task(self._second.run(), name="tasker-worker-second")
        second.add_done_callback(self._note_second)
        try:
            while True:
                try:
                    await self._take_turns(conn)
                    return
                except BROKEN as error:
                    _log.warning("worker_disconnected", error=reason(error))
                    conn.terminate()
                await rest(self._failed_turns, self._stopping)
                self._failed_turns += 1
                again = await reconnect(self._connect_again, self._stopping)
                if again is None:
                    return
                conn = again
        finally:
            self._drained.set()
            conn.terminate()
            second.cancel()
            await asyncio.wait({second})

    async def _take_turns(self, conn: Connection) -> None:
        while not self._stopping.is_set():
            await self._woken.wait()
            self._woken.clear()
            if self._second_error is not None:
                raise self._second_error
            if self._is_draining:
                await self._give_back(conn, self.runner.withdraw())
            if self._must_ask:
                self._must_ask = False
                await self._begin_unheard(conn)
            self._take_committed()
            await self._finish_held(conn)
            work = await self._turn(conn)
            if self._is_draining and not self.runner.running and not self.unrecorded:
                break
            self._alarm.set(work)
        async with self._second.idle:  # from here on there is one connection
            left = [*self.runner.withdraw(), *await self.runner.stop_async()]
            self._take_committed()
            await self._turn(conn)
            while self.unrecorded:
                await self._finish_held(conn)
                await self._turn(conn)
                if not self._unsent:
                    await asyncio.sleep(SHORTEST_WAIT_SECONDS)
            await self._give_back(conn, left)
        await self._upkeep.stop()  # it would say once more that the worker is alive
        await forget_worker(conn, self.worker_uuid)
        await conn.close()

    async def _take_second_turn(self, conn: Connection) -> None:
        """Take a turn beside another, which has all that is left to do if this one is late."""
        if self._calls and not self._is_draining:
            self._alarm.set(await self._turn(conn))
            self.runner.begin()
            self._woken.set()

    def _note_second(self, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            self._second_error = ended.exception()
            self._woken.set()

    def _lose_call(self) -> None:
        """Nobody knows what became of a call: what it claimed is looked for, now and once more."""
        self._ask_again()
        asyncio.get_running_loop().call_later(self.lease.total_seconds() / 3, self._ask_again)

    def _wake(self) -> None:
        """There are results to take: by the next call, or by one beside that under way."""
        self._woken.set()
        if self._calls:
            self._ask_for_second()

    def _ask_for_second(self) -> None:
        if self.runner.finished_count + len(self._unsent) >= WHOLE_CALL:
            self._second.ask()

    async def _turn(self, conn: Connection) -> Work | None:
        """Finish what has ended, claim what there is room for, and begin what was claimed.

        When there is more to send at once, what was claimed begins behind that call.
        """
        self._unsent += self.runner.take_finished()
        promised = sum(call.room for call in self._calls)
        room = max(0, self.concurrency - len(self.runner.running) - promised)
        room = 0 if self._is_draining else min(room, self._most_in_call)
        only_claims = room and self._lookout.has_any and not self._calls
        if not self._unsent and not only_claims:
            self.runner.begin()
            return None
        batch = fitting(self._unsent[: self._most_in_call])
        del self._unsent[: len(batch)]
        call = _Call(batch, room)
        self._calls.append(call)
        try:
            return await self._call(conn, batch, room)
        finally:
            self._calls.remove(call)

    async def _call(self, conn: Connection, batch: list[Finished], room: int) -> Work | None:
        looked = self._lookout.begin() if room else []
        sent_at = time.monotonic()
        call: Coroutine[Any, Any, tuple[Work, list[Finished]]]
        call = self._recorder.record(
            conn,
            batch,
            lanes=self._lanes_for(batch, looked),
            looked_lanes=self._lookout.lanes_of(looked),
            limit=room,
        )
        self._ask_for_second()
        try:
            if self.runner.has_admitted:
                on_its_way = asyncio.create_task(call)
                await asyncio.sleep(0)
                self.runner.begin()
                work, recorded = await on_its_way
            else:
                work, recorded = await call
        except asyncpg.LockNotAvailableError:
            self._lookout.fail(looked)
            self._held.add(batch)
            self._woken.set()
            return None
        except BaseException:
            self._lookout.fail(looked)
            self._unsent[:0] = batch
            raise
        self._failed_turns = 0
        has_room = len(work.claims) < room
        self._lookout.end(looked, found_all=has_room)
        self.finished_count += len(batch)
        self.tally.refused += len(work.refusals)
        for refusal in work.refusals:
            _log.warning(
                "result_refused",
                task_uuid=str(refusal.task_uuid),
                step_no=refusal.step_no,
                attempt=refusal.attempt,
                reason=refusal.reason,
            )
        for one in recorded:
            self._announce(one)
        await self._admit(conn, work.claims, sent_at)
        if (
            self._unsent
            or self.runner.finished_count
            or len(work.claims) == self._most_in_call
            or (has_room and self._lookout.has_any)
        ):
            self._woken.set()
        else:
            self.runner.begin()
        return work

    def _take_committed(self) -> None:
        """Note what handlers have recorded in transactions of their own."""
        committed = self._transactions.take_recorded()
        if committed and self.tally.counts_steps:
            self.tally.ended(committed, time.monotonic())
        for _, success in committed:
            self.finished_count += 1
            self._announce(success)

    def _lanes_for(self, batch: Sequence[Finished], looked: Sequence[str]) -> list[int]:
        """List those that a call can claim from: where it looks, and those of its tasks."""
        namespaces = set(looked)
        for one in batch:
            if one.namespace is None:
                return self.lanes
            namespaces.add(one.namespace)
        return self._lookout.lanes_of(namespaces) or self.lanes

    async def _finish_held(self, conn: Connection) -> None:
        if not self._held.are_due:
            return

        def note(recorded: list[Finished]) -> None:
            self.finished_count += 1
            for one in recorded:
                self._announce(one)

        call = _Call([], 0)  # the second connection sees to the others meanwhile
        self._calls.append(call)
        try:
            await self._held.record(conn, self._recorder, note)
        finally:
            self._calls.remove(call)
        self._lookout.is_due = True  # what has failed may rest for less than is known

    def _announce(self, one: Finished) -> None:
        if isinstance(one, Ended):
            self._announcer.announce(one)

    async def _admit(self, conn: Connection, claims: Sequence[Claim], claimed_at: float) -> None:
        """Take in what was claimed, if the claims are still good; the lease ran from claimed_at."""
        if not claims:
            return
        if time.monotonic() - claimed_at > self.lease.total_seconds():
            _log.warning("claims_too_late", steps=len(claims))  # this process was frozen
            return
        attempts = [
            Attempt(
                claim,
                self._plans.known(claim) or await self._plans.plan(conn, claim),
                claimed_at,
            )
            for claim in claims
        ]
        # `use` may have taken away a handler after the claim: the step waits for another worker
        unable = [one for one in attempts if not (one.plan.handler or one.plan.problem)]
        if unable:
            attempts = [one for one in attempts if one.plan.handler or one.plan.problem]
        if self.tally.counts_steps:
            self.tally.claimed(attempts)
        self.runner.admit(attempts)
        if unable:
            await self.look_for_lanes(conn)
            await self._give_back(conn, unable)

    async def _begin_unheard(self, conn: Connection) -> None:
        """Begin what was claimed in a call of which the answer was lost."""
        async with self._second.idle:  # what its call claims is heard of
            asked_at = time.monotonic()
            known = {(one.task_uuid, one.step_no, one.attempt) for one in self.unrecorded}
            known |= self.runner.running.keys()
            unheard = [
                claim
                for claim in await held_steps(conn, self.worker_uuid)
                if (claim.task_uuid, claim.step_no, claim.attempt) not in known
            ]
            if not unheard:
                return
            room = 0 if self._is_draining else max(0, self.concurrency - len(self.runner.running))
            await renew_leases(conn, self.worker_uuid, unheard[:room], lease=self.lease)
            await self._admit(conn, unheard[:room], asked_at)
            self.runner.begin()
            await self._give_back(conn, unheard[room:])

    async def _give_back(self, conn: Connection, loans: Sequence[Loan]) -> None:
        if loans:
            await give_back(conn, self.worker_uuid, loans)

    async def _connect(self) -> Connection:
        conn = await connect(self._database, "tasker worker")
        try:
            with unreachable_if_broken():
                await limit_lock_waits(conn)
        except BaseException:
            conn.terminate()
            raise
        return conn

    async def _connect_again(self) -> Connection:
        """Connect, and see what became of the call that was cut off.

        Should it still be under way there, it is carried out after this look, so there is
        another one later.
        """
        conn = await self._connect()
        try:
            with unreachable_if_broken():
                await check(conn)
                await self._begin_unheard(conn)
                await self.look_for_lanes(conn)
        except BaseException:
            conn.terminate()
            raise
        asyncio.get_running_loop().call_later(self.lease.total_seconds() / 3, self._ask_again)
        self._look_everywhere()
        return conn

    def _ask_again(self) -> None:
        self._must_ask = True
        self._woken.set()

    def _look_everywhere(self) -> None:
        self._lookout.look_everywhere()
        self._woken.set()


@dataclass(slots=True, eq=False)
class _Call:
    """A call under way: the results that it carries, and how many steps it may bring."""

    batch: list[Finished]
    room: int
