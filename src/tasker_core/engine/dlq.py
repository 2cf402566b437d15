"""Put tasks aside for a person, and keep the books of what became of them.

An entry is an investigation: why a task was put aside, what it looked like then, and
how that was resolved. To make, resolve or reopen one never changes the task; that is
what `operate` is for. The rules are in dlq.sql.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.errors import (
    DlqEntryPending,
    InvalidRequest,
    NotStorable,
    TransitionRefused,
    UnknownDlqEntry,
    UnknownTask,
)
from tasker_core.payload import decode, encode
from tasker_core.states import DlqReason, DlqStatus, TaskState

MAX_METADATA_BYTES = 65_536  # of an entry, whatever adds to it; dlq.sql has it, too


@dataclass(frozen=True, slots=True)
class DlqEntry:
    """One investigation. `snapshot` is as `snapshot_task` in dlq.sql describes."""

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState
    dlq_reason: DlqReason
    entered_at: datetime
    updated_at: datetime
    resolution_status: DlqStatus
    resolved_at: datetime | None
    resolution_notes: str | None
    resolved_by: str | None
    snapshot: dict[str, Any]
    metadata: dict[str, Any] | None
    task_state: TaskState | None  # now; None: there is no such task any more


@dataclass(frozen=True, slots=True, kw_only=True)
class DlqFilter:
    """Which entries to list. None means any."""

    status: DlqStatus | None = None
    reason: DlqReason | None = None
    namespace: str | None = None
    task_uuid: UUID | None = None
    namespaces: Sequence[str] | None = None  # and one of these


@dataclass(frozen=True, slots=True)
class DlqStats:
    """The entries of one reason, counted. The average is over the resolved ones."""

    dlq_reason: DlqReason
    total_entries: int
    pending: int
    manually_resolved: int
    permanently_failed: int
    cancelled: int
    oldest_entry: datetime
    newest_entry: datetime
    average_resolution: timedelta | None


@dataclass(frozen=True, slots=True)
class Investigation:
    """One pending entry, with how urgent it is and where its task stands now."""

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState
    dlq_reason: DlqReason
    entered_at: datetime
    in_dlq: timedelta
    namespace: str | None
    name: str | None
    seconds_in_state: float | None  # before it was put aside, if time was the reason
    priority_score: float
    task_state: TaskState | None  # now; None: there is no such task any more
    is_repaired: bool  # the task goes on by an operator's hand, or has ended well


PRIORITY_WEIGHTS = {
    DlqReason.DEPENDENCY_CYCLE_DETECTED: 1000,
    DlqReason.MAX_RETRIES_EXCEEDED: 500,
    DlqReason.STALENESS_TIMEOUT: 100,
    DlqReason.WORKER_UNAVAILABLE: 50,
    DlqReason.MANUAL_DLQ: 10,
}

_ENTRIES = """
select entry.dlq_entry_uuid, task_uuid, entry.original_state, entry.dlq_reason,
    entry.entered_at, entry.updated_at, entry.resolution_status, entry.resolved_at,
    entry.resolution_notes, entry.resolved_by, entry.snapshot, entry.metadata,
    task.state as task_state
from tasker.dlq_entries as entry
left join tasker.tasks as task using (task_uuid)
"""

_FILTERED = """
where ($1::text is null or entry.resolution_status = $1)
and ($2::text is null or entry.dlq_reason = $2)
and ($3::text is null or entry.snapshot -> 'task' ->> 'namespace' = $3)
and ($4::uuid is null or entry.task_uuid = $4)
and ($5::text[] is null or entry.snapshot -> 'task' ->> 'namespace' = any ($5))
"""

# To repair a task is to act on it after it was put aside; one that an operator put aside as it
# went on is not repaired by going on.
_REPAIRED = """
case
    when task.state is null then true
    when task.state in ('error', 'blocked_by_failures') then false
    when entry.dlq_reason <> 'manual_dlq'
        and task.state in ('complete', 'resolved_manually', 'cancelled') then true
    else exists (
        select from tasker.changes as change
        where change.task_uuid = entry.task_uuid
            and change.action in ('cancel', 'reset', 'resolve', 'complete')
            and change.changed_at >= entry.entered_at
    )
end
"""


async def list_entries(
    conn: Connection,
    wanted: DlqFilter,
    *,
    limit: int,
    offset: int = 0,
    after: UUID | None = None,
) -> list[DlqEntry]:
    """List entries, the youngest first.

    Args:
        conn: A connection.
        wanted: Which.
        limit: How many.
        offset: How many to skip.
        after: The last one of the page before; its id tells when it was made.
    """
    rows = await conn.fetch(
        f"{_ENTRIES} {_FILTERED} and ($8::uuid is null or entry.dlq_entry_uuid < $8) "
        "order by entry.dlq_entry_uuid desc limit $6 offset $7",
        *_arguments(wanted),
        limit,
        offset,
        after,
    )
    return [_entry(row) for row in rows]


async def count_entries(conn: Connection, wanted: DlqFilter) -> int:
    """Count the entries that `list_entries` would list."""
    total: int = await conn.fetchval(
        f"select count(*) from tasker.dlq_entries as entry {_FILTERED}", *_arguments(wanted)
    )
    return total


async def get_entry(conn: Connection, dlq_entry_uuid: UUID) -> DlqEntry:
    """Read one entry.

    Raises:
        UnknownDlqEntry: There is none.
    """
    row = await conn.fetchrow(f"{_ENTRIES} where entry.dlq_entry_uuid = $1", dlq_entry_uuid)
    if row is None:
        raise UnknownDlqEntry(dlq_entry_uuid=dlq_entry_uuid)
    return _entry(row)


async def find_entry(conn: Connection, uuid: UUID) -> DlqEntry:
    """Read the entry of this id; or that of the task of this id, the pending one if there is one.

    Raises:
        UnknownDlqEntry: There is neither.
    """
    row = await conn.fetchrow(
        f"{_ENTRIES} where entry.dlq_entry_uuid = $1 or entry.task_uuid = $1 "
        "order by entry.resolution_status <> 'pending', entry.dlq_entry_uuid desc limit 1",
        uuid,
    )
    if row is None:
        raise UnknownDlqEntry(uuid=uuid)
    return _entry(row)


async def add_entry(
    conn: Connection,
    task_uuid: UUID,
    *,
    actor: str,
    reason: str,
    metadata: dict[str, Any] | None = None,
) -> UUID:
    """Put a task aside on an operator's word; give the id of the entry.

    Raises:
        UnknownTask: There is no such task.
        DlqEntryPending: It has a pending entry already.
        NotStorable: The metadata cannot be stored, or is longer than 64 kB.
    """
    row = await conn.fetchrow(
        "select * from tasker.add_dlq_entry($1, $2, $3, $4)",
        task_uuid,
        actor,
        reason,
        _json(metadata),
    )
    assert row is not None
    if row["refused_by"] == "task":
        raise UnknownTask(task_uuid)
    if row["refused_by"] == "entry":
        raise DlqEntryPending(task_uuid, row["entry_uuid"])
    entry_uuid: UUID = row["entry_uuid"]
    return entry_uuid


async def update_entry(
    conn: Connection,
    dlq_entry_uuid: UUID,
    *,
    status: DlqStatus | None = None,
    notes: str | None = None,
    actor: str | None = None,
    metadata: dict[str, Any] | None = None,
    reopen: bool = False,
) -> DlqEntry:
    """Write into an entry: what is None stays, metadata is added to what is there.

    Args:
        conn: A connection.
        dlq_entry_uuid: The entry.
        status: How it is resolved. A pending entry is resolved once.
        notes: What was found.
        actor: Who resolved it.
        metadata: Facts to keep with it.
        reopen: Make a resolved entry pending again; no time and no name stay then.

    Raises:
        UnknownDlqEntry: There is none.
        TransitionRefused: It is resolved already, or pending if it is to be reopened.
        DlqEntryPending: It is to be reopened, and its task has another pending one.
        InvalidRequest: It is to be reopened and resolved at once.
        NotStorable: The metadata cannot be stored, or comes to more than 64 kB with what is
            there.
    """
    if reopen and status not in (None, DlqStatus.PENDING):
        raise InvalidRequest("resolution_status", str(status), "pending, or absent, with reopen")
    row = await conn.fetchrow(
        "select * from tasker.update_dlq_entry($1, $2, $3, $4, $5, $6)",
        dlq_entry_uuid,
        status,
        notes,
        actor,
        _json(metadata),
        reopen,
    )
    assert row is not None
    entry = await get_entry(conn, dlq_entry_uuid)
    if row["refused_by"] == "task":
        pending = DlqFilter(status=DlqStatus.PENDING, task_uuid=entry.task_uuid)
        (other,) = await list_entries(conn, pending, limit=1)
        raise DlqEntryPending(entry.task_uuid, other.dlq_entry_uuid)
    if row["refused_by"] == "metadata":
        problem = f"comes to more than {MAX_METADATA_BYTES:,} bytes with what is there"
        raise NotStorable("", problem)
    if row["refused_by"] is not None:
        action = "reopen" if reopen else "resolve"
        advice = "" if row["status"] == DlqStatus.PENDING else "reopen it first"
        raise TransitionRefused("dead letter", dlq_entry_uuid, row["status"], action, advice)
    return entry


async def dlq_stats(conn: Connection, *, namespaces: Sequence[str] | None = None) -> list[DlqStats]:
    """Count the entries by reason, the most frequent first.

    Args:
        conn: A connection.
        namespaces: Only of tasks of these; None is of all.
    """
    rows = await conn.fetch(
        "select dlq_reason, count(*)::int as total_entries, "
        "count(*) filter (where resolution_status = 'pending')::int as pending, "
        "count(*) filter (where resolution_status = 'manually_resolved')::int "
        "  as manually_resolved, "
        "count(*) filter (where resolution_status = 'permanently_failed')::int "
        "  as permanently_failed, "
        "count(*) filter (where resolution_status = 'cancelled')::int as cancelled, "
        "min(entered_at) as oldest_entry, max(entered_at) as newest_entry, "
        "avg(resolved_at - entered_at) as average_resolution "
        "from tasker.dlq_entries "
        "where $1::text[] is null or snapshot -> 'task' ->> 'namespace' = any ($1) "
        "group by dlq_reason order by total_entries desc, dlq_reason",
        namespaces,
    )
    return [DlqStats(**{**row, "dlq_reason": DlqReason(row["dlq_reason"])}) for row in rows]


async def investigation_queue(
    conn: Connection, *, limit: int, namespaces: Sequence[str] | None = None
) -> list[Investigation]:
    """List the pending entries, the most urgent first, those of repaired tasks last.

    The score is the weight of the reason (`PRIORITY_WEIGHTS`) plus the minutes since the
    entry was made.

    Args:
        conn: A connection.
        limit: How many.
        namespaces: Only of tasks of these; None is of all.
    """
    rows = await conn.fetch(
        "select entry.dlq_entry_uuid, task_uuid, entry.original_state, entry.dlq_reason, "
        "entry.entered_at, tasker.now() - entry.entered_at as in_dlq, "
        "entry.snapshot -> 'task' ->> 'namespace' as namespace, "
        "entry.snapshot -> 'task' ->> 'name' as name, "
        "(entry.metadata ->> 'seconds')::float8 as seconds_in_state, "
        "weight.points + extract(epoch from tasker.now() - entry.entered_at)::float8 / 60 "
        "  as priority_score, "
        f"task.state as task_state, {_REPAIRED} as is_repaired "
        "from tasker.dlq_entries as entry "
        "join unnest($1::text[], $2::int[]) as weight (reason, points) "
        "  on weight.reason = entry.dlq_reason "
        "left join tasker.tasks as task using (task_uuid) "
        "where entry.resolution_status = 'pending' "
        "and ($4::text[] is null or entry.snapshot -> 'task' ->> 'namespace' = any ($4)) "
        "order by is_repaired, priority_score desc, entry.dlq_entry_uuid limit $3",
        list(PRIORITY_WEIGHTS),
        list(PRIORITY_WEIGHTS.values()),
        limit,
        namespaces,
    )
    return [_investigation(row) for row in rows]


def _arguments(wanted: DlqFilter) -> tuple[object, ...]:
    return (wanted.status, wanted.reason, wanted.namespace, wanted.task_uuid, wanted.namespaces)


def _json(metadata: dict[str, Any] | None) -> str | None:
    return None if metadata is None else encode(metadata, max_bytes=MAX_METADATA_BYTES)


def _entry(row: Any) -> DlqEntry:
    facts = dict(row)
    facts["original_state"] = TaskState(facts["original_state"])
    facts["dlq_reason"] = DlqReason(facts["dlq_reason"])
    facts["resolution_status"] = DlqStatus(facts["resolution_status"])
    if facts["task_state"] is not None:
        facts["task_state"] = TaskState(facts["task_state"])
    facts["snapshot"] = decode(facts["snapshot"])
    facts["metadata"] = decode(facts["metadata"])
    return DlqEntry(**facts)


def _investigation(row: Any) -> Investigation:
    facts = dict(row)
    facts["original_state"] = TaskState(facts["original_state"])
    facts["dlq_reason"] = DlqReason(facts["dlq_reason"])
    if facts["task_state"] is not None:
        facts["task_state"] = TaskState(facts["task_state"])
    return Investigation(**facts)
