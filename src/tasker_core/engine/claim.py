"""Hand ready steps to workers.

A task exists, some of its steps wait for nothing, and a worker asks for work. A claim
is a loan: it ends when the step finishes, or when the lease runs out and sweep takes
the step back. The rules are in claim.sql; to claim is to finish nothing, see finish.sql.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from tasker_core.db.connect import Connection


class Claim(NamedTuple):
    """One step on loan to one worker for one attempt. JSON is text, unparsed."""

    task_uuid: UUID
    step_no: int  # counted from 1 within the task
    attempt: int  # this execution, counted from 1; with the worker, what fences its result
    name: str
    template_step: str  # the step of the template that it is, or is an instance of
    template_uuid: UUID
    forgiven: int  # attempts before the last reset
    max_attempts: int
    enqueued_at: datetime
    claimed_at: datetime
    traceparent: str | None  # of what created the task: see tracing.py
    correlation_id: UUID
    parent_correlation_id: UUID | None
    context: str | None  # None: too large to send along, see `read_context`
    parent_results: str | None  # {"parent": result}; what is missing is read when asked for
    inputs: str | None
    checkpoint: str | None

    @property
    def waited(self) -> timedelta:
        """From ready to claimed."""
        return self.claimed_at - self.enqueued_at


WORK_COLUMNS = ", ".join(["kind", *Claim._fields, "due_in", "refusal"])
_CLAIM_COLUMNS = slice(1, 1 + len(Claim._fields))

_CLAIM = f"select {WORK_COLUMNS} from tasker.finish_steps(" + (
    "$1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', null, null, null, $2, $2, $3, $4)"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A result that came too late and changed nothing."""

    task_uuid: UUID
    step_no: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Work:
    """What a call for work brought."""

    claims: list[Claim]
    refusals: list[Refusal]
    due_in: timedelta | None  # until the next delayed step can run; None: there is none


@dataclass(frozen=True, slots=True)
class Lane:
    """What one namespace asks of one callable. Workers claim from lanes."""

    lane: int
    namespace: str
    callable: str
    method: str
    resolver: str | None
    is_awaited: bool = False  # a step is ready for it


async def list_lanes(conn: Connection, namespaces: Sequence[str] | None = None) -> list[Lane]:
    """List the lanes of these namespaces, or of all."""
    rows = await conn.fetch(
        "select lane, namespace, callable, method, nullif(resolver, '') as resolver, "
        "exists (select from tasker.ready as r where r.lane = lanes.lane) as is_awaited "
        "from tasker.lanes where $1::text[] is null or namespace = any ($1) order by lane",
        None if namespaces is None else list(namespaces),
    )
    return [Lane(**row) for row in rows]


async def claim_steps(
    conn: Connection,
    worker_uuid: UUID,
    *,
    lanes: Sequence[int],
    limit: int,
    lease: timedelta,
) -> Work:
    """Lease up to `limit` ready steps of these lanes; no claims means nothing is ready."""
    rows = await conn.fetch(_CLAIM, worker_uuid, lanes, limit, lease)
    return read_work(rows)


async def held_steps(conn: Connection, worker_uuid: UUID) -> list[Claim]:
    """List what is on loan to this worker, whether or not it ever heard of it."""
    rows = await conn.fetch(f"select {WORK_COLUMNS} from tasker.held_steps($1)", worker_uuid)
    return read_work(rows).claims


async def read_context(conn: Connection, task_uuid: UUID) -> str:
    """Read the context of a task, as JSON text."""
    text: str = await conn.fetchval(
        "select context from tasker.tasks where task_uuid = $1", task_uuid
    )
    return text


async def read_results(conn: Connection, task_uuid: UUID, names: Sequence[str]) -> dict[str, str]:
    """Read the results of steps by name, as JSON text; a step without one is left out."""
    rows = await conn.fetch(
        "select name, result from tasker.steps "
        "where task_uuid = $1 and name = any ($2) and result is not null",
        task_uuid,
        list(names),
    )
    return {row["name"]: row["result"] for row in rows}


async def read_batch_results(
    conn: Connection, task_uuid: UUID, workers: Sequence[str]
) -> dict[str, str]:
    """Read the results of all steps made from these batch workers, by name, as JSON text."""
    rows = await conn.fetch(
        "select name, result from tasker.steps where task_uuid = $1 "
        "and template_step = any ($2) and result is not null order by step_no",
        task_uuid,
        list(workers),
    )
    return {row["name"]: row["result"] for row in rows}


def read_work(rows: Iterable[Any]) -> Work:
    """Sort the rows of claim_steps and finish_steps by their kind."""
    work = Work([], [], None)
    due_in = None
    for row in rows:
        kind = row["kind"]
        if kind == "step":
            work.claims.append(Claim._make(row[_CLAIM_COLUMNS]))
        elif kind == "next":
            due_in = row["due_in"]
        else:
            work.refusals.append(
                Refusal(row["task_uuid"], row["step_no"], row["attempt"], row["refusal"])
            )
    return Work(work.claims, work.refusals, due_in)
