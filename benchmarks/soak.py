"""Does anything grow, or grow slow, when work goes on for long?

    python benchmarks/soak.py [--minutes N] [--rate STEPS] [--keep-minutes N] [--json]

Chains, fans, retries, decisions, batches, and tasks that fail for good, at a fixed rate,
through one worker process; a server sweeps beside it, over which dead letters are resolved,
and finished tasks leave after a few minutes. Every ten seconds a sample is taken. At the end
the last quarter is held against the first, and every task must have ended as it should: in
the right state, with the right number of steps and of attempts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
import httpx
import psutil
import uvloop

from benchmarks.chart import Panel, publish
from benchmarks.harness import (
    TASKER_CTL,
    Answer,
    Bench,
    bench_database,
    console,
    worker_process,
)
from benchmarks.soak_handlers import BATCHES, FAILURES
from tasker_core.engine.create import NewTask, create_tasks

TICK_SECONDS = 0.1
SAMPLE_SECONDS = 10.0
GIVE_UP_SECONDS = 60
LAST_SECONDS = 180.0  # for what is left at the end
MIB = 1024 * 1024

_HEAD = """
name: {name}
namespace_name: soak
version: 1.0.0
identity_strategy: always_unique
steps:
"""
_STEP = "  - {{name: {name}, handler: {{callable: {handler}}}, dependencies: [{parents}]{more}}}\n"


@dataclass(frozen=True)
class Kind:
    """A template, how often it comes, and how its tasks must end."""

    name: str
    share: int
    template: str
    steps: int
    attempts: int
    state: str = "complete"


def _template(name: str, *steps: tuple[str, str, str, str], more: str = "") -> str:
    lines = (
        _STEP.format(name=step, handler=handler, parents=parents, more=rest)
        for step, handler, parents, rest in steps
    )
    return _HEAD.format(name=name) + "".join(lines) + more


_RETRY = ", retry: {max_attempts: 5, backoff: linear, backoff_base_ms: 100, max_backoff_ms: 1000}"
_WIDE = [f"wide_{no}" for no in range(5)]

KINDS = (
    Kind(
        *("chain", 40),
        _template(
            "chain",
            ("one", "soak_thread", "", ""),
            ("two", "soak_loop", "one", ""),
            ("three", "soak_thread", "two", ""),
            ("four", "soak_loop", "three", ""),
        ),
        *(4, 4),
    ),
    Kind(
        *("fan", 20),
        _template(
            "fan",
            ("first", "soak_loop", "", ""),
            *((name, "soak_thread", "first", "") for name in _WIDE),
            ("last", "soak_loop", ", ".join(_WIDE), ""),
        ),
        *(7, 7),
    ),
    Kind(
        *("retries", 15),
        _template(
            "retries",
            ("one", "soak_flaky", "", _RETRY),
            ("two", "soak_loop", "one", ""),
        ),
        *(2, 2 + FAILURES),
    ),
    Kind(
        *("decision", 15),
        _template(
            "decision",
            ("first", "soak_loop", "", ""),
            ("decide", "soak_decide", "first", ", type: decision"),
            ("branch_0", "soak_thread", "decide", ""),
            ("branch_1", "soak_loop", "decide", ""),
            ("last", "soak_loop", "branch_0, branch_1", ", type: deferred_convergence"),
        ),
        *(4, 4),
    ),
    Kind(
        *("batch", 8),
        _template(
            "batch",
            (
                "analyze",
                "soak_analyze",
                "",
                ", type: batchable, batch_config: {worker_template: work}",
            ),
            ("work", "soak_work", "analyze", ", type: batch_worker"),
            ("last", "soak_loop", "work", ", type: deferred_convergence"),
        ),
        *(2 + BATCHES, 2 + BATCHES),
    ),
    Kind(
        *("hopeless", 2),
        _template(
            "hopeless",
            ("one", "soak_hopeless", "", ""),
            ("two", "soak_loop", "one", ""),
            more=f"give_up_after: {GIVE_UP_SECONDS}\n",
        ),
        *(2, 1, "error"),
    ),
)

_ENDED = """
select
    t.task_uuid, t.state, extract(epoch from t.completed_at - t.created_at)::float as seconds,
    (select count(*) from tasker.steps as s where s.task_uuid = t.task_uuid) as steps,
    (select count(*) from tasker.attempts as a where a.task_uuid = t.task_uuid) as attempts
from unnest($1::uuid[]) as own (task_uuid)
cross join lateral (
    select * from tasker.tasks as one where one.task_uuid = own.task_uuid limit 1
) as t
where t.completed_at is not null
"""
_SIZES = """
select relname as name, pg_relation_size(oid) as bytes from pg_class
where relnamespace = 'tasker'::regnamespace and relkind in ('r', 'i')
"""
_DEAD = "select sum(n_dead_tup)::bigint from pg_stat_user_tables where schemaname = 'tasker'"


@dataclass
class Soak:
    """The load, and what was seen of it."""

    bench: Bench
    keep_minutes: float
    open: dict[UUID, Kind] = field(default_factory=dict)  # tasks of which the end is not known
    ended: Counter[str] = field(default_factory=Counter)  # by kind
    resolved: int = 0  # dead letters
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)  # ms of chains, since the last sample
    samples: list[dict[str, float]] = field(default_factory=list)

    async def create(self, rate: float, seconds: float) -> None:
        """Create tasks of so many steps a second, in small groups, for so long."""
        conn = await asyncpg.connect(self.bench.url)
        draw = random.Random(1)
        shares = [kind.share for kind in KINDS]
        began = time.monotonic()
        created_steps = number = 0
        while (passed := time.monotonic() - began) < seconds:
            chosen = []
            while created_steps < rate * passed:
                (kind,) = draw.choices(KINDS, shares)
                created_steps += kind.steps
                chosen.append(kind)
            number += len(chosen)
            new = [
                NewTask(name=kind.name, namespace="soak", context={"number": number + place})
                for place, kind in enumerate(chosen)
            ]
            made = await create_tasks(conn, self.bench.shelf, new)
            self.open.update((m.task_uuid, kind) for m, kind in zip(made, chosen, strict=True))
            await asyncio.sleep(TICK_SECONDS)
        await conn.close()

    async def check(self) -> None:
        """See which tasks have ended, and whether as they should."""
        for row in await self.bench.conn.fetch(_ENDED, list(self.open)):
            kind = self.open.pop(row["task_uuid"])
            self.ended[kind.name] += 1
            if kind.name == "chain":
                self.latencies.append(1000 * row["seconds"])
            seen = (row["state"], row["steps"], row["attempts"])
            if seen != (kind.state, kind.steps, kind.attempts):
                self.wrong.append(f"{kind.name} {row['task_uuid']}: {seen}")

    async def sample(self, minutes: float, processes: dict[str, psutil.Process]) -> None:
        """Write down how large everything is and how long chains take."""
        await self.check()
        conn = self.bench.conn
        seen = {"minutes": minutes, "open tasks": float(len(self.open))}
        if self.latencies:
            seen["chain, median"] = statistics.median(self.latencies)
            seen["chain, 99 %"] = sorted(self.latencies)[int(0.99 * len(self.latencies))]
            self.latencies.clear()
        for name, process in processes.items():
            seen[f"memory, {name}"] = process.memory_info().rss / MIB
        for row in await conn.fetch(_SIZES):
            seen[f"size, {row['name']}"] = row["bytes"] / MIB
        seen["size, all"] = sum(value for what, value in seen.items() if what.startswith("size, "))
        seen["dead rows"] = float(await conn.fetchval(_DEAD))
        self.samples.append(seen)

    async def watch(self, seconds: float, processes: dict[str, psutil.Process], url: str) -> None:
        """Take samples for so long; ask the server something each time."""
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=url) as client:
            while (passed := time.monotonic() - began) < seconds:
                await asyncio.sleep(SAMPLE_SECONDS)
                for path in ("/health", "/v1/tasks"):
                    (await client.get(path, timeout=30)).raise_for_status()
                await self.resolve(client)
                await self.sample(passed / 60, processes)

    async def resolve(self, client: httpx.AsyncClient) -> None:
        """Resolve what was put aside, as a person would; a pending dead letter keeps its task."""
        pending = await client.get(
            "/v1/dlq", params={"resolution_status": "pending", "limit": 200}, timeout=30
        )
        for entry in pending.raise_for_status().json():
            reply = await client.patch(
                f"/v1/dlq/entry/{entry['dlq_entry_uuid']}",
                json={"resolution_status": "permanently_failed"},
                timeout=30,
            )
            reply.raise_for_status()
            self.resolved += 1

    async def finish(self) -> None:
        """Wait until the last tasks have ended."""
        began = time.monotonic()
        while self.open and time.monotonic() - began < LAST_SECONDS:
            await asyncio.sleep(1)
            await self.check()
        left = Counter(kind.name for kind in self.open.values())
        self.wrong += [f"{name}: {count} have not ended" for name, count in left.items()]


@contextlib.asynccontextmanager
async def server_process(
    url: str, settings: dict[str, str]
) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Run `tasker-ctl server run`; give the process and its address."""
    process = subprocess.Popen(
        [TASKER_CTL, "server", "run", "--port", "0"],
        env={**os.environ, "DATABASE_URL": url, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)  # ready  url …  database …
        yield psutil.Process(process.pid), line.split()[2]
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


async def run(soak: Soak, minutes: float, rate: float) -> None:
    """Start the processes, and let the load go on beside the samples."""
    settings = {"TASKER_RETENTION_DAYS": str(soak.keep_minutes / 1440)}
    for kind in KINDS:
        await soak.bench.register(kind.template)
    async with (
        worker_process(
            soak.bench.url,
            concurrency=50,
            handlers="benchmarks.soak_handlers",
            settings=settings,
        ) as worker,
        server_process(soak.bench.url, settings) as (server, url),
    ):
        console.print(f"{rate:g} steps a second for {minutes:g} minutes …")
        async with asyncio.TaskGroup() as group:
            group.create_task(soak.create(rate, 60 * minutes))
            group.create_task(soak.watch(60 * minutes, {"worker": worker, "server": server}, url))
        console.print("waiting for the last …")
        await soak.finish()


def report(soak: Soak, as_json: bool) -> None:
    """Hold the last quarter against the first; print and keep it."""
    quarter = max(1, len(soak.samples) // 4)
    first, last = soak.samples[:quarter], soak.samples[-quarter:]
    answers = []
    for what in sorted(soak.samples[-1]):
        before = [one[what] for one in first if what in one]
        after = [one[what] for one in last if what in one]
        if what != "minutes" and before and after and statistics.median(before) > 0.05:
            answers.append(Answer(what, after, _unit(what), before))
    answers += [
        Answer(f"{name} tasks that ended", [count], "") for name, count in soak.ended.items()
    ]
    answers.append(Answer("dead letters resolved", [soak.resolved], ""))
    answers.append(
        Answer("tasks that did not end as they should", [len(soak.wrong)], "", None, "0")
    )
    largest = sorted(
        (what for what in soak.samples[-1] if what.startswith("size, ") and what != "size, all"),
        key=lambda what: -max(one[what] for one in soak.samples),
    )
    panels = [
        _panel(soak, "memory", "MiB", ["memory, worker", "memory, server"]),
        _panel(soak, "the largest tables and indexes", "MiB", largest[:5]),
        _panel(soak, "dead rows", "rows", ["dead rows"]),
        _panel(soak, "a chain of four, from creation to complete", "ms", ["chain, median"]),
    ]
    publish("soak", answers, panels, as_json=as_json)
    for line in soak.wrong[:20]:
        console.print(f"wrong: {line}")


def _unit(what: str) -> str:
    return {"size": "MiB", "memo": "MiB", "chai": "ms"}.get(what[:4], "")


def _panel(soak: Soak, title: str, unit: str, lines: list[str]) -> Panel:
    return Panel(
        title=title,
        x_label="minutes",
        y_label=unit,
        x=[round(one["minutes"], 2) for one in soak.samples],
        series={
            what.partition(", ")[2] or what: [one.get(what, 0.0) for one in soak.samples]
            for what in lines
        },
    )


async def main(minutes: float, rate: float, keep_minutes: float, as_json: bool) -> int:
    """Measure and print; give 1 if a task did not end as it should."""
    async with bench_database(None) as bench:
        soak = Soak(bench, keep_minutes)
        await run(soak, minutes, rate)
    report(soak, as_json)
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300, help="steps a second")
    parser.add_argument("--keep-minutes", type=float, default=5, help="until a task leaves")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    sys.exit(uvloop.run(main(chosen.minutes, chosen.rate, chosen.keep_minutes, chosen.json)))
