"""Keep a loan, or give it back.

A step is on loan while its handler runs. The worker renews the loans of all its
running steps in one call; a worker that stops gives back what it has not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from tasker_core.db.connect import Connection


class Loan(Protocol):
    """What identifies one attempt: a claim, a finished attempt, …"""

    @property
    def task_uuid(self) -> UUID: ...
    @property
    def step_no(self) -> int: ...
    @property
    def attempt(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LostLoan:
    """A loan that ended behind its worker's back."""

    task_uuid: UUID
    step_no: int
    attempt: int


async def renew_leases(
    conn: Connection, worker_uuid: UUID, loans: Sequence[Loan], *, lease: timedelta
) -> list[LostLoan]:
    """Let these loans run `lease` longer from now; tell which have ended already."""
    rows = await conn.fetch(
        "select * from tasker.renew_leases($1, $2, $3, $4, $5)",
        worker_uuid,
        [loan.task_uuid for loan in loans],
        [loan.step_no for loan in loans],
        [loan.attempt for loan in loans],
        lease,
    )
    return [LostLoan(*row) for row in rows]


async def give_back(conn: Connection, worker_uuid: UUID, loans: Sequence[Loan]) -> None:
    """Return steps that have not begun: others may claim them, and no attempt is counted."""
    await conn.execute(
        "select tasker.give_back($1, $2, $3, $4)",
        worker_uuid,
        [loan.task_uuid for loan in loans],
        [loan.step_no for loan in loans],
        [loan.attempt for loan in loans],
    )


async def beat(
    conn: Connection,
    worker_uuid: UUID,
    *,
    host: str,
    pid: int,
    version: str,
    concurrency: int,
    lanes: Sequence[int],
) -> None:
    """Say that the worker is alive, and which lanes it can serve."""
    await conn.execute(
        "select tasker.beat($1, $2, $3, $4, $5, $6)",
        worker_uuid,
        host,
        pid,
        version,
        concurrency,
        lanes,
    )


async def forget_worker(conn: Connection, worker_uuid: UUID) -> None:
    """Strike a stopped worker from the list of those that are alive."""
    await conn.execute("delete from tasker.workers where worker_uuid = $1", worker_uuid)
