"""One attempt in this process: a claimed step, and what becomes of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from tasker_core.engine.claim import Claim
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import step_uuid
from tasker_core.errors import NotStorable, TransactionMisuse
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.result import MAX_MESSAGE, StepHandlerResult, result_from_exception
from tasker_core.payload import decode, encode, storable_text
from tasker_core.tracing import StepSpan
from tasker_core.worker.lookup import EarlierResults, Lookup
from tasker_core.worker.plan import StepPlan
from tasker_core.worker.results import ResultMisfit

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from tasker_core.handlers.events.publish import PreparedEvent
    from tasker_core.worker.transaction import OpenTransaction, Transactions

AttemptKey = tuple[UUID, int, int]
DEFAULT_VERSION = "1.0.0"  # of a handler whose author does not say: not worth storing
KEPT_CURSORS = 100
KEPT_CHECKPOINT = 32_000  # characters, its history included
_LARGE = ("cursor", "accumulated_results")

_log = structlog.get_logger("tasker.worker")


@dataclass(slots=True, eq=False)
class Attempt:
    """A step on loan to this worker, queued, running, or over."""

    claim: Claim
    plan: StepPlan
    claimed_at: float  # time.monotonic(), when the claim was sent: the lease began later
    began_at: float | None = None  # likewise; None: waits for its turn
    is_over: bool = False  # its result is decided: a later one is dropped
    asyncio_task: asyncio.Task[None] | None = None  # of an async handler that has begun
    seen: StepContext | None = None  # what the handler saw, if its events are to be published
    transactions: Transactions | None = None  # how it may begin one; None: it has not begun
    transaction: OpenTransaction | None = None  # its own, until its end is recorded
    is_publishing: bool = False  # its code has ended, and its durable events are being made
    has_left: bool = False  # its slot could be free, but for that
    span: StepSpan | None = None  # if anybody traces

    @property
    def key(self) -> AttemptKey:
        """What tells attempts apart."""
        return (self.claim.task_uuid, self.claim.step_no, self.claim.attempt)

    @property
    def task_uuid(self) -> UUID:
        """The task."""
        return self.claim.task_uuid

    @property
    def step_no(self) -> int:
        """The step's number in the task."""
        return self.claim.step_no

    @property
    def attempt(self) -> int:
        """The execution, counted from 1."""
        return self.claim.attempt

    @property
    def namespace(self) -> str | None:
        """Its task's; None when the template cannot be read."""
        return self.plan.template.namespace if self.plan.template is not None else None

    @property
    def is_at_work(self) -> bool:
        """Whether its result is still to be decided, or recorded in its own transaction."""
        return not self.is_over or self.transaction is not None

    def context(self, lookup: Lookup, transactions: Transactions) -> StepContext:
        """Make what the handler sees; nothing is parsed before it looks."""
        self.transactions = transactions
        claim, plan = self.claim, self.plan
        template = plan.template
        assert template is not None
        context = StepContext.of_attempt(
            task_uuid=claim.task_uuid,
            step_uuid=step_uuid(claim.task_uuid, claim.step_no),
            correlation_id=claim.correlation_id,
            handler_name=plan.handler.name if plan.handler else plan.callable,
            step_name=claim.name,
            task_name=template.name,
            task_version=template.version,
            namespace=template.namespace,
            attempt=claim.attempt - claim.forgiven,
            max_attempts=claim.max_attempts,
            results=EarlierResults(lookup, claim, plan),
            input_text=claim.context
            if claim.context is not None
            else lookup.context(claim.task_uuid),
            config_text=plan.config_text,
            inputs_text=claim.inputs,
            checkpoint_text=claim.checkpoint,
            host=self,
        )
        context._loan = self
        if plan.events:
            self.seen = context
        return context

    def begin_span(self, tracer: Tracer, context: StepContext) -> Any:
        """Begin its span, as the current one; give what `leave_span` wants."""
        claim = self.claim
        self.span = StepSpan(
            tracer,
            claim.traceparent,
            {
                "tasker.task_uuid": str(claim.task_uuid),
                "tasker.step_uuid": str(context.step_uuid),
                "tasker.step_name": claim.name,
                "tasker.namespace": context.namespace,
                "tasker.template": self.plan.template.label if self.plan.template else "",
                "tasker.correlation_id": str(claim.correlation_id),
                "tasker.attempt": claim.attempt,
            },
        )
        return self.span.enter()

    def end_span(self, result: StepHandlerResult) -> None:
        """End its span, unless it has ended."""
        span, self.span = self.span, None
        if span is not None:
            outcome = "complete" if result.success else "failed"
            problem = None if result.success else str(result.error_type or "handler_error")
            span.end(outcome, problem, counts=not self.is_over)

    async def open_transaction(self, engine: Any, *, is_async: bool) -> Any:
        """Begin the attempt's own transaction; give its connection.

        Raises:
            TransactionMisuse: It has one already, or is over.
        """
        if self.is_over or self.transactions is None:
            raise TransactionMisuse(
                "the attempt is over: its lease, its time or its task has ended"
            )
        if self.transaction is not None:
            raise TransactionMisuse(
                "an attempt has one transaction: do all that belongs together in one block of "
                "context.transaction(), and hand its connection on"
            )
        self.transaction = self.transactions.open(self, engine, is_async=is_async)
        try:
            return await self.transaction.begin()
        except BaseException:
            self.transaction = None
            raise

    async def leave_transaction(self, *, failed: bool) -> None:
        """Leave the transaction open for the result; or roll it back, and there may be another."""
        if failed and self.transaction is not None:
            await self.transaction.roll_back()
            self.transaction = None

    def finished(self, result: StepHandlerResult, seconds: float, max_bytes: int) -> Finished:
        """Write down how the attempt ended; a result that cannot be stored is a failure."""
        try:
            ended = self._write(result, seconds, max_bytes)
        except NotStorable as error:
            result = _invalid_result(str(error), error.pointer)
            ended = self._failure(result, seconds)
        except ResultMisfit as misfit:
            result = misfit.failure
            ended = self._failure(result, seconds)
        except Exception as error:  # whatever an application's object does when it is read
            message = result_from_exception(error).error_message or ""
            result = _invalid_result(f"{type(error).__name__}: {message}", "")
            ended = self._failure(result, seconds)
        if self.plan.expands or (self.plan.events and self.seen is not None):
            return Ended.of(ended, self, result)
        return ended

    def _write(self, result: StepHandlerResult, seconds: float, max_bytes: int) -> Finished:
        if not result.is_success:
            return self._failure(result, seconds)
        claim = self.claim
        checkpoint = result.checkpoint if result.metadata else None
        if checkpoint is not None:
            return Finished(
                claim.task_uuid,
                claim.step_no,
                claim.attempt,
                None,
                None,
                checkpoint=encode(_checkpoint(checkpoint, claim.checkpoint), max_bytes=max_bytes),
                namespace=self.namespace,
            )
        text = encode(result.result or {}, max_bytes=max_bytes)
        if self.plan.result_check is not None:
            self.plan.result_check(text)
        return Finished(
            claim.task_uuid,
            claim.step_no,
            claim.attempt,
            text,
            None,
            metadata=self._metadata(result.metadata, claim.checkpoint),
            execution_ms=seconds * 1000,
            namespace=self.namespace,
        )

    def _failure(self, result: StepHandlerResult, seconds: float) -> Finished:
        claim = self.claim
        facts = dict(result.metadata)
        traceback = facts.pop("traceback", None)
        message = str(result.error_message or "the handler gave no message")
        if len(message) > MAX_MESSAGE:
            message = message[:MAX_MESSAGE] + " …"
        error = {
            "message": storable_text(message),
            "error_type": storable_text(str(result.error_type or "handler_error")),
            "error_code": storable_text(result.error_code) if result.error_code else None,
            "retryable": result.retryable,
            "traceback": storable_text(traceback) if isinstance(traceback, str) else None,
        }
        try:
            metadata = self._metadata(facts)
        except NotStorable as reason:
            metadata = self._metadata({"metadata_left_out": storable_text(str(reason))})
        rest = result.retry_after_seconds
        return Finished(
            claim.task_uuid,
            claim.step_no,
            claim.attempt,
            None,
            encode({key: value for key, value in error.items() if value is not None}),
            retryable=result.retryable,
            rest=None if rest is None else timedelta(seconds=min(rest, 86_400)),
            metadata=metadata,
            execution_ms=seconds * 1000,
            namespace=self.namespace,
        )

    def _metadata(self, custom: dict[str, Any], checkpoint: str | None = None) -> str | None:
        facts: dict[str, Any] = {}
        if checkpoint is not None:
            facts["checkpoint"] = _last_checkpoint(checkpoint)
        handler = self.plan.handler
        if handler is not None and handler.version not in ("", DEFAULT_VERSION):
            facts["handler_version"] = handler.version
        if custom:
            facts["custom"] = custom
        if not facts:
            return None
        try:
            return encode(facts)
        except NotStorable as error:
            pointer = error.pointer.removeprefix("/custom")
            raise NotStorable("/metadata" + pointer, error.reason) from None


def log_failure(attempt: Attempt, result: StepHandlerResult) -> None:
    """Tell whoever reads the logs that a handler failed, and where in its code."""
    claim, template = attempt.claim, attempt.plan.template
    traceback = result.metadata.get("traceback")
    places = re.findall(r'File "(.+)", line (\d+), in (.+)', str(traceback or ""))
    _log.warning(
        "step_failed",
        step=claim.name,
        template=template.label if template else str(claim.template_uuid),
        attempt=f"{claim.attempt - claim.forgiven}/{claim.max_attempts}",
        error_type=result.error_type,
        error_code=result.error_code,
        error=result.error_message,
        where="{}:{} in {}".format(*places[-1]) if places else None,
        task_uuid=str(claim.task_uuid),
    )
    if traceback:
        _log.debug("step_traceback", traceback=traceback)


@dataclass(slots=True, kw_only=True)
class Ended(Finished):
    """The end of an attempt of which more is to be said than what is recorded."""

    plan: StepPlan
    outcome: StepHandlerResult
    context: StepContext | None  # what the handler saw, if its step publishes events
    will_retry: bool
    prepared: Sequence[PreparedEvent] | None = None  # its events, if durable ones are among them

    @classmethod
    def of(cls, finished: Finished, attempt: Attempt, outcome: StepHandlerResult) -> Ended:
        """Add what the worker needs for steps that expand the task or publish events."""
        facts = {field.name: getattr(finished, field.name) for field in fields(Finished)}
        claim = attempt.claim
        has_attempts_left = claim.attempt - claim.forgiven < claim.max_attempts
        return cls(
            **facts,
            plan=attempt.plan,
            outcome=outcome,
            context=attempt.seen,
            will_retry=not outcome.success and outcome.retryable and has_attempts_left,
        )


def _checkpoint(new: dict[str, Any], before: str | None) -> dict[str, Any]:
    """Write a checkpoint with the history of its cursors, the last hundred."""
    moment = datetime.now(UTC).isoformat()
    history = (decode(before) or {}).get("history", [])
    history.append({"cursor": new["cursor"], "timestamp": moment})
    return {**new, "timestamp": moment, "history": history[-KEPT_CURSORS:]}


def _last_checkpoint(text: str) -> dict[str, Any]:
    """Give what is kept of the last checkpoint of a step that is complete."""
    dropped = {"history"} if len(text) <= KEPT_CHECKPOINT else {"history", *_LARGE}
    return {key: value for key, value in decode(text).items() if key not in dropped}


def _invalid_result(problem: str, pointer: str) -> StepHandlerResult:
    return StepHandlerResult.failure(
        f"the result cannot be stored: {problem}",
        "invalid_result",
        retryable=False,
        metadata={"path": storable_text(pointer)},
    )
