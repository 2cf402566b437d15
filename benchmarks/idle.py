"""What do workers that have nothing to do cost the database, and how large is one?

    python benchmarks/idle.py [--workers N] [--seconds N] [--json]

Two hundred workers run in this process, as an application starts them, each with its
three connections. Statements are counted where they are sent, by the driver; the rest is the
server's word. One worker runs in a process of its own besides, to see its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
import psutil
import structlog
import uvloop

from benchmarks import handlers
from benchmarks.chart import Panel, publish
from benchmarks.harness import Answer, Bench, bench_database, console, worker_process
from benchmarks.linear import STATISTICS_SECONDS, latency, template
from tasker_core.db.connect import Database
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.settings import Settings
from tasker_core.worker.loop import AsyncWorker

HANDLER = "nothing_on_loop"
CONNECTIONS_EACH = 3
AT_A_TIME = 10  # that start
MIB = 1024 * 1024


class CountedDatabase(Database):
    """Opens connections that count what is asked through them."""

    counts: ClassVar[Counter[str]] = Counter()

    async def connect(self, application_name: str) -> asyncpg.Connection[asyncpg.Record]:
        """Open one connection."""
        conn = await super().connect(application_name)
        conn.add_query_logger(lambda record: self.counts.update([_name(record.query)]))
        return conn


def _name(query: str) -> str:
    """Tell a statement by its function, else by its first words."""
    head, called, rest = query.partition("tasker.")
    return rest.partition("(")[0].split()[0] if called else " ".join(head.split()[:3]) or "select"


async def postmaster_pid(bench: Bench) -> int:
    """Find the server's first process."""
    line: str = await bench.conn.fetchval("select pg_read_file('postmaster.pid')")
    return int(line.split("\n", 1)[0])


def postgres_cpu(postmaster: psutil.Process) -> float:
    """Add up the CPU seconds of the server's processes."""
    seconds = 0.0
    for process in (postmaster, *postmaster.children(recursive=True)):
        try:
            seconds += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return seconds


async def load(bench: Bench, seconds: float) -> dict[str, float]:
    """Watch the database for so long; give what happened in a second."""
    postmaster = psutil.Process(await postmaster_pid(bench))
    await asyncio.sleep(STATISTICS_SECONDS)
    wal, commits = await bench.wal_and_commits()
    before = postgres_cpu(postmaster)
    CountedDatabase.counts.clear()
    await asyncio.sleep(seconds)
    statements = CountedDatabase.counts.total()
    cpu = postgres_cpu(postmaster) - before
    more_wal, more_commits = await bench.wal_and_commits()
    return {
        "statements": statements / seconds,
        "transactions": (more_commits - commits) / seconds,
        "wal": (more_wal - wal) / seconds,
        "cpu": 100 * cpu / seconds,
    }


async def memory(bench: Bench) -> tuple[float, float]:
    """Run one worker process; give its MiB when it has just begun, and after a little work."""
    async with worker_process(bench.url, concurrency=20) as worker:
        await asyncio.sleep(1)
        fresh = worker.memory_info().rss / MIB
        await latency(bench, HANDLER, 200)
        return fresh, worker.memory_info().rss / MIB


async def start_workers(bench: Bench, count: int) -> list[AsyncWorker]:
    """Start workers in this process, a few at a time."""
    registry = HandlerRegistry()
    registry.register(HANDLER, handlers.NothingOnLoop)
    settings = Settings(worker_concurrency=20)
    workers = [AsyncWorker(CountedDatabase(bench.url), settings, registry) for _ in range(count)]
    for first in range(0, count, AT_A_TIME):
        await asyncio.gather(*(one.start() for one in workers[first : first + AT_A_TIME]))
    return workers


async def main(count: int, seconds: float, rounds: int, as_json: bool) -> None:
    """Measure and print."""
    measured: dict[int, list[dict[str, float]]] = {}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with bench_database(None, connections=CONNECTIONS_EACH * count + 20) as bench:
        await bench.register(template(HANDLER))
        memories = [await memory(bench) for _ in range(rounds)]
        workers: list[AsyncWorker] = []
        try:
            for target in (0, count // 4, count // 2, count):
                workers += await start_workers(bench, target - len(workers))
                console.print(f"{target} workers are idle …")
                await asyncio.sleep(15)  # what all do at the start is over
                measured[target] = [await load(bench, seconds / rounds) for _ in range(rounds)]
            kinds = CountedDatabase.counts.most_common(6)
        finally:
            await asyncio.gather(*(one.stop() for one in workers))
    report(measured, memories, kinds, seconds / rounds, as_json)


def report(
    measured: dict[int, list[dict[str, float]]],
    memories: list[tuple[float, float]],
    kinds: list[tuple[str, int]],
    seconds: float,
    as_json: bool,
) -> None:
    """Print and keep what was measured."""
    units = {
        "statements": "a second",
        "transactions": "a second",
        "wal": "bytes/s",
        "cpu": "% of a core",
    }
    count = max(measured)
    answers = [
        Answer(f"{what}, {number} idle workers", [one[what] for one in rounds], unit)
        for number, rounds in measured.items()
        if number in (0, count)
        for what, unit in units.items()
    ]
    answers += [
        Answer(f"of these statements, {name}", [number / seconds], "a second")
        for name, number in kinds
    ]
    answers += [
        Answer("memory of a worker process", [fresh for fresh, _ in memories], "MiB", None, "≤ 90"),
        Answer("the same after 800 steps", [used for _, used in memories], "MiB"),
    ]
    panels = [
        Panel(
            title=what,
            x_label="idle workers",
            y_label=unit,
            x=list(measured),
            series={
                what: [statistics.median(r[what] for r in rounds) for rounds in measured.values()]
            },
        )
        for what, unit in units.items()
    ]
    publish("idle", answers, panels, as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=90, help="to watch each number of workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.workers, chosen.seconds, chosen.rounds, chosen.json))
