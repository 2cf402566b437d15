"""Record results, wake the steps that waited for them, and claim the next ones.

A handler has returned. What it said is stored, its children are released, the task
completes, blocks or goes on, and the worker gets its next steps: one call, one
commit, however many results it carries. The rules are in finish.sql.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.claim import WORK_COLUMNS, Work, read_work

T = TypeVar("T")

GROWN = "TK001"  # the task has moved on since the expansion was planned: plan again

_FINISH = f"select {WORK_COLUMNS} from tasker.finish_steps(" + (
    "$1, $2, $3, $4, $5::json[], $6::json[], $7, $8, $9::json[], $10, $11::json[], $12::json[], "
    "$13::json[], $14, $15, $16, $17)"
)


@dataclass(slots=True)  # not frozen: that takes three times as long to make
class Finished:
    """How an attempt ended; never changed. JSON is text that payload.encode made."""

    task_uuid: UUID
    step_no: int
    attempt: int
    result: str | None  # of a success
    error: str | None  # of a failure: {"message", "error_type", "error_code", "retryable", …}
    retryable: bool = True  # whether a failure may be tried again
    rest: timedelta | None = None  # asked for by the handler; None: as the policy says
    metadata: str | None = None
    execution_ms: float | None = None  # in the handler
    expansion: str | None = None  # what a decision or a batch adds: see expand.plan_expansion
    checkpoint: str | None = None  # the attempt is not over: the step goes on from here
    events: str | None = None  # that it may publish: see outbox.sql
    namespace: str | None = None  # of its task, if that is known


async def finish_steps(
    conn: Connection,
    worker_uuid: UUID,
    finished: Sequence[Finished],
    *,
    lanes: Sequence[int],
    limit: int,
    lease: timedelta,
    looked_lanes: Sequence[int] | None = None,
) -> Work:
    """Record these results and claim up to `limit` more steps, in one transaction.

    Of `lanes`, which the worker can serve, only `looked_lanes` are looked at for steps that
    wait already; None looks at all of them. Of the others, those in the namespaces of the
    results are enough: steps that these release go from hand to hand.

    The call may be repeated when its commit is unknown: a result that is recorded
    already counts as done. A result whose lease had ended is refused, which changes
    nothing else.

    Raises:
        asyncpg.PostgresError: With sqlstate GROWN when an expansion does not fit the task
            any more; nothing is recorded then.

    Returns:
        The claims, the refusals, and the time until the next delayed step is due.
    """
    # in one order for everybody, so that two calls never wait for each other in a ring
    ordered = sorted(finished, key=_order)
    rows = await conn.fetch(
        _FINISH,
        worker_uuid,
        [one.task_uuid for one in ordered],
        [one.step_no for one in ordered],
        [one.attempt for one in ordered],
        [one.result for one in ordered],
        _sparse([one.error for one in ordered]),
        [one.retryable for one in ordered] if any(one.error for one in ordered) else None,
        _sparse([one.rest for one in ordered]),
        _sparse([one.metadata for one in ordered]),
        [one.execution_ms for one in ordered],
        _sparse([one.expansion for one in ordered]),
        _sparse([one.checkpoint for one in ordered]),
        _sparse([one.events for one in ordered]),
        lanes,
        lanes if looked_lanes is None else looked_lanes,
        limit,
        lease,
    )
    return read_work(rows)


def _order(one: Finished) -> tuple[bytes, int]:
    return one.task_uuid.bytes, one.step_no


def _sparse(values: list[T | None]) -> list[T | None] | None:
    """Most calls carry none of these: neither driver nor database then looks."""
    return values if any(value is not None for value in values) else None
