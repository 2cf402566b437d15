"""The worker's side of `context.transaction()`: begin it, record the result in it, commit.

Until the commit nothing has happened, and a result that cannot be committed becomes a
failure that the worker's loop records like any other. That is safe even when nobody knows
whether the commit came through: the failure needs the lease, which the commit took away.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import structlog

from tasker_core.db.connect import Connection, Database
from tasker_core.engine.finish import Finished
from tasker_core.engine.transaction import (
    TOO_STRICT,
    begin_transaction,
    finish_in_transaction,
    transaction_outcome,
)
from tasker_core.errors import TransactionMisuse
from tasker_core.handlers.result import StepHandlerResult, result_from_exception
from tasker_core.worker.broken import reason
from tasker_core.worker.ends import expanded
from tasker_core.worker.lookup import Lookup
from tasker_core.worker.sessions import (
    AlchemySession,
    AsyncAlchemySession,
    AsyncpgSession,
    Pools,
    PsycopgSession,
    Session,
)

if TYPE_CHECKING:
    from tasker_core.worker.attempt import Attempt

Write = Callable[[StepHandlerResult], Finished]
T = TypeVar("T")

LOOKS = 20  # for the end of a transaction that was cut off, one each tenth of a second

_CONFLICTS = ("40001", "40P01", "55P03")
_ABORTED = "25P02"
_FORBIDDEN = "42501"
_MISSING = ("3F000", "42883")
_UNACCEPTED_CLASSES = ("22", "23", "54")

_log = structlog.get_logger("tasker.worker")


class Transactions:
    """What all attempts of one worker need for their transactions."""

    def __init__(self, database: Database, worker_uuid: UUID, lookup: Lookup) -> None:
        self.worker_uuid = worker_uuid
        self.lookup = lookup
        self.pools = Pools(database)
        self._loop = asyncio.get_running_loop()
        self._recorded: deque[tuple[Attempt, Finished]] = deque()

    def recorded(self, attempt: Attempt, success: Finished) -> None:
        """Note a success that was committed. From any thread."""
        self._recorded.append((attempt, success))

    def take_recorded(self) -> list[tuple[Attempt, Finished]]:
        """Take the successes that were committed since the last call."""
        return [self._recorded.popleft() for _ in range(len(self._recorded))]

    def close(self) -> None:
        """Break off what is still open."""
        self.pools.close()

    def open(self, attempt: Attempt, engine: Any, *, is_async: bool) -> OpenTransaction:
        """Make an attempt's transaction; it is yet to begin.

        Raises:
            TransactionMisuse: The engine or the event loop does not fit the handler.
        """
        if is_async and asyncio.get_running_loop() is not self._loop:
            raise TransactionMisuse(
                "`async with context.transaction()` works on the worker's own event loop: make "
                "the handler async, or use `with`"
            )
        return OpenTransaction(attempt, self, self._session(engine, is_async), is_async)

    def _session(self, engine: Any, is_async: bool) -> Session:
        if engine is None:
            return AsyncpgSession(self.pools) if is_async else PsycopgSession(self.pools)
        kind = next(
            (
                base.__name__
                for base in type(engine).__mro__
                if base.__module__.startswith("sqlalchemy.")
            ),
            type(engine).__name__,
        )
        if kind == ("AsyncEngine" if is_async else "Engine"):
            return AsyncAlchemySession(engine) if is_async else AlchemySession(engine)
        if kind == "AsyncEngine":
            raise TransactionMisuse(
                "an AsyncEngine needs an async handler and `async with context.transaction(engine)`"
            )
        if kind == "Engine":
            raise TransactionMisuse(
                "an async handler needs an AsyncEngine: sqlalchemy.ext.asyncio.create_async_engine"
            )
        raise TransactionMisuse(
            f"context.transaction() takes a SQLAlchemy Engine or AsyncEngine, not {kind}; "
            "without one it gives a connection of asyncpg or psycopg"
        )


class OpenTransaction:
    """The transaction of one attempt."""

    def __init__(
        self, attempt: Attempt, shared: Transactions, session: Session, is_async: bool
    ) -> None:
        self.is_async = is_async
        self._attempt = attempt
        self._shared = shared
        self._session = session
        self._id = ""
        self._lock = threading.Lock()  # a handler's own threads may be at it, too
        self._has_begun = self._has_ended = False

    async def begin(self) -> Any:
        """Begin; give the handler's connection.

        Raises:
            TransactionMisuse: The database is not the worker's, or its user may not do this.
            Exception: Whatever the driver says.
        """
        await self._session.begin()
        try:
            found = await self._session.ask(
                begin_transaction(self._shared.worker_uuid, self._attempt)
            )
            if found is None or not self._may_begin():
                raise TransactionMisuse(
                    "the step is not on loan to this worker in that database: its lease was "
                    "lost, or the engine leads to another database than the worker's"
                )
            self._id = found
        except BaseException as error:
            await self._session.roll_back()
            _explain(error)
            raise
        return self._session.connection

    async def roll_back(self) -> None:
        """Undo what the handler has written. One that is still beginning does not begin."""
        if self._may_end():
            await self._session.roll_back()

    async def finish(self, success: Finished, write: Write) -> Finished | None:
        """Record the success and commit, or roll back.

        Args:
            success: A failure, if the result cannot be stored.
            write: Makes a failure that can be recorded.

        Returns:
            What the worker has to record instead, None if nothing.
        """
        if not self._may_end():
            return success  # rolled back by a thread that the handler did not wait for
        is_recorded = False
        try:
            success = await self._record(success, write)
            is_recorded = True
            await self._session.commit()
        except _NotRecorded as other:
            await self._session.roll_back()
            return other.instead
        except BaseException as error:
            await self._session.roll_back()
            if not isinstance(error, Exception):
                raise
            if not (is_recorded and await self._was_committed()):
                return write(_failure(error, is_recorded))
        else:
            await self._session.release()
        self._shared.recorded(self._attempt, success)
        return None

    def _may_begin(self) -> bool:
        with self._lock:
            self._has_begun = not self._has_ended
            return self._has_begun

    def _may_end(self) -> bool:
        """Whether the caller, and nobody else, is to end what has begun."""
        with self._lock:
            may_end = self._has_begun and not self._has_ended
            self._has_ended = True
            return may_end

    async def _record(self, success: Finished, write: Write) -> Finished:
        """Record a success; give it with what it adds to the task."""
        while True:
            one = success
            if self._attempt.plan.expands:
                (one,) = await self._ask(lambda conn: expanded(conn, [success]))
            if one.error is not None:
                raise _NotRecorded(one)
            outcome, why = await self._session.ask(
                finish_in_transaction(self._shared.worker_uuid, self._id, one)
            )
            match outcome:
                case "recorded":
                    return one
                case "ended":
                    raise _NotRecorded(write(_ENDED))
                case "refused":
                    _log.warning(
                        "result_refused",
                        task_uuid=str(one.task_uuid),
                        step_no=one.step_no,
                        attempt=one.attempt,
                        reason=why,
                    )
                    raise _NotRecorded(None)

    async def _was_committed(self) -> bool:
        """Find out about a commit of which the answer was lost; False if it is not known."""

        async def look(conn: Connection) -> bool:
            for _ in range(LOOKS):
                outcome = await transaction_outcome(conn, self._id)
                if outcome != "in progress":
                    break
                await asyncio.sleep(0.1)
            _log.warning("commit_cut_off", transaction=self._id, outcome=outcome)
            return outcome == "committed"

        try:
            return await self._ask(look)
        except Exception as error:  # nobody answers: the lease will tell
            _log.warning("commit_unknown", transaction=self._id, error=reason(error))
            return False

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask on another connection."""
        if self.is_async:
            return await asyncio.to_thread(self._shared.lookup.ask, question)
        return self._shared.lookup.ask(question)


class _NotRecorded(Exception):
    def __init__(self, instead: Finished | None) -> None:
        self.instead = instead


_ENDED = StepHandlerResult.failure(
    "the handler committed or rolled back its transaction itself; what it committed stays, and "
    "the result is not recorded: leave the end of context.transaction() to the worker",
    "transaction_ended",
    retryable=False,
)


def _failure(error: Exception, is_recorded: bool) -> StepHandlerResult:
    """Say why a transaction could not be committed."""
    state, text = _sqlstate(error), reason(error)
    if state in _CONFLICTS:
        message = f"the step's transaction met another one and was rolled back: {text}"
        return StepHandlerResult.failure(message, "transaction_conflict")
    if state == _ABORTED:
        message = (
            "a statement of the step's transaction had failed, so all of it was rolled back: let "
            "the error leave the block of context.transaction(), or put a savepoint around it"
        )
        return StepHandlerResult.failure(message, "transaction_aborted")
    if state is not None and state.startswith(_UNACCEPTED_CLASSES):
        if is_recorded:  # a deferred constraint of the application's
            return result_from_exception(error)
        message = f"the database does not accept the result: {text}"
        return StepHandlerResult.failure(message, "invalid_result", retryable=False)
    message = f"the connection of the step's transaction was lost, and its writes with it: {text}"
    return StepHandlerResult.failure(message, "transaction_lost")


def _explain(error: BaseException) -> None:
    """Raise what an author can act upon, if the database has said no."""
    state = _sqlstate(error)
    if state in _MISSING:
        raise TransactionMisuse(
            "the engine's database has no schema tasker of this version: a step's transaction "
            "is possible in the worker's own database only"
        ) from error
    if state == TOO_STRICT:
        raise TransactionMisuse(
            "a step's transaction must be READ COMMITTED, or the end of another step of its task "
            "could be overlooked: give context.transaction() "
            'engine.execution_options(isolation_level="READ COMMITTED"), and lock what must not '
            "change meanwhile"
        ) from error
    if state == _FORBIDDEN:
        raise TransactionMisuse(
            "the engine's user may not record results: grant it what the worker's user has in "
            "the schema tasker"
        ) from error


def _sqlstate(error: BaseException) -> str | None:
    driver = getattr(error, "orig", error)  # SQLAlchemy wraps what the driver raised
    state = getattr(driver, "sqlstate", None)
    return state if isinstance(state, str) else None
