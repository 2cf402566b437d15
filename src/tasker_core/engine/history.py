"""Follow what happens: the history of some tasks, and the changes of all.

A reader of one task counts its events: the history grows under the task's lock, so what
comes later stands later. A reader of all tasks keeps a snapshot of PostgreSQL's, which says
of every transaction whether it has been seen; see history.sql.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zlib import crc32

from tasker_core.db.connect import Connection
from tasker_core.payload import decode


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event of a task's history."""

    position: int  # among the events of the task, counted from 1
    step_no: int | None  # None: the task itself
    step: str | None
    attempt: int | None
    change_no: int | None
    from_state: str
    to_state: str
    moved_at: str
    action: str | None
    actor: str | None
    reason: str | None
    enqueued_at: str | None
    claimed_at: str | None
    due_at: str | None
    execution_ms: float | None
    worker_uuid: str | None
    error: dict[str, Any] | None

    @property
    def check(self) -> str:
        """What tells this event from another that should ever stand at its position."""
        said = f"{self.step_no} {self.attempt} {self.change_no} {self.to_state} {self.moved_at}"
        return f"{crc32(said.encode()):08x}"


@dataclass(frozen=True, slots=True)
class News:
    """What has happened to one task. `events` begins with the last one that was known."""

    task_uuid: UUID
    is_there: bool
    events: list[TaskEvent]


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A task was created (`change_no` 0) or its state has changed."""

    xid: int
    task_uuid: UUID
    change_no: int
    from_state: str | None
    to_state: str
    moved_at: datetime
    action: str
    actor: str | None
    reason: str | None
    namespace: str
    name: str
    version: str
    correlation_id: UUID


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions can be seen: all before `xmax` but those that were open."""

    xmin: int
    xmax: int
    open_xids: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read it as PostgreSQL writes it: `10:20:10,14`.

        Raises:
            ValueError: It is none.
        """
        if text.count(":") != 2:
            raise ValueError(f"{text!r} is no snapshot")
        xmin, xmax, xips = text.split(":")
        snapshot = cls(_xid(xmin), _xid(xmax), frozenset(map(_xid, filter(None, xips.split(",")))))
        if not 0 < snapshot.xmin <= snapshot.xmax or any(
            not snapshot.xmin <= xid < snapshot.xmax for xid in snapshot.open_xids
        ):
            raise ValueError(f"{text!r} is no snapshot")
        return snapshot

    def sees(self, xid: int) -> bool:
        """Say whether what this transaction did was there, if it was committed at all."""
        return xid < self.xmax and xid not in self.open_xids

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.open_xids)))}"


async def follow_tasks(
    conn: Connection, seen: Mapping[UUID, int], *, max_events: int = 1000
) -> list[News]:
    """Read what has happened to tasks after so many events of each.

    Args:
        seen: How many events of each task are known.
        max_events: Of each task; there may be more.

    Returns:
        The tasks with news, and those that are not there.
    """
    rows = await conn.fetch(
        "select * from tasker.follow_tasks($1, $2, $3)",
        list(seen),
        list(seen.values()),
        max_events,
    )
    return [
        News(
            row["task_uuid"], row["is_there"], [_event(one) for one in decode(row["events"]) or ()]
        )
        for row in rows
    ]


async def current_snapshot(conn: Connection) -> Snapshot:
    """Say which transactions can be seen now."""
    return Snapshot.parse(await conn.fetchval("select pg_current_snapshot()::text"))


async def task_changes(
    conn: Connection,
    after: Snapshot,
    until: Snapshot,
    *,
    last: tuple[datetime, UUID, int] | None = None,
    limit: int = 1000,
) -> Sequence[TaskChange]:
    """Read what has happened to tasks between two snapshots, in the order of time.

    Args:
        last: `moved_at`, `task_uuid` and `change_no` with which the page before ended.
    """
    rows = await conn.fetch(
        "select xid::text::bigint as xid, task_uuid, change_no, from_state, to_state, moved_at, "
        "action, actor, reason, namespace, name, version, correlation_id "
        "from tasker.task_changes($1::text::pg_snapshot, $2::text::pg_snapshot, $3, $4, $5, $6)",
        str(after),
        str(until),
        *(last or (None, None, None)),
        limit,
    )
    return [TaskChange(**row) for row in rows]


def _event(facts: dict[str, Any]) -> TaskEvent:
    facts["from_state"], facts["to_state"] = facts.pop("from"), facts.pop("to")
    return TaskEvent(**facts)


def _xid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(f"{text!r} is no transaction")
    return int(text)
