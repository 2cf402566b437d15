"""How long does a task of four steps in a row take, and how many steps a second can one
worker do?

    python benchmarks/linear.py [--rounds N] [--json] [--database-url URL]

Everything runs on this machine: PostgreSQL with fsync and synchronous commits, one
worker process, and this script. Each round measures the floor (see floor.py) beside the
engine, so the ratios hold on a noisy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
import psutil
import uvloop

from benchmarks.floor import STEPS, Floor
from benchmarks.harness import Answer, Bench, bench_database, console, show, worker_process
from tasker_core.engine.create import NewTask, create_task, create_tasks

CONTEXT = {"order": 1, "items": [{"sku": "A-1", "quantity": 2}]}
STATISTICS_SECONDS = 1.2  # after which the server's statistics are up to date
HANDLERS = {"threads": "nothing_in_thread", "async": "nothing_on_loop"}


def template(handler: str) -> str:
    """Write the template: four steps, each after the one before."""
    steps = "".join(
        f"  - name: step_{no}\n"
        f"    handler: {{callable: {handler}}}\n"
        f"    dependencies: [{f'step_{no - 1}' if no > 1 else ''}]\n"
        for no in range(1, STEPS + 1)
    )
    return (
        f"name: {handler}\nnamespace_name: bench\nversion: 1.0.0\n"
        f"identity_strategy: always_unique\nsteps:\n{steps}"
    )


async def latency(bench: Bench, handler: str, tasks: int) -> float:
    """Create one task after the other; give the median milliseconds until complete.

    Who asks all the time takes the processor from those who work: the first look is
    shortly before the task is likely to be done.
    """
    took: list[float] = []
    for _ in range(tasks):
        began = time.perf_counter()
        new = NewTask(name=handler, namespace="bench", context=CONTEXT)
        created = await create_task(bench.conn, bench.shelf, new)
        if took:
            likely = 0.85 * statistics.median(took[-9:])
            await asyncio.sleep(likely - (time.perf_counter() - began))
        while not await bench.conn.fetchval(
            "select state = 'complete' from tasker.tasks where task_uuid = $1", created.task_uuid
        ):
            await asyncio.sleep(0.0003)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


class Load:
    """What a bulk of tasks cost: filled in round by round."""

    def __init__(self) -> None:
        self.created: list[float] = []  # steps a second
        self.finished: list[float] = []  # steps a second
        self.cpu: list[float] = []  # µs of the worker a step
        self.commits: list[float] = []  # a step
        self.wal: list[float] = []  # bytes a step, creation included

    async def measure(self, bench: Bench, worker: psutil.Process, handler: str, tasks: int) -> None:
        """Queue tasks in one transaction; wait until the worker has done them all."""
        steps = tasks * STEPS
        new = [
            NewTask(name=handler, namespace="bench", context={**CONTEXT, "order": no})
            for no in range(tasks)
        ]
        watcher = await asyncpg.connect(bench.url)
        await asyncio.sleep(STATISTICS_SECONDS)
        wal, commits = await bench.wal_and_commits()
        cpu = sum(worker.cpu_times()[:2])
        began = time.perf_counter()
        created = await create_tasks(bench.conn, bench.shelf, new)
        self.created.append(steps / (time.perf_counter() - began))
        ids = [task.task_uuid for task in created]
        while await watcher.fetchval(
            "select exists (select from tasker.ready) or exists (select from tasker.leases)"
        ):
            await asyncio.sleep(0.02)
        await watcher.close()
        self.cpu.append((sum(worker.cpu_times()[:2]) - cpu) / steps * 1e6)
        row = await bench.conn.fetchrow(
            "select extract(epoch from max(finished_at) - min(claimed_at)) as seconds, "
            "count(*) as attempts from tasker.attempts where task_uuid = any ($1)",
            ids,
        )
        assert row["attempts"] == steps, row
        self.finished.append(steps / float(row["seconds"]))
        await asyncio.sleep(STATISTICS_SECONDS)
        more_wal, more_commits = await bench.wal_and_commits()
        self.wal.append((more_wal - wal) / steps)
        self.commits.append((more_commits - commits) / steps)


async def main(rounds: int, tasks: int, url: str | None, as_json: bool) -> None:
    """Measure and print."""
    floor_latency: list[float] = []
    floor_throughput: list[float] = []
    latencies: dict[str, list[float]] = {kind: [] for kind in HANDLERS}
    loads = {(kind, room): Load() for room in (200, 20) for kind in HANDLERS}
    async with bench_database(url) as bench:
        floor = Floor(bench.conn)
        await floor.prepare()
        for handler in HANDLERS.values():
            await bench.register(template(handler))
        for room in (20, 200):
            async with worker_process(bench.url, concurrency=room) as worker:
                for handler in HANDLERS.values():
                    await latency(bench, handler, 50)  # to warm up
                for number in range(1, rounds + 1 if room == 20 else 1):
                    console.print(f"latency, round {number} of {rounds} …")
                    took = [await floor.latency() for _ in range(100)]
                    floor_latency.append(statistics.median(took) * 1000)
                    for kind, handler in HANDLERS.items():
                        latencies[kind].append(await latency(bench, handler, 100))
                for number in range(1, rounds + 1):
                    console.print(f"{room} at a time, round {number} of {rounds} …")
                    floor_throughput.append(await floor.throughput(tasks))
                    for kind, handler in HANDLERS.items():
                        await loads[kind, room].measure(bench, worker, handler, tasks)
    answers = [
        Answer(f"latency, {kind}", latencies[kind], "ms", floor_latency, "≤ 2 × floor, ≤ 7.3")
        for kind in HANDLERS
    ]
    for (kind, room), load in loads.items():
        goal = "≥ 10,000, ≥ 0.6 × floor" if room == 200 else ""
        label = f"{kind}, {room} at a time"
        answers += [
            Answer(f"throughput, {label}", load.finished, "steps/s", floor_throughput, goal),
            Answer(f"worker CPU, {label}", load.cpu, "µs/step", None, "≤ 40"),
            Answer(f"commits, {label}", load.commits, "a step", None, "≤ 0.05"),
            Answer(f"WAL, {label}", load.wal, "bytes/step", None, "≤ 1,500 + payload"),
        ]
    created = [value for load in loads.values() for value in load.created]
    answers.append(Answer("creation in bulk", created, "steps/s", None, "≥ 10,000"))
    show(answers, as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000, help="tasks queued for the throughput")
    parser.add_argument("--database-url", help="an empty database; an embedded one if left out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.tasks, chosen.database_url, chosen.json))
