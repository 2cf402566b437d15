"""What may be wrong, looked at one by one: for health pages and `tasker-ctl doctor`.

A check says None, or in a sentence what is wrong; what that is worth is in `GRADES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Literal

from tasker_core.db import migrate
from tasker_core.db.connect import Connection
from tasker_core.observe.gauges import Reading

Grade = Literal["degraded", "unhealthy"]

EVENTS_WAIT_AT_MOST = timedelta(seconds=60)
SWEEP_LAGS_AT_MOST = timedelta(seconds=60)
TRANSACTION_LASTS_AT_MOST = timedelta(seconds=60)

# What each is worth when it finds something: only unhealthy keeps a server from being ready.
GRADES: Mapping[str, Grade] = {
    "database": "unhealthy",
    "schema": "unhealthy",
    "workers": "degraded",
    "sweep": "degraded",
    "events": "degraded",
    "transactions": "degraded",
}


async def schema(conn: Connection) -> str | None:
    """Whether the schema is this program's."""
    now = await migrate.status(conn)
    if now.current:
        return None
    return f"the schema is at version {now.found}, this program needs {now.wanted}"


def workers(reading: Reading) -> str | None:
    """Whether live workers have the handlers of what is ready."""
    return _sentence(
        f"{lane.enqueued} ready steps of namespace {lane.namespace} wait for handler "
        f"{lane.callable}, which no live worker has"
        for lane in reading.gauges.starved
    )


def sweep(reading: Reading) -> str | None:
    """Whether what was dropped is taken back in time."""
    overdue = reading.gauges.overdue
    if overdue <= SWEEP_LAGS_AT_MOST:
        return None
    return (
        f"an expired lease, a due retry or a due look at a task has waited for "
        f"{overdue.total_seconds():.0f} seconds: is a server or a worker running that sweeps?"
    )


def events(reading: Reading) -> str | None:
    """Whether durable events find their consumers."""
    state = reading.gauges.outbox
    found = []
    if state.waited is not None and state.waited > EVENTS_WAIT_AT_MOST:
        by_whom = "the relay does not get rid of them" if state.is_relayed else "nobody relays them"
        found.append(
            f"{state.waiting} durable events wait, the oldest for "
            f"{state.waited.total_seconds():.0f} seconds, and {by_whom}"
        )
    if state.failed:
        found.append(f"{state.failed} events were put aside: tasker-ctl events list")
    return _sentence(found)


def transactions(reading: Reading) -> str | None:
    """Whether somebody's long transaction keeps vacuum from the hot tables."""
    found = _sentence(str(one) for one in reading.held if one.age > TRANSACTION_LASTS_AT_MOST)
    return found and f"vacuum cannot clear ready and leases, claims become slower: {found}"


# Those that a reading answers.
OF_READING: Mapping[str, Callable[[Reading], str | None]] = {
    "workers": workers,
    "sweep": sweep,
    "events": events,
    "transactions": transactions,
}


def _sentence(parts: Iterable[str]) -> str | None:
    return "; ".join(parts) or None
