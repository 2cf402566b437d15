"""How many steps a second do one, two, three and four worker processes do together?

    python benchmarks/processes.py [--rounds N] [--tasks N] [--json] [--database-url URL]

Tasks of four steps in a row, queued in one transaction; handlers that do nothing, in
threads, so that each process is kept busy by its own Python. Database, workers and this
script share the machine: more processes than it has cores only share them otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.chart import Panel, publish
from benchmarks.harness import Answer, Bench, bench_database, console, worker_process
from benchmarks.linear import Load, latency, template

HANDLER = "nothing_in_thread"
COUNTS = (1, 2, 3, 4)
ROOM = 200  # steps at a time in each process


async def measure(bench: Bench, count: int, rounds: int, tasks: int) -> Load:
    """Run the bulk with so many worker processes."""
    load = Load()
    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker_process(bench.url, concurrency=ROOM))
            for _ in range(count)
        ]
        await latency(bench, HANDLER, 50)  # to warm up
        await Load().measure(bench, workers[0], HANDLER, tasks // 2)
        for number in range(1, rounds + 1):
            console.print(f"{count} processes, round {number} of {rounds} …")
            await load.measure(bench, workers[0], HANDLER, tasks)
    return load


async def main(rounds: int, tasks: int, url: str | None, as_json: bool) -> None:
    """Measure and print."""
    async with bench_database(url) as bench:
        await bench.register(template(HANDLER))
        loads = {count: await measure(bench, count, rounds, tasks) for count in COUNTS}
    answers: list[Answer] = []
    for count, load in loads.items():
        label = f"{count} process{'es' if count > 1 else ''}"
        answers.append(Answer(f"throughput, {label}", load.finished, "steps/s"))
        answers.append(Answer(f"commits, {label}", load.commits, "a step"))
    panel = Panel(
        title="tasks of four steps in a row",
        x_label="worker processes",
        y_label="steps a second",
        x=[str(count) for count in loads],
        series={"throughput": [statistics.median(load.finished) for load in loads.values()]},
    )
    publish("processes", answers, [panel], as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=4000, help="tasks queued a round")
    parser.add_argument("--database-url", help="an empty database; an embedded one if left out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.tasks, chosen.database_url, chosen.json))
