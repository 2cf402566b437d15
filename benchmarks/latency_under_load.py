"""How long does a step that is ready wait for a worker that has other work, too?

    python benchmarks/latency_under_load.py [--rounds N] [--seconds S] [--json]

Tasks of four steps arrive on their own account (open loop): at random moments, at 25, 50 and
75 % of the rate that one worker and this script can do at most, whether or not those before
them are done. Those that arrived since the last look, 5 ms ago, are created in one transaction.
The maximum is measured just before each round: as many such transactions as can be, one after
the other, until all of their tasks are complete.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.floor import STEPS
from benchmarks.harness import Answer, Bench, bench_database, console, show, worker_process
from benchmarks.linear import CONTEXT, template
from tasker_core.engine.create import NewTask, create_tasks

HANDLER = "nothing_on_loop"
LOOK_SECONDS = 0.005
TOGETHER = 50  # tasks a transaction, where the maximum is measured
SHARES = (0.25, 0.5, 0.75)
CONCURRENCY = 200

_WAITS = """
select percentile_cont(array[0.5, 0.99]) within group (
    order by extract(epoch from claimed_at - enqueued_at) * 1000
) from tasker.attempts
where task_uuid = any ($1) and (not $2 or step_no = (
    select min(step_no) from tasker.steps where steps.task_uuid = attempts.task_uuid
))
"""
_TASKS = """
select percentile_cont(array[0.5, 0.99]) within group (
    order by extract(epoch from completed_at - created_at) * 1000
) from tasker.tasks where task_uuid = any ($1)
"""


async def create(bench: Bench, tasks: int) -> list[UUID]:
    """Create tasks in one transaction."""
    new = [NewTask(name=HANDLER, namespace="bench", context=CONTEXT)] * tasks
    return [created.task_uuid for created in await create_tasks(bench.conn, bench.shelf, new)]


async def drained(bench: Bench, ids: list[UUID]) -> None:
    """Wait until the tasks are complete."""
    while await bench.conn.fetchval(
        "select exists (select from tasker.tasks where task_uuid = any ($1) "
        "and state <> 'complete')",
        ids,
    ):
        await asyncio.sleep(0.02)


async def maximum(bench: Bench, tasks: int) -> float:
    """Give the tasks a second, creation included, that are done at most."""
    began = time.perf_counter()
    ids: list[UUID] = []
    for _ in range(tasks // TOGETHER):
        ids += await create(bench, TOGETHER)
    await drained(bench, ids)
    return len(ids) / (time.perf_counter() - began)


async def arrive(bench: Bench, rate: float, seconds: float) -> tuple[list[UUID], list[float]]:
    """Let tasks arrive; give them, and by how many milliseconds each was created late."""
    ids: list[UUID] = []
    late: list[float] = []
    began = time.perf_counter()
    arrival = random.expovariate(rate)
    while arrival < seconds:
        now = time.perf_counter() - began
        arrived = []
        while arrival < min(now, seconds):
            arrived.append(arrival)
            arrival += random.expovariate(rate)
        if arrived:
            ids += await create(bench, len(arrived))
            there = time.perf_counter() - began
            late += [(there - moment) * 1000 for moment in arrived]
        await asyncio.sleep(max(0.0, now + LOOK_SECONDS - (time.perf_counter() - began)))
    await drained(bench, ids)
    return ids, sorted(late)


async def main(rounds: int, seconds: float, as_json: bool) -> None:
    """Measure and print."""
    rates: list[float] = []
    found: dict[str, list[float]] = {}
    async with bench_database(None) as bench:
        await bench.register(template(HANDLER))
        async with worker_process(bench.url, concurrency=CONCURRENCY):
            await maximum(bench, 500)  # to warm up
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds} …")
                rates.append(await maximum(bench, 3000))
                for share in SHARES:
                    ids, late = await arrive(bench, share * rates[-1], seconds)
                    await bench.conn.execute("analyze tasker.attempts, tasker.tasks")
                    lines = {
                        "ready to claimed, first steps": await bench.conn.fetchval(
                            _WAITS, ids, True
                        ),
                        "ready to claimed, all steps": await bench.conn.fetchval(
                            _WAITS, ids, False
                        ),
                        "task, created to complete": await bench.conn.fetchval(_TASKS, ids),
                        "arrival to created": [late[len(late) // 2], late[len(late) * 99 // 100]],
                    }
                    for what, (p50, p99) in lines.items():
                        load = f"{share:.0%} load, {what}"
                        found.setdefault(f"{load}, p50", []).append(float(p50))
                        found.setdefault(f"{load}, p99", []).append(float(p99))
    answers = [Answer("most", [rate * STEPS for rate in rates], "steps/s")]
    answers += [Answer(what, values, "ms") for what, values in found.items()]
    show(answers, as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long tasks arrive")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.seconds, chosen.json))
