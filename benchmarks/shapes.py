"""How does the time of one task grow with its steps and the edges between them?

    python benchmarks/shapes.py [--rounds N] [--largest STEPS] [--json] [--database-url URL]

Chains, a fan with a join, and layers in which each step waits for the whole layer before.
One worker process, handlers that do nothing, 200 steps at a time. The worker and this
script have seen the template before: what a process pays once for a template is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.chart import Panel, publish
from benchmarks.harness import Answer, Bench, bench_database, console, worker_process
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.register import TemplateShelf

CHAINS = (10, 30, 100, 300, 1000)
FANS = (10, 100, 1000, 3000, 10_000)
LAYERS = (10, 20, 30, 50, 70, 100)
GOALS = {"chain 1,000": 1.5, "fan 10,000": 1.0, "layers 100 × 100": 4.0}


@dataclass
class Shape:
    """One template, and what its tasks took, in seconds."""

    family: str
    label: str
    parents: dict[str, list[str]]
    register: float = 0.0  # with reading it
    first_create: float = 0.0  # of a process that has not seen the template
    create: list[float] = field(default_factory=list)
    complete: list[float] = field(default_factory=list)  # from the commit of the creation on

    @property
    def name(self) -> str:
        """The template's name."""
        return self.label.replace(" ", "_").replace(",", "").replace("×", "x")

    @property
    def edges(self) -> int:
        """How many dependencies there are."""
        return sum(map(len, self.parents.values()))

    @property
    def size(self) -> int:
        """Steps and edges."""
        return len(self.parents) + self.edges

    def template(self) -> str:
        """Write the template: JSON is YAML, and quicker to write."""
        return json.dumps(
            {
                "name": self.name,
                "namespace_name": "bench",
                "version": "1.0.0",
                "identity_strategy": "always_unique",
                "steps": [
                    {
                        "name": step,
                        "handler": {"callable": "nothing_on_loop"},
                        "dependencies": parents,
                    }
                    for step, parents in self.parents.items()
                ],
            }
        )


def shapes() -> Iterator[Shape]:
    """Draw them all."""
    for count in CHAINS:
        chain = {f"s{no}": [f"s{no - 1}"] if no else [] for no in range(count)}
        yield Shape("chain", f"chain {count:,}", chain)
    for count in FANS:
        wide = {f"s{no}": ["first"] for no in range(count)}
        yield Shape("fan", f"fan {count:,}", {"first": [], **wide, "last": list(wide)})
    for count in LAYERS:
        layers = {
            f"s{layer}_{no}": [f"s{layer - 1}_{above}" for above in range(count)] if layer else []
            for layer in range(count)
            for no in range(count)
        }
        yield Shape("layers", f"layers {count} × {count}", layers)


async def run_once(bench: Bench, shape: Shape, shelf: TemplateShelf) -> tuple[float, float]:
    """Create one task and wait for its end; give the seconds of both."""
    new = NewTask(name=shape.name, namespace="bench", context={})
    began = time.perf_counter()
    created = await create_task(bench.conn, shelf, new)
    create = time.perf_counter() - began
    committed = datetime.now(UTC)
    pause = 0.005
    while not (
        row := await bench.conn.fetchrow(
            "select completed_at from tasker.tasks where task_uuid = $1 and state = 'complete'",
            created.task_uuid,
        )
    ):
        await asyncio.sleep(pause)
        pause = min(0.05, 1.2 * pause)
    attempts = await bench.conn.fetchval(
        "select count(*) from tasker.attempts where task_uuid = $1 and outcome = 'complete'",
        created.task_uuid,
    )
    assert attempts == len(shape.parents), f"{shape.label}: {attempts} attempts"
    return create, (row["completed_at"] - committed).total_seconds()


async def measure(bench: Bench, shape: Shape, rounds: int) -> None:
    """Register the template, let everybody see it once, then measure."""
    began = time.perf_counter()
    await bench.register(shape.template())
    shape.register = time.perf_counter() - began
    shape.first_create, _ = await run_once(bench, shape, bench.shelf)
    for _ in range(rounds):
        create, complete = await run_once(bench, shape, bench.shelf)
        shape.create.append(create)
        shape.complete.append(complete)


def exponent(measured: list[Shape]) -> float:
    """Say with which power of its size the time of a task grows: 1 is linear, 2 quadratic.

    Of the three largest sizes, by the least squares of their logarithms.
    """
    last = measured[-3:]
    sizes = [math.log(shape.size) for shape in last]
    times = [
        math.log(statistics.median(shape.create) + statistics.median(shape.complete))
        for shape in last
    ]
    return statistics.linear_regression(sizes, times).slope


def report(measured: list[Shape], as_json: bool) -> None:
    """Print and keep what was measured."""
    answers: list[Answer] = []
    panels: list[Panel] = []
    for family in ("chain", "fan", "layers"):
        own = [shape for shape in measured if shape.family == family]
        if not own:
            continue
        for shape in own:
            goal = f"≤ {GOALS[shape.label]} s" if shape.label in GOALS else ""
            answers.append(Answer(f"{shape.label}: create", shape.create, "s"))
            answers.append(Answer(f"{shape.label}: complete", shape.complete, "s", None, goal))
        if len(own) > 1:
            what = f"{family}: grows with its steps and edges to the power of"
            answers.append(Answer(what, [exponent(own)], "", None, "≤ 1.1"))
        largest = own[-1]
        answers.append(Answer(f"{largest.label}: read and register", [largest.register], "s"))
        what = f"{largest.label}: first creation of a process"
        answers.append(Answer(what, [largest.first_create], "s"))
        panels.append(
            Panel(
                title=family,
                x_label="steps and edges",
                y_label="seconds",
                x=[shape.size for shape in own],
                series={
                    "create": [statistics.median(shape.create) for shape in own],
                    "complete": [statistics.median(shape.complete) for shape in own],
                },
                goal=GOALS.get(largest.label),
                is_log=True,
            )
        )
    publish("shapes", answers, panels, as_json=as_json)


async def main(rounds: int, largest: int, url: str | None, as_json: bool) -> None:
    """Measure and print."""
    measured = [shape for shape in shapes() if len(shape.parents) <= largest]
    async with (
        bench_database(url) as bench,
        worker_process(bench.url, concurrency=200),
    ):
        for shape in measured:
            console.print(f"{shape.label}: {len(shape.parents):,} steps, {shape.edges:,} edges …")
            await measure(bench, shape, rounds)
    report(measured, as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=20_000, help="leave out what is larger")
    parser.add_argument("--database-url", help="an empty database; an embedded one if left out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.largest, chosen.database_url, chosen.json))
