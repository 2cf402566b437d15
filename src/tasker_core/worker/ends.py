"""The ends of attempts on their way to the database: what they add, what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import asyncpg
import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.expand import plan_expansion
from tasker_core.engine.finish import Finished
from tasker_core.errors import InvalidExpansion
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.payload import encode
from tasker_core.worker.attempt import Ended
from tasker_core.worker.prepare import with_events

AnyEnd = TypeVar("AnyEnd", bound=Finished)

_log = structlog.get_logger("tasker.worker")

_UNACCEPTED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


async def expanded(conn: Connection, batch: Sequence[Finished]) -> Sequence[Finished]:
    """Plan what decisions and batches add; one that cannot be followed becomes a failure."""
    if not any(isinstance(one, Ended) and one.plan.expands for one in batch):
        return batch
    return [await _expanded(conn, one) for one in batch]


async def _expanded(conn: Connection, one: Finished) -> Finished:
    if not isinstance(one, Ended) or not one.plan.expands or one.result is None:
        return one
    template = one.plan.template
    assert template is not None
    step = template.step(one.plan.template_step)
    try:
        expansion = await plan_expansion(
            conn, template, step, one.task_uuid, one.outcome.result or {}, warn=one.plan.warn
        )
    except InvalidExpansion as error:
        return await with_events(_failure(one, str(error), _error_type(one)))
    return replace(one, expansion=expansion)


def is_unaccepted(error: asyncpg.PostgresError) -> bool:
    """Say whether the fault lies with a result, and not with the database or the connection."""
    return isinstance(error, _UNACCEPTED)


async def rejected(one: Finished, error: asyncpg.PostgresError) -> Finished:
    """Fail a step whose result the database does not accept; should it be for its events, these."""
    if one.events is not None:
        _log.error("events_not_published", task_uuid=str(one.task_uuid), reason=str(error))
        return replace(one, events=None)
    message = f"the database does not accept the result: {error}"
    if not isinstance(one, Ended):
        return _failure(one, message, "invalid_result")
    return await with_events(_failure(one, message, "invalid_result"))


def _error_type(one: Ended) -> str:
    template = one.plan.template
    assert template is not None
    is_decision = template.step(one.plan.template_step).type == "decision"
    return "decision_point_error" if is_decision else "batch_processing_error"


def _failure(one: AnyEnd, message: str, error_type: str) -> AnyEnd:
    facts = {"message": message, "error_type": error_type, "retryable": False}
    if isinstance(one, Ended):
        outcome = StepHandlerResult.failure(message, error_type, retryable=False)
        one = replace(one, outcome=outcome, will_retry=False, prepared=None)
    return replace(
        one,
        result=None,
        error=encode(facts),
        retryable=False,
        metadata=None,
        checkpoint=None,
        events=None,
    )
