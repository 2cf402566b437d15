"""Measure what waits in the database, and what keeps it from moving.

Reads only, and bounded: nothing is counted beyond `COUNTED` rows a lane, so that a scrape
of a full queue costs no more than one of a long one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from tasker_core.db.connect import Connection
from tasker_core.engine.inspect import WORKER_SEEN_WITHIN
from tasker_core.engine.relay import OutboxState, read_outbox_state

COUNTED = 100_000
NAMED_TRANSACTIONS = 10


@dataclass(frozen=True, slots=True)
class LaneGauge:
    """What waits for one callable of a namespace, and whether anybody can serve it."""

    namespace: str
    callable: str
    enqueued: int  # counted up to COUNTED; so are the others
    waiting_for_retry: int
    in_progress: int
    waited: timedelta | None  # of the one that has been enqueued for longest
    is_served: bool  # a live worker has the handler


@dataclass(frozen=True, slots=True)
class NamespaceGauge:
    """The same for a namespace."""

    namespace: str
    enqueued: int
    waiting_for_retry: int
    in_progress: int
    waited: timedelta | None
    starved: int  # enqueued, and no live worker has the handler


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """A transaction that keeps vacuum from clearing what claims leave behind."""

    pid: int | None  # None: prepared, and left behind by its session
    application_name: str
    state: str
    age: timedelta

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid is not None else "a prepared transaction"
        named = f" ({self.application_name})" if self.application_name else ""
        return f"{who}{named}, {self.state}, for {self.age.total_seconds():.0f} seconds"


@dataclass(frozen=True, slots=True)
class Gauges:
    """How the database is at one moment."""

    lanes: list[LaneGauge]
    workers: int  # alive
    slots: int  # steps that they run at a time
    overdue: timedelta  # what the sweep should have dealt with waits for so long; or nought
    dead_letters: int  # pending; counted up to COUNTED
    outbox: OutboxState

    @property
    def namespaces(self) -> list[NamespaceGauge]:
        """What waits, by namespace."""
        spaces: dict[str, list[LaneGauge]] = {}
        for lane in self.lanes:
            spaces.setdefault(lane.namespace, []).append(lane)
        return [total(name, lanes) for name, lanes in sorted(spaces.items())]

    @property
    def starved(self) -> list[LaneGauge]:
        """What is ready for handlers that no live worker has."""
        return [lane for lane in self.lanes if lane.enqueued and not lane.is_served]


def total(namespace: str, lanes: Iterable[LaneGauge]) -> NamespaceGauge:
    """Add lanes up, under a name."""
    lanes = list(lanes)
    return NamespaceGauge(
        namespace=namespace,
        enqueued=sum(lane.enqueued for lane in lanes),
        waiting_for_retry=sum(lane.waiting_for_retry for lane in lanes),
        in_progress=sum(lane.in_progress for lane in lanes),
        waited=max((lane.waited for lane in lanes if lane.waited is not None), default=None),
        starved=sum(lane.enqueued for lane in lanes if not lane.is_served),
    )


async def read_gauges(conn: Connection) -> Gauges:
    """Measure everything; a few index scans, and one of the leases."""
    lanes = await conn.fetch(_LANES, COUNTED, WORKER_SEEN_WITHIN)
    row = await conn.fetchrow(_WHOLE, COUNTED, WORKER_SEEN_WITHIN)
    assert row is not None
    return Gauges(
        lanes=[LaneGauge(**lane) for lane in lanes],
        outbox=await read_outbox_state(conn),
        **row,
    )


async def list_long_transactions(
    conn: Connection, *, longer_than: timedelta
) -> list[LongTransaction]:
    """List the transactions that hold back vacuum for longer than that, the oldest first.

    Those of other roles show only to a role that is a member of pg_read_all_stats.
    """
    rows = await conn.fetch(_TRANSACTIONS, longer_than, NAMED_TRANSACTIONS)
    return [LongTransaction(**row) for row in rows]


async def list_lost_settings(conn: Connection) -> list[str]:
    """Say which settings of PostgreSQL are not as this schema and its promises want them."""
    rows = await conn.fetch(_LOST_SETTINGS)
    return [row["found"] for row in rows]


_LANES = """
with running as (select lane, count(*) as total from tasker.leases group by lane),
resting as (
    select lane, count(*) as total
    from (select d.lane from tasker.delayed as d limit $1) as counted group by lane
)
select
    lane.namespace, lane.callable,
    waiting.total as enqueued,
    coalesce(resting.total, 0) as waiting_for_retry,
    coalesce(running.total, 0) as in_progress,
    greatest(tasker.now() - waiting.oldest_at, interval '0') as waited,
    exists (
        select from tasker.workers as worker
        where worker.seen_at > tasker.now() - $2::interval and lane.lane = any (worker.lanes)
    ) as is_served
from tasker.lanes as lane
cross join lateral (
    select count(*) as total, min(counted.enqueued_at) as oldest_at
    from (
        select r.enqueued_at from tasker.ready as r
        where r.lane = lane.lane order by r.rank, r.task_uuid limit $1
    ) as counted
) as waiting
left join running using (lane)
left join resting using (lane)
order by lane.lane
"""

_WHOLE = """
select
    (select count(*) from tasker.workers as w where w.seen_at > tasker.now() - $2::interval)
        as workers,
    (
        select coalesce(sum(w.concurrency), 0)::int from tasker.workers as w
        where w.seen_at > tasker.now() - $2::interval
    ) as slots,
    greatest(
        interval '0',
        tasker.now() - (select min(ends_at) from tasker.leases),
        tasker.now() - (select min(due_at) from tasker.delayed),
        tasker.now() - (select min(look_at) from tasker.watched)
    ) as overdue,
    (
        select count(*) from (
            select from tasker.dlq_entries where resolution_status = 'pending' limit $1
        ) as counted
    ) as dead_letters
"""

# backend_xmin: a snapshot that vacuum has to respect; a transaction that has none holds nothing
_TRANSACTIONS = """
select pid, application_name, state, age from (
    select
        own.pid, coalesce(own.application_name, '') as application_name,
        coalesce(own.state, own.backend_type) as state,
        clock_timestamp() - own.xact_start as age
    from pg_stat_activity as own
    where own.datname = current_database() and own.pid <> pg_backend_pid()
        and (own.backend_xmin is not null or own.backend_xid is not null)
        and own.backend_type <> 'autovacuum worker'
    union all
    select null, left(prepared.gid, 63), 'prepared', clock_timestamp() - prepared.prepared
    from pg_prepared_xacts as prepared where prepared.database = current_database()
) as held
where age > $1::interval order by age desc limit $2
"""

_LOST_SETTINGS = """
select format(
    'table tasker.%s has lost its autovacuum settings: it grows, and claims become slower',
    own.relname
) as found
from pg_class as own
where own.relnamespace = 'tasker'::regnamespace
    and own.relname in ('ready', 'delayed', 'leases', 'outbox')
    and not coalesce(own.reloptions @> array['autovacuum_vacuum_threshold=2000'], false)
union all
select format('%s is %s: %s', now.name, now.setting, wanted.why)
from (
    values
    ('fsync', 'a crash of the machine may corrupt the database'),
    ('full_page_writes', 'a crash of the machine may corrupt the database'),
    ('synchronous_commit', 'a crash may lose what was answered in its last moments'),
    ('autovacuum', 'tables only grow, and claims become slower'),
    ('track_activities', 'nobody sees which transaction holds back vacuum')
) as wanted (name, why)
join pg_settings as now using (name)
where now.setting = 'off'
"""
