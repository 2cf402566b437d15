"""Run handlers, and collect how their attempts ended.

Async handlers run on the loop, the others in threads. Whatever a handler returns,
raises or does not do in time becomes one `Finished` in `take_finished`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from tasker_core.engine.finish import Finished
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.current import enter_step, leave_step
from tasker_core.handlers.result import (
    ErrorType,
    StepHandlerResult,
    result_from_exception,
    result_from_return,
)
from tasker_core.handlers.transaction import run_blocking
from tasker_core.tracing import StepSpan
from tasker_core.worker.attempt import Attempt, AttemptKey, Ended, log_failure
from tasker_core.worker.lookup import Lookup
from tasker_core.worker.prepare import with_events, with_events_now
from tasker_core.worker.tally import Tally
from tasker_core.worker.threads import HandlerThreads
from tasker_core.worker.transaction import Transactions

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

PULSE_SECONDS = 0.002
DEADLINE_CHECK_SECONDS = 0.05
CANCEL_SECONDS = 5.0  # for an async handler to clean up

_log = structlog.get_logger("tasker.worker")


class Runner:
    """Runs attempts; calls `wake` on the loop when there is something to take.

    Args:
        lookup: Where handlers' questions for older results go.
        transactions: How handlers begin transactions of their own.
        concurrency: How many attempts run at a time; the loop sees to it, and no more
            threads than this are started.
        max_result_bytes: Larger results fail their step.
        wake: Called on the event loop.
        tally: Where to count the attempts; None: nowhere.
        tracer: What makes a span an attempt; None: nobody traces.
    """

    def __init__(
        self,
        lookup: Lookup,
        transactions: Transactions,
        concurrency: int,
        max_result_bytes: int,
        wake: Callable[[], None],
        tally: Tally | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._lookup = lookup
        self._transactions = transactions
        self._max_result_bytes = max_result_bytes
        self._wake = wake
        self._tally = tally
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._threads = HandlerThreads(concurrency, self._run_in_thread)
        self._finished: deque[tuple[Attempt, Finished]] = deque()
        self._ended: deque[Attempt] = deque()  # their code is no longer running
        self._told = False
        self._first_untold = 0.0
        self._pulse: asyncio.TimerHandle | None = None
        self._deadlines: asyncio.TimerHandle | None = None
        self._admitted: list[Attempt] = []
        self.running: dict[AttemptKey, Attempt] = {}  # the admitted ones too

    # --- what the loop calls ----------------------------------------------------------

    def admit(self, attempts: Sequence[Attempt]) -> None:
        """Take these attempts in; the next `begin` runs them."""
        self._admitted += attempts
        self.running.update((attempt.key, attempt) for attempt in attempts)

    def begin(self) -> None:
        """Run what has been admitted."""
        attempts, self._admitted = self._admitted, []
        for_threads = []
        for attempt in attempts:
            if attempt.plan.handler is None:
                self._end(attempt, _cannot_begin(attempt), 0.0)
                self._ended.append(attempt)
                self._wake()
            elif attempt.plan.handler.is_async:
                self._loop.create_task(self._run_on_loop(attempt))
            else:
                for_threads.append(attempt)
        if for_threads:
            self._threads.submit(for_threads)
            self._ensure_pulse()
        if self._deadlines is None and any(a.plan.timeout for a in attempts):
            self._deadlines = self._loop.call_later(DEADLINE_CHECK_SECONDS, self._check_deadlines)

    @property
    def has_admitted(self) -> bool:
        """Whether there is something to begin."""
        return bool(self._admitted)

    @property
    def finished_count(self) -> int:
        """How many results there are to take."""
        return len(self._finished)

    def take_finished(self) -> list[Finished]:
        """Take the results that came in since the last call; their slots are free again."""
        self._told = False
        while self._ended:
            attempt = self._ended.popleft()
            if attempt.is_publishing:
                attempt.has_left = True
            else:
                self.running.pop(attempt.key, None)
        taken = []
        while self._finished:
            taken.append(self._finished.popleft())
        if self._tally is not None:
            self._tally.ended(taken, time.monotonic())
        return [finished for _, finished in taken]

    def withdraw(self) -> list[Attempt]:
        """Take back the attempts that have not begun."""
        withdrawn = [*self._admitted, *self._threads.withdraw()]
        self._admitted = []
        for attempt in withdrawn:
            attempt.is_over = True
            self.running.pop(attempt.key, None)
        return withdrawn

    async def stop_async(self) -> list[Attempt]:
        """Cancel the async attempts that are still running; take back those that then end."""
        await asyncio.sleep(0)  # what was begun a moment ago is to have its asyncio task
        stopped = {
            attempt.asyncio_task: attempt
            for attempt in self.running.values()
            if attempt.asyncio_task is not None and not attempt.is_over
        }
        if not stopped:
            return []
        for attempt in stopped.values():
            self.drop(attempt)
        ended, deaf = await asyncio.wait(stopped, timeout=CANCEL_SECONDS)
        for asyncio_task in deaf:
            _log.warning("handler_goes_on", step=stopped[asyncio_task].claim.name)
        return [stopped[asyncio_task] for asyncio_task in ended]

    def drop(self, attempt: Attempt) -> None:
        """Forget an attempt whose result does not count any more, and stop it if possible."""
        attempt.is_over = True
        if attempt.asyncio_task is not None:
            attempt.asyncio_task.cancel()

    def close(self) -> None:
        """End the threads as their handlers return, and the timers."""
        self._threads.close()
        for timer in (self._pulse, self._deadlines):
            if timer is not None:
                timer.cancel()

    # --- running ----------------------------------------------------------------------

    async def _run_on_loop(self, attempt: Attempt, value: Awaitable[Any] | None = None) -> None:
        started = time.monotonic()
        if not attempt.is_over:
            # known only now: a task that is cancelled before it begins would never end here
            attempt.asyncio_task = asyncio.current_task()
            attempt.began_at = attempt.began_at or started
            try:
                assert attempt.plan.handler is not None
                if value is None:
                    context = attempt.context(self._lookup, self._transactions)
                    enter_step(context)
                    if self._tracer is not None:
                        attempt.begin_span(self._tracer, context)
                    value = attempt.plan.handler.run(context)
                result = result_from_return(await value)
            except BaseException as error:  # a handler may raise SystemExit: the worker lives on
                result = result_from_exception(error)
            seconds = time.monotonic() - started
            if attempt.transaction is None:
                self._end(attempt, result, seconds)
            elif attempt.transaction.is_async:
                await self._end_together(attempt, result, seconds)
            else:  # a thread that it waited for has begun it
                ending = self._end_together(attempt, result, seconds)
                await asyncio.to_thread(run_blocking, ending)
        elif inspect.iscoroutine(value):
            value.close()
        self._ended.append(attempt)
        self._wake()

    def _run_in_thread(self, attempt: Attempt) -> None:
        started = time.monotonic()
        if not attempt.is_over:
            attempt.began_at = started
            try:
                assert attempt.plan.handler is not None
                context = attempt.context(self._lookup, self._transactions)
                entered = enter_step(context)
                traced = self._tracer and attempt.begin_span(self._tracer, context)
                try:
                    value = attempt.plan.handler.run(context)
                finally:
                    if traced:
                        StepSpan.leave(traced)
                    leave_step(entered)
                if inspect.isawaitable(value):
                    self._go_on_on_loop(attempt, value, context)
                    return
                result = result_from_return(value)
            except BaseException as error:  # likewise
                result = result_from_exception(error)
            seconds = time.monotonic() - started
            if attempt.transaction is None:
                self._end(attempt, result, seconds)
            else:
                run_blocking(self._end_together(attempt, result, seconds))
            attempt.plan.learn(time.monotonic() - started)
        self._ended.append(attempt)
        # more quick ones are coming: let their results go together
        if not self._told and (
            not self._threads.next_is_quick()
            or time.monotonic() - self._first_untold > PULSE_SECONDS / 2
        ):
            self._tell()

    def _go_on_on_loop(self, attempt: Attempt, value: Awaitable[Any], context: StepContext) -> None:
        """Await on the loop what a handler gave that did not look like an async one."""

        def go_on() -> None:
            own = contextvars.copy_context()
            own.run(enter_step, context)
            if attempt.span is not None:
                own.run(attempt.span.enter)
            self._loop.create_task(self._run_on_loop(attempt, value), context=own)

        try:
            self._loop.call_soon_threadsafe(go_on)
        except RuntimeError:  # the loop is closed, nobody waits for this result
            if inspect.iscoroutine(value):
                value.close()

    def _end(self, attempt: Attempt, result: StepHandlerResult, seconds: float) -> None:
        if attempt.span is not None:
            attempt.end_span(result)
        if attempt.is_over:
            return
        attempt.is_publishing = attempt.plan.is_durable
        attempt.is_over = True
        if not result.is_success:
            log_failure(attempt, result)
        finished = attempt.finished(result, seconds, self._max_result_bytes)
        if attempt.is_publishing and isinstance(finished, Ended):
            self._make_events(attempt, finished)
            return
        attempt.is_publishing = False
        if not self._finished:
            self._first_untold = time.monotonic()
        self._finished.append((attempt, finished))

    def _make_events(self, attempt: Attempt, ended: Ended) -> None:
        """Make its durable events before the result can be taken; until then it keeps its slot."""

        async def make() -> None:
            self._finished.append((attempt, await with_events(ended)))
            attempt.is_publishing = False
            if attempt.has_left:
                self._ended.append(attempt)
            self._wake()

        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(make()))

    async def _end_together(
        self, attempt: Attempt, result: StepHandlerResult, seconds: float
    ) -> None:
        """End an attempt that has written in a transaction of its own: record both, or neither."""

        def write(outcome: StepHandlerResult) -> Finished:
            if not outcome.success:
                log_failure(attempt, outcome)
            return attempt.finished(outcome, seconds, self._max_result_bytes)

        transaction = attempt.transaction
        assert transaction is not None
        try:
            if attempt.is_over or not result.success:
                await transaction.roll_back()
                self._end(attempt, result, seconds)
                return
            if attempt.span is not None:
                attempt.end_span(result)
            attempt.is_over = True  # from here on the database decides whether it comes too late
            attempt.asyncio_task = None
            success = write(result)
            if isinstance(success, Ended):
                make = with_events if transaction.is_async else _with_events_now
                success = await make(success)
            instead = await transaction.finish(success, write)
            if isinstance(instead, Ended) and instead.plan.is_durable:
                attempt.is_publishing = True
                self._make_events(attempt, instead)
            elif instead is not None:
                self._finished.append((attempt, instead))
        finally:
            attempt.transaction = None

    # --- telling the loop -------------------------------------------------------------

    def _tell(self) -> None:
        self._told = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits
            self._loop.call_soon_threadsafe(self._wake)

    def _ensure_pulse(self) -> None:
        if self._pulse is None:
            self._pulse = self._loop.call_later(PULSE_SECONDS, self._on_pulse)

    def _on_pulse(self) -> None:
        """While jobs are queued: see that no result and no job waits for a slow one.

        The queue is looked at first: a thread that sees it empty tells its results itself.
        """
        self._pulse = None
        if self._threads.push():
            self._ensure_pulse()
        if self._finished or self._ended:
            self._wake()

    def _check_deadlines(self) -> None:
        self._deadlines = None
        moment = time.monotonic()
        timed = [a for a in self.running.values() if a.plan.timeout and not a.is_over]
        for attempt in timed:
            limit = attempt.plan.timeout
            if limit and attempt.began_at is not None and moment - attempt.began_at > limit:
                self._end(attempt, _timed_out(limit), moment - attempt.began_at)
                self.drop(attempt)
                self._wake()
        if timed:
            self._deadlines = self._loop.call_later(DEADLINE_CHECK_SECONDS, self._check_deadlines)


async def _with_events_now(ended: Ended) -> Ended:
    """For a thread that has no loop."""
    return with_events_now(ended)


def _cannot_begin(attempt: Attempt) -> StepHandlerResult:
    problem = attempt.plan.problem or f"no handler for {attempt.plan.callable}"
    return StepHandlerResult.failure(problem, ErrorType.RETRYABLE_ERROR, retryable=True)


def _timed_out(limit: float) -> StepHandlerResult:
    return StepHandlerResult.failure(
        f"the handler did not end within {limit:g} seconds", ErrorType.TIMEOUT, retryable=True
    )
