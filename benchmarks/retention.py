"""How long does it take to delete finished tasks of four steps, and what does a pass cost
that finds nothing to delete?

    python benchmarks/retention.py [--tasks N] [--json] [--database-url URL]

PostgreSQL runs with fsync and synchronous commits, on this machine; the tasks are created
and finished through the engine, then deleted as the server and the workers do it, without
the pauses between the batches.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.harness import Answer, Bench, bench_database, console, show
from benchmarks.linear import CONTEXT, template
from tasker_core.engine.claim import claim_steps, list_lanes
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.engine.finish import Finished, finish_steps
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.retention import BATCH_TASKS, prune_tasks

AT_ONCE = 500
OLD = timedelta(0)
LEASE = timedelta(minutes=5)


async def create(bench: Bench, tasks: int) -> None:
    """Create tasks in bulk."""
    new = NewTask(name="nothing_on_loop", namespace="bench", context=CONTEXT)
    for _ in range(tasks // AT_ONCE):
        await create_tasks(bench.conn, bench.shelf, [new] * AT_ONCE)


async def finish(bench: Bench) -> None:
    """Do what a worker does, without handlers."""
    worker = new_uuid()
    lanes = [lane.lane for lane in await list_lanes(bench.conn)]
    work = await claim_steps(bench.conn, worker, lanes=lanes, limit=AT_ONCE, lease=LEASE)
    while work.claims:
        ends = [Finished(c.task_uuid, c.step_no, c.attempt, "{}", None) for c in work.claims]
        work = await finish_steps(bench.conn, worker, ends, lanes=lanes, limit=AT_ONCE, lease=LEASE)


async def prune(bench: Bench) -> tuple[int, list[float]]:
    """Go through one pass; give how many tasks left, and the milliseconds of each batch."""
    took: list[float] = []
    count, reached = 0, None
    while not took or reached is not None:
        began = time.perf_counter()
        batch = await prune_tasks(bench.conn, older_than=OLD, after=reached)
        took.append(1000 * (time.perf_counter() - began))
        count, reached = count + batch.count, batch.reached
    return count, took


async def measure(tasks: int, url: str | None) -> list[Answer]:
    """Fill the tables, empty them, and pass over what lives on."""
    async with bench_database(url) as bench:
        await bench.register(template("nothing_on_loop"))
        console.print(f"creating and finishing {tasks:,} tasks …")
        await create(bench, tasks)
        await finish(bench)
        await create(bench, tasks)  # these live on
        console.print("deleting …")
        wal_before, _ = await bench.wal_and_commits()
        count, took = await prune(bench)
        wal_after, _ = await bench.wal_and_commits()
        assert count == tasks, f"{count:,} of {tasks:,} tasks left"
        _, idle = await prune(bench)
    return [
        Answer(f"{tasks:,} tasks deleted", [sum(took) / 1000], "s"),
        Answer("one batch of 500 tasks", took[: tasks // BATCH_TASKS], "ms"),
        Answer("write-ahead log a task", [(wal_after - wal_before) / count], "bytes"),
        Answer(f"a pass over {tasks:,} tasks that live on", [sum(idle) / 1000], "s"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--database-url")
    given = parser.parse_args()
    show(uvloop.run(measure(given.tasks, given.database_url)), as_json=given.json)


if __name__ == "__main__":
    main()
