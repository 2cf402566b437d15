"""Report the tasks that do not move.

A task over a limit of its template is ended, or put aside, by the sweep: see
staleness.sql. The report is of all living tasks, with or without limits, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.states import TaskState


@dataclass(frozen=True, slots=True)
class StalenessRecord:
    """How close one living task is to being stale."""

    task_uuid: UUID
    namespace: str
    name: str
    state: TaskState
    priority: int
    created_at: datetime
    entered_at: datetime  # into its state
    idle_since: datetime | None  # from when its time counts; None: it is moving
    ends_at: datetime | None  # when it is over its template's longest duration
    state_limit: timedelta
    health: Literal["healthy", "warning", "stale"]
    missing_handlers: list[str]  # callables of ready steps that no live worker has
    seen_at: datetime  # when this was looked up, by the database's clock


async def list_staleness(
    conn: Connection,
    *,
    limit: int,
    default_limit: timedelta,
    namespaces: Sequence[str] | None = None,
) -> list[StalenessRecord]:
    """List living tasks, those that are stale first, then the longest in their state.

    At most the thousand oldest living tasks are looked at.

    Args:
        conn: A connection.
        limit: How many to list.
        default_limit: How long a task may be idle if its template does not say.
        namespaces: Only tasks of these; None is of all.
    """
    rows = await conn.fetch(
        "select * from tasker.list_staleness($1, $2, $3)", limit, default_limit, namespaces
    )
    return [StalenessRecord(**{**row, "state": TaskState(row["state"])}) for row in rows]
