"""Do claim, creation, latency and throughput stay the same when the tables are full?

    python benchmarks/full_tables.py [--rounds N] [--steps N ...] [--json]

Two databases on one server, each with a worker process of its own: one empty, one full.
Every round measures one after the other, so that the ratios hold on a noisy machine. The
full one has in turn so many finished steps of tasks of four, a hundred thousand tasks that
wait for a retry, and a thousand namespaces that the worker serves, with three tasks each that
wait for a retry, or in a queue that nobody has a handler for.

The rows of finished tasks are copies of really finished ones, with new ids.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
import uvloop

from benchmarks.chart import Panel, publish
from benchmarks.floor import STEPS
from benchmarks.harness import Answer, Bench, bench_database, console, worker_process
from benchmarks.linear import CONTEXT, latency, template
from tasker_core.db.migrate import upgrade
from tasker_core.engine.claim import claim_steps
from tasker_core.engine.create import NewTask, create_task, create_tasks
from tasker_core.engine.finish import Finished, finish_steps
from tasker_core.engine.ids import new_task_uuid, new_uuid
from tasker_core.engine.register import TemplateShelf

T = TypeVar("T")

HANDLER = "nothing_on_loop"
LEASE = timedelta(minutes=5)
COPIED = 500  # tasks that are really finished, then copied
RETRYING = 100_000
NOT_NOW = '{"message": "not now"}'
NAMESPACES = 1000
NOBODY = """
name: nobody
namespace_name: {namespace}
version: 1.0.0
identity_strategy: always_unique
steps: [{{name: one, handler: {{callable: nobody_has_this}}}}]
"""


# --- one database -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def worked_database(server: Bench, name: str) -> AsyncIterator[Bench]:
    """Give a database of its own on this server, with a worker that runs."""
    await server.conn.execute(f'create database "{name}"')
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    conn = await asyncpg.connect(url)
    await upgrade(conn)
    bench = Bench(url, conn, TemplateShelf())
    await bench.register(template(HANDLER))
    await bench.register(NOBODY.format(namespace="bench"))
    async with worker_process(url, concurrency=200):
        await latency(bench, HANDLER, 50)  # to warm up
        yield bench
    await conn.close()
    await server.conn.execute(f'drop database "{name}" with (force)')


async def lane_of(bench: Bench, callable_name: str) -> int:
    """Give the number of a lane of namespace `bench`."""
    lane: int = await bench.conn.fetchval(
        "select lane from tasker.lanes where namespace = 'bench' and callable = $1", callable_name
    )
    return lane


async def singles(bench: Bench, count: int) -> dict[str, float]:
    """Create, claim and finish steps one by one, without a worker; give the median ms of each.

    Nobody else claims from this lane.
    """
    worker, lane = new_uuid(), await lane_of(bench, "nobody_has_this")
    took: dict[str, list[float]] = {"create": [], "claim": [], "finish": []}
    new = NewTask(name="nobody", namespace="bench", context=CONTEXT)

    async def timed(verb: str, call: Awaitable[T]) -> T:
        began = time.perf_counter()
        value = await call
        took[verb].append(1000 * (time.perf_counter() - began))
        return value

    for _ in range(count):
        await timed("create", create_task(bench.conn, bench.shelf, new))
    for _ in range(count):
        work = await timed(
            "claim", claim_steps(bench.conn, worker, lanes=[lane], limit=1, lease=LEASE)
        )
        (claim,) = work.claims
        end = Finished(claim.task_uuid, claim.step_no, claim.attempt, "{}", None)
        await timed(
            "finish", finish_steps(bench.conn, worker, [end], lanes=[], limit=0, lease=LEASE)
        )
    return {verb: statistics.median(values) for verb, values in took.items()}


async def throughput(bench: Bench, tasks: int) -> float:
    """Queue tasks in one transaction; give the steps a second until all are complete."""
    lane = await lane_of(bench, HANDLER)
    new = NewTask(name=HANDLER, namespace="bench", context=CONTEXT)
    created = await create_tasks(bench.conn, bench.shelf, [new] * tasks)
    while await bench.conn.fetchval(
        "select exists (select from tasker.ready where lane = $1) "
        "or exists (select from tasker.leases)",
        lane,
    ):
        await asyncio.sleep(0.02)
    row = await bench.conn.fetchrow(
        "select extract(epoch from max(finished_at) - min(claimed_at)) as seconds, "
        "count(*) as attempts from tasker.attempts where task_uuid = any ($1)",
        [task.task_uuid for task in created],
    )
    assert row["attempts"] == tasks * STEPS, row
    return tasks * STEPS / float(row["seconds"])


# --- filling ----------------------------------------------------------------------------


async def copy_finished(bench: Bench, tasks: int) -> None:
    """Add so many finished tasks, by copying those of a first bulk."""
    conn = bench.conn
    await conn.execute(
        "create table if not exists public.originals as "
        "select task_uuid, row_number() over () as no from ("
        "select t.task_uuid from tasker.tasks as t join tasker.templates using (template_uuid) "
        f"where t.state = 'complete' and name = '{HANDLER}' order by 1 limit {COPIED}) as t"
    )
    originals = await conn.fetchval("select count(*) from public.originals")
    async with conn.transaction():
        await conn.execute("create temp table copies (no int, copy uuid) on commit drop")
        ids = sorted(new_task_uuid() for _ in range(tasks))
        records = [(place % originals + 1, copy) for place, copy in enumerate(ids)]
        await conn.copy_records_to_table("copies", records=records)
        for table in ("tasks", "steps", "attempts", "changes"):
            columns = await conn.fetchval(
                "select string_agg(column_name, ', ') from information_schema.columns "
                "where table_schema = 'tasker' and table_name = $1 "
                "and column_name <> 'task_uuid' and is_generated = 'NEVER'",
                table,
            )
            await conn.execute(
                f"insert into tasker.{table} (task_uuid, {columns}) "
                f"select copy, {columns} from copies "
                f"join public.originals using (no) join tasker.{table} using (task_uuid) "
                "order by copy"
            )
    await settle(bench)


async def add_retrying(bench: Bench) -> None:
    """Add tasks whose first step has failed and rests for an hour."""
    new = NewTask(name="nobody", namespace="bench", context=CONTEXT)
    for _ in range(RETRYING // 1000):
        await create_tasks(bench.conn, bench.shelf, [new] * 1000)
        await fail_all(bench)
    await settle(bench)


async def add_namespaces(bench: Bench) -> None:
    """Add namespaces that the worker serves, each with tasks that wait for a retry."""
    await add_queued_namespaces(bench)
    await fail_all(bench)
    await settle(bench)


async def add_queued_namespaces(bench: Bench) -> None:
    """Add namespaces that the worker serves, each with tasks that nobody has a handler for."""
    for number in range(NAMESPACES):
        namespace = f"space_{number:04}"
        served = template(HANDLER).replace("namespace_name: bench", f"namespace_name: {namespace}")
        await bench.register(served)
        await bench.register(NOBODY.format(namespace=namespace))
        await create_tasks(
            bench.conn, bench.shelf, [NewTask(name="nobody", namespace=namespace)] * 3
        )
    await settle(bench)
    while not await bench.conn.fetchval(  # the worker has heard of them
        "select exists (select from tasker.workers where cardinality(lanes) > $1)", NAMESPACES
    ):
        await asyncio.sleep(0.1)


async def fail_all(bench: Bench) -> None:
    """Claim what is queued for nobody, and fail it: it rests for an hour."""
    worker = new_uuid()
    lanes = [
        row["lane"]
        for row in await bench.conn.fetch(
            "select lane from tasker.lanes where callable = 'nobody_has_this'"
        )
    ]
    work = await claim_steps(bench.conn, worker, lanes=lanes, limit=10_000, lease=LEASE)
    ends = [
        Finished(c.task_uuid, c.step_no, c.attempt, None, NOT_NOW, rest=timedelta(hours=1))
        for c in work.claims
    ]
    await finish_steps(bench.conn, worker, ends, lanes=[], limit=0, lease=LEASE)


async def settle(bench: Bench) -> None:
    """Do what autovacuum would do by and by."""
    await bench.conn.execute("vacuum analyze")
    await bench.conn.execute("checkpoint")


async def empty(bench: Bench) -> None:
    """Take all tasks away."""
    await bench.conn.execute(
        "truncate tasker.tasks, tasker.steps, tasker.attempts, tasker.changes, tasker.ready, "
        "tasker.leases, tasker.delayed, tasker.watched"
    )
    await settle(bench)


# --- comparing --------------------------------------------------------------------------

UNITS = {
    "create": "ms",
    "claim": "ms",
    "finish": "ms",
    "latency": "ms",
    "throughput": "steps/s",
}


class Comparison:
    """The same figures on empty and on full tables, round by round."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.empty: dict[str, list[float]] = {what: [] for what in UNITS}
        self.full: dict[str, list[float]] = {what: [] for what in UNITS}

    async def measure(self, vacant: Bench, full: Bench, rounds: int, tasks: int) -> None:
        """Measure both in turn."""
        both = ((vacant, self.empty), (full, self.full))
        for bench, _ in both:
            await latency(bench, HANDLER, 50)  # whatever was planned or cached before
            await throughput(bench, 200)
        for number in range(1, rounds + 1):
            console.print(f"{self.label}, round {number} of {rounds} …")
            for bench, figures in both if number % 2 else reversed(both):
                for what, value in (await singles(bench, 100)).items():
                    figures[what].append(value)
                figures["latency"].append(await latency(bench, HANDLER, 100))
                figures["throughput"].append(await throughput(bench, tasks))

    def answers(self) -> list[Answer]:
        """Give a line a figure; what it is held against is the empty database."""
        return [
            Answer(
                f"{what}, {self.label}",
                *(self.full[what], unit, self.empty[what]),
                "≥ 0.83 × empty" if what == "throughput" else "≤ 1.2 × empty",
            )
            for what, unit in UNITS.items()
        ]

    def slowdown(self, what: str) -> float:
        """Say how many times slower it is than on empty tables."""
        full, vacant = statistics.median(self.full[what]), statistics.median(self.empty[what])
        return vacant / full if what == "throughput" else full / vacant


async def main(rounds: int, tasks: int, sizes: list[int], as_json: bool) -> None:
    """Measure and print."""
    comparisons: list[Comparison] = []
    async with bench_database(None) as server, worked_database(server, "vacant") as vacant:
        async with worked_database(server, "full") as full:
            await throughput(full, COPIED)
            filled = 0
            for steps in sizes:
                console.print(f"filling to {steps:,} finished steps …")
                await copy_finished(full, (steps - filled) // STEPS)
                filled = steps
                await empty(vacant)
                comparisons.append(Comparison(f"{steps:,} finished steps"))
                await comparisons[-1].measure(vacant, full, rounds, tasks)
        others: dict[str, Callable[[Bench], Awaitable[None]]] = {
            f"{RETRYING:,} wait for a retry": add_retrying,
            f"{NAMESPACES:,} namespaces": add_namespaces,
            f"{NAMESPACES:,} namespaces with queues": add_queued_namespaces,
        }
        for label, fill in others.items():
            async with worked_database(server, "full") as full:
                console.print(f"filling: {label} …")
                await fill(full)
                await empty(vacant)
                comparisons.append(Comparison(label))
                await comparisons[-1].measure(vacant, full, rounds, tasks)
    panel = Panel(
        title="full against empty tables",
        x_label="",
        y_label="times slower",
        x=[one.label for one in comparisons],
        series={what: [one.slowdown(what) for one in comparisons] for what in UNITS},
        goal=1.2,
    )
    answers = [answer for one in comparisons for answer in one.answers()]
    publish("full_tables", answers, [panel], as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000, help="tasks queued for the throughput")
    parser.add_argument("--steps", type=int, nargs="*", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.tasks, chosen.steps, chosen.json))
