"""The floor, for any graph: the least durable work in PostgreSQL that could stand for the job.

As `benchmarks/floor.py`, which knows only steps in a row, with psycopg. PEERS_KIND says how many
steps a commit: `single`, one, or `batch`, up to a hundred. A commit settles steps, writes their
history, counts down their children, and takes what is ready. Nothing can be retried, no lease is
kept, nobody is woken: one workflow at a time runs in the process that submits it, and workers,
for the throughput, look every millisecond.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver
import psycopg
from bare_app import Submit, serve
from psycopg.errors import DeadlockDetected
from workloads import WORKLOADS, work

IDLE_SECONDS = 0.001
BATCH = {"single": 1, "batch": 100}
RESULT = '{"ok":true}'

_TABLES = """
create table edges (workload text, parent text, child text, primary key (workload, parent, child));
create table nodes (workload text, step text, parents int, primary key (workload, step));
create table steps (
    workflow int, step text, workload text not null, parents_left int not null,
    state text not null, result json, primary key (workflow, step)
) with (fillfactor = 70);
create index on steps (workflow) where state = 'ready';
create table history (
    workflow int, step text, finished_at timestamptz not null, primary key (workflow, step)
);
"""
_CREATE = (
    "insert into steps (workflow, step, workload, parents_left, state) "
    "select workflow, step, workload, parents, case parents when 0 then 'ready' else 'waiting' end "
    "from unnest(%s::int[]) as workflow, nodes where workload = %s"
)
_TAKE = (
    "update steps set state = 'running' where ctid = any (array("
    "select ctid from steps where state = 'ready' order by workflow limit %s "
    "for update skip locked)) returning workflow, step"
)
_SETTLE = """
with finished as (
    update steps set state = 'complete', result = %s
    from unnest(%s::int[], %s::text[]) as done (workflow, step)
    where steps.workflow = done.workflow and steps.step = done.step
    returning steps.workflow, steps.step, steps.workload
), recorded as (
    insert into history select workflow, step, clock_timestamp() from finished
), counted as (
    select workflow, child, count(*)::int as parents
    from finished join edges on edges.workload = finished.workload and parent = step
    group by workflow, child order by workflow, child
)
update steps set parents_left = parents_left - parents,
    state = case when parents_left = parents then 'ready' else 'waiting' end
from counted where steps.workflow = counted.workflow and steps.step = counted.child
"""


def connect() -> psycopg.Connection:
    """Connect, with the plans of a table that is full."""
    conn = psycopg.connect(os.environ["PEERS_URL"])
    for setting in ("seqscan", "hashjoin", "mergejoin"):
        conn.execute(f"set enable_{setting} = off")
    conn.commit()
    return conn


Steps = list[tuple[int, str]]


def take(conn: psycopg.Connection, batch: int) -> Steps:
    """Take ready steps, in a transaction of their own."""
    steps = conn.execute(_TAKE, [batch]).fetchall()
    conn.commit()
    return steps


def settle_and_take(conn: psycopg.Connection, steps: Steps, batch: int) -> Steps:
    """Run the steps; record them and take the next ones in one transaction."""
    for number, step in steps:
        work(number, step)
    while True:
        try:
            conn.execute(_SETTLE, [RESULT, [one[0] for one in steps], [one[1] for one in steps]])
            return take(conn, batch)
        except DeadlockDetected:  # two workers counted down the same joins
            conn.rollback()


class Floor(driver.Driver):
    """No more than must be."""

    def prepare(self, url: str, directory: str) -> None:
        """Make the tables."""
        os.environ["PEERS_URL"] = url
        self.batch = BATCH[os.environ["PEERS_KIND"]]
        self.conn = connect()
        self.conn.execute(_TABLES)
        for workload, graph in WORKLOADS.items():
            for step, parents in graph.items():
                self.conn.execute(
                    "insert into nodes values (%s, %s, %s)", [workload, step, len(parents)]
                )
                for parent in parents:
                    self.conn.execute(
                        "insert into edges values (%s, %s, %s)", [workload, parent, step]
                    )
        self.conn.commit()

    def latency(self, n: int, warm: int) -> dict[str, list[float]]:
        """Run workflows in this process, without a worker."""
        return {name: self.run_many(name, n, warm) for name in WORKLOADS}

    def run_one(self, workload: str, number: int) -> float:
        """Submit, and run what is ready until nothing is."""
        began = time.perf_counter()
        self.submit(workload, [number])
        steps = take(self.conn, self.batch)
        while steps:
            steps = settle_and_take(self.conn, steps, self.batch)
        return time.perf_counter() - began

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Insert all workflows in one statement."""
        self.conn.execute(_CREATE, [list(numbers), workload])
        self.conn.commit()

    def busy(self) -> bool:
        """Look for a step that is not complete."""
        return bool(self._value("select exists (select from steps where state <> 'complete')"))

    def complete(self) -> int:
        """Count the workflows of which nothing is left."""
        return int(
            self._value(
                "select count(*) from (select from steps group by workflow "
                "having bool_and(state = 'complete')) as complete"
            )
        )

    def close(self) -> None:
        """Stop the workers and disconnect."""
        super().close()
        self.conn.close()

    def _value(self, query: str) -> int:
        row = self.conn.execute(query).fetchone()
        self.conn.commit()
        assert row is not None
        return int(row[0])


def worker() -> None:
    """Take and settle until a signal comes."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    batch = BATCH[os.environ["PEERS_KIND"]]
    with connect() as conn:
        driver.ready()
        steps = take(conn, batch)
        while not stopping:
            if steps:
                steps = settle_and_take(conn, steps, batch)
            else:
                time.sleep(IDLE_SECONDS)
                steps = take(conn, batch)


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Submit on one of eight connections."""
    import asyncio

    conns: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
    for _ in range(8):
        conn = await psycopg.AsyncConnection.connect(os.environ["PEERS_URL"], autocommit=True)
        conns.put_nowait(conn)

    async def submit(number: int) -> None:
        conn = await conns.get()
        try:
            await conn.execute(_CREATE, [[number], "linear"])
        finally:
            conns.put_nowait(conn)

    yield submit
    while not conns.empty():
        await conns.get_nowait().close()


if __name__ == "__main__":
    driver.main(Floor, worker=worker, http=lambda port: serve(port, opened))
