"""Where does the time of a step go?

    python benchmarks/where.py [--rounds N] [--tasks N] [--json]

Tasks of four steps in a row, handlers that do nothing on the loop; once 200 steps at a time
from a full queue, once one task after the other. Told apart, for a step: the processor time
of the worker, of its database backend and of the rest of the database, the time that the
backend waited for the log to be on disk, and how long the step took in all. Then, in runs of
their own because to ask takes time: what the functions of the engine take of the backend, and
the packages of the worker's Python. Last, what a finished step takes on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
import psutil
import uvloop

from benchmarks.floor import STEPS
from benchmarks.harness import Answer, Bench, bench_database, console, show, worker_process
from benchmarks.linear import CONTEXT, HANDLERS, STATISTICS_SECONDS, latency, template
from tasker_core.db.connect import Database
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.settings import Settings
from tasker_core.worker.loop import AsyncWorker
from tasker_core.worker.worker import load_handlers

HANDLER = HANDLERS["async"]
Run = Callable[[], Awaitable[None]]

WAITED = "select coalesce(sum(fsync_time), 0) from pg_stat_io where object = 'wal'"
SIZE = (
    "select sum(pg_total_relation_size('tasker.' || name)) / (select count(*) from tasker.steps) "
    "from unnest(array['tasks', 'steps', 'attempts', 'changes']) as t (name)"
)
FUNCTIONS = "select funcname, self_time from pg_stat_user_functions where self_time > 0"


async def queue(bench: Bench, tasks: int) -> None:
    """Queue tasks in one transaction, and wait until they are done."""
    new = [
        NewTask(name=HANDLER, namespace="bench", context={**CONTEXT, "order": number})
        for number in range(tasks)
    ]
    await create_tasks(bench.conn, bench.shelf, new)
    while await bench.conn.fetchval(
        "select exists (select from tasker.ready) or exists (select from tasker.leases)"
    ):
        await asyncio.sleep(0.02)


async def told_apart(
    bench: Bench, worker: psutil.Process, run: Run, steps: int
) -> dict[str, float]:
    """Do a run; give the µs of a step by who spent them."""
    rows = await bench.conn.fetch(
        "select pid from pg_stat_activity where application_name like 'tasker worker%'"
    )
    backends = [psutil.Process(row["pid"]) for row in rows]
    own = psutil.Process(bench.conn.get_server_pid())
    postmaster = own.parent()
    assert postmaster is not None
    everyone = [*postmaster.children(), postmaster]
    others = [one for one in everyone if one.pid not in {own.pid, *(b.pid for b in backends)}]

    async def spent() -> dict[str, float]:
        await asyncio.sleep(STATISTICS_SECONDS)
        return {
            "worker": _cpu([worker]),
            "database, for the worker": _cpu(backends),
            "database, log writer and others": _cpu(others),
            "waited for the disk": float(await bench.conn.fetchval(WAITED)) / 1000,
        }

    before = await spent()
    began = time.perf_counter()
    await run()
    took = {"in all": time.perf_counter() - began}
    after = await spent()
    took |= {name: after[name] - before[name] for name in before}
    return {name: seconds / steps * 1e6 for name, seconds in took.items()}


async def functions(bench: Bench, run: Run, steps: int) -> dict[str, float]:
    """Do a run; give the µs of a step by the function of the engine that took them."""
    await bench.conn.execute("select pg_stat_reset()")
    await run()
    await asyncio.sleep(STATISTICS_SECONDS)
    rows = await bench.conn.fetch(FUNCTIONS)
    return {row["funcname"]: row["self_time"] * 1000 / steps for row in rows}


async def packages(bench: Bench, tasks: int) -> dict[str, float]:
    """Do a run in this process; give the share of its Python by package, in percent."""
    registry = load_handlers(["benchmarks.handlers"])
    settings = Settings(worker_concurrency=200, database_url=bench.url)
    worker = AsyncWorker(Database(bench.url, None), settings, registry)
    profile = cProfile.Profile()
    await worker.start()
    profile.enable()
    await queue(bench, tasks)
    profile.disable()
    await worker.stop()
    found: defaultdict[str, float] = defaultdict(float)
    for (file, _, name), facts in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined] # not in its types
        found[_package(file, name)] += facts[2]
    total = sum(found.values())
    return {name: 100 * seconds / total for name, seconds in found.items()}


def _package(file: str, name: str) -> str:
    for mark in ("tasker_core/", "site-packages/"):
        if mark in file:
            parts = file.rpartition(mark)[2].split("/")
            return ".".join(["tasker_core", parts[0]]) if mark == "tasker_core/" else parts[0]
    for part in ("asyncpg", "orjson", "uvloop"):
        if part in name:
            return part
    return "built-in and standard library"


def _cpu(processes: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running()))


async def _set(conn: asyncpg.Connection, name: str, value: str) -> None:
    await conn.execute(f"alter system set {name} = '{value}'")
    await conn.execute("select pg_reload_conf()")


async def main(rounds: int, tasks: int, as_json: bool) -> None:
    """Measure and print."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    async with bench_database(None) as bench:
        await bench.register(template(HANDLER))
        await _set(bench.conn, "track_wal_io_timing", "on")

        async def bulk() -> None:
            await queue(bench, tasks)

        async def one_by_one() -> None:
            await latency(bench, HANDLER, 100)

        loads: dict[str, tuple[Run, int]] = {
            "200 at a time": (bulk, tasks * STEPS),
            "one task": (one_by_one, 100 * STEPS),
        }
        async with worker_process(bench.url, concurrency=200) as worker:
            await latency(bench, HANDLER, 50)  # to warm up
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds} …")
                for label, (run, steps) in loads.items():
                    for name, value in (await told_apart(bench, worker, run, steps)).items():
                        found[label, name].append(value)
            await _set(bench.conn, "track_functions", "all")
            for label, (run, steps) in loads.items():
                for name, value in (await functions(bench, run, steps)).items():
                    found[label, f"function {name}"].append(value)
            await _set(bench.conn, "track_functions", "none")
        shares = await packages(bench, tasks)
        size = float(await bench.conn.fetchval(SIZE))
    answers = [
        Answer(f"{label}: {name}", values, "µs/step")
        for (label, name), values in sorted(found.items(), key=_largest_first)
        if max(values) >= 0.5
    ]
    answers += [
        Answer(f"Python of the worker: {name}", [share], "%")
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
        if share >= 1
    ]
    answers.append(Answer("on disk, with the task's share and indexes", [size], "bytes/step"))
    show(answers, as_json=as_json)


def _largest_first(item: tuple[tuple[str, str], list[float]]) -> Any:
    (label, name), values = item
    return label, name.startswith("function"), -max(values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.tasks, chosen.json))
