"""What do large contexts and results cost?

    python benchmarks/payloads.py [--rounds N] [--json]

Chains of ten steps, handlers in threads. In `results`, each step returns what its parent
returned; in `context`, each step reads the task's context. The payload is text that
cannot be compressed, the worst case. How much a worker reads from the database is
counted by a proxy between the two, with chains of 10, 20 and 40 steps and with no other
load: a step of a longer chain must not read more.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.chart import Panel, publish
from benchmarks.harness import Answer, Bench, bench_database, console, worker_process
from tasker_core.engine.create import NewTask, create_tasks

SIZES = {"1 KB": 1000, "100 KB": 100_000, "1 MB": 1_000_000}
HANDLERS = {"results": "carry", "context": "read_context"}
LENGTHS = (10, 20, 40)
BULK = {"1 KB": 300, "100 KB": 30, "1 MB": 5}  # tasks at a time


def template(handler: str, length: int) -> str:
    """Write the template of a chain."""
    steps = "".join(
        f"  - name: step_{no}\n"
        f"    handler: {{callable: {handler}}}\n"
        f"    dependencies: [{f'step_{no - 1}' if no > 1 else ''}]\n"
        for no in range(1, length + 1)
    )
    return (
        f"name: {handler}_{length}\nnamespace_name: bench\nversion: 1.0.0\n"
        f"identity_strategy: always_unique\nsteps:\n{steps}"
    )


def payload(size: int) -> dict[str, str]:
    """Make text of this size that does not repeat itself, the same in each run."""
    return {"data": base64.b85encode(random.Random(1).randbytes(size * 4 // 5)).decode()}


async def run(bench: Bench, handler: str, length: int, size: int, tasks: int) -> float:
    """Create tasks and wait until they are complete; give the seconds."""
    new = NewTask(name=f"{handler}_{length}", namespace="bench", context=payload(size))
    began = time.perf_counter()
    created = await create_tasks(bench.conn, bench.shelf, [new] * tasks)
    ids = [task.task_uuid for task in created]
    while await bench.conn.fetchval(
        "select exists (select from tasker.tasks "
        "where task_uuid = any ($1) and state <> 'complete')",
        ids,
    ):
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


# --- how much is read -------------------------------------------------------------------


@dataclass
class Proxy:
    """Passes bytes on between a worker and the database, and counts what the worker reads."""

    url: str
    server_socket: str
    count: int = 0
    ends: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection of the worker's."""
        up_reader, up_writer = await asyncio.open_unix_connection(self.server_socket)
        for ends in ((reader, up_writer, False), (up_reader, writer, True)):
            task = asyncio.create_task(self._pass_on(*ends))
            self.ends.add(task)
            task.add_done_callback(self.ends.discard)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_counted: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                self.count += len(data) if is_counted else 0
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Open a socket in front of the database's."""
    parts = urlsplit(url)
    place = {name: values[0] for name, values in parse_qs(parts.query).items()}
    socket = f".s.PGSQL.{place['port']}"
    with tempfile.TemporaryDirectory(prefix="tasker-proxy-") as directory:
        query = urlencode({**place, "host": directory})
        counting = Proxy(parts._replace(query=query).geturl(), f"{place['host']}/{socket}")
        server = await asyncio.start_unix_server(counting.accept, f"{directory}/{socket}")
        yield counting
        server.close()
        await asyncio.gather(*counting.ends)


async def bytes_read(bench: Bench) -> dict[tuple[str, str, int], float]:
    """Count what a worker reads for a step, by kind, size and length of the chain."""
    read: dict[tuple[str, str, int], float] = {}
    async with (
        proxy(bench.url) as counting,
        worker_process(counting.url, concurrency=20),
    ):
        for kind, handler in HANDLERS.items():
            for label, size in SIZES.items():
                for length in LENGTHS:
                    await run(bench, handler, length, size, 1)  # the template is read once
                    before = counting.count
                    await run(bench, handler, length, size, 3)
                    read[kind, label, length] = (counting.count - before) / (3 * length)
    return read


# --- how fast ---------------------------------------------------------------------------


@dataclass
class Cost:
    """What the steps of one kind and size cost, round by round."""

    speed: list[float] = field(default_factory=list)  # steps a second
    wal: list[float] = field(default_factory=list)  # bytes a step, creation included

    async def measure(self, bench: Bench, handler: str, size: int, tasks: int) -> None:
        """Run a bulk."""
        before, _ = await bench.wal_and_commits()
        seconds = await run(bench, handler, LENGTHS[0], size, tasks)
        after, _ = await bench.wal_and_commits()
        steps = tasks * LENGTHS[0]
        self.speed.append(steps / seconds)
        self.wal.append((after - before) / steps)


async def main(rounds: int, as_json: bool) -> None:
    """Measure and print."""
    costs = {(kind, label): Cost() for kind in HANDLERS for label in SIZES}
    async with bench_database(None) as bench:
        for handler in HANDLERS.values():
            for length in LENGTHS:
                await bench.register(template(handler, length))
        console.print("counting what is read …")
        read = await bytes_read(bench)
        async with worker_process(bench.url, concurrency=20):
            for handler in HANDLERS.values():
                await run(bench, handler, LENGTHS[0], 1000, 20)  # to warm up
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds} …")
                for (kind, label), cost in costs.items():
                    await cost.measure(bench, HANDLERS[kind], SIZES[label], BULK[label])
    report(costs, read, as_json)


def report(
    costs: dict[tuple[str, str], Cost], read: dict[tuple[str, str, int], float], as_json: bool
) -> None:
    """Print and keep what was measured."""
    answers = []
    for (kind, label), cost in costs.items():
        megabytes = [steps * SIZES[label] / 1e6 for steps in cost.speed]
        what = f"{kind} of {label}"
        answers += [
            Answer(f"{what}: throughput", cost.speed, "steps/s"),
            Answer(f"{what}: payload", megabytes, "MB/s"),
            Answer(f"{what}: write-ahead log", cost.wal, "bytes/step"),
        ]
        for length in LENGTHS:
            bytes_a_step = [read[kind, label, length]]
            answers.append(Answer(f"{what}: read, chain of {length}", bytes_a_step, "bytes/step"))
    panels = [
        Panel(
            title="throughput",
            x_label="payload",
            y_label="steps a second",
            x=list(SIZES),
            series={
                kind: [statistics.median(costs[kind, label].speed) for label in SIZES]
                for kind in HANDLERS
            },
        ),
        Panel(
            title="read from the database for a step, 100 KB",
            x_label="steps of the chain",
            y_label="KB",
            x=LENGTHS,
            series={
                kind: [read[kind, "100 KB", length] / 1000 for length in LENGTHS]
                for kind in HANDLERS
            },
        ),
    ]
    publish("payloads", answers, panels, as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(main(chosen.rounds, chosen.json))
