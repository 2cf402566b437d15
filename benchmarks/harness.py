"""What the benchmarks share: a durable database, a real worker process, a table at the end."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from tasker_core.db import embedded, postmaster
from tasker_core.db.migrate import upgrade
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.templates.load import parse_template

ROOT = Path(__file__).resolve().parent.parent
TASKER_CTL = str(Path(sys.executable).parent / "tasker-ctl")
console = Console(stderr=True)


@dataclass
class Bench:
    """A database with nothing else in it, and a connection."""

    url: str
    conn: asyncpg.Connection
    shelf: TemplateShelf

    async def register(self, yaml: str) -> None:
        """Register a template."""
        report = parse_template(yaml)
        assert report.template is not None, report.findings
        await register_template(self.conn, report.template)

    async def wal_and_commits(self) -> tuple[int, int]:
        """Read how much WAL was written and how many transactions were committed so far."""
        await self.conn.execute("select pg_stat_clear_snapshot()")
        row = await self.conn.fetchrow(
            "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as wal, "
            "xact_commit as commits from pg_stat_database where datname = current_database()"
        )
        return row["wal"], row["commits"]


@asynccontextmanager
async def bench_database(url: str | None, *, connections: int = 200) -> AsyncIterator[Bench]:
    """Give a database: an empty one of the server at `url`, or an embedded one, durable.

    Args:
        connections: How many the embedded one can have.
    """
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # leave nothing
    if url is not None:
        conn = await asyncpg.connect(url)
        await upgrade(conn)
        yield Bench(url, conn, TemplateShelf())
        await conn.close()
        return
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as directory:
        home = Path(directory) / "home"
        postmaster._SERVER_OPTIONS["max_connections"] = str(connections)
        lease = await asyncio.to_thread(embedded.acquire, home)
        try:
            conn = await asyncpg.connect(lease.url)
            await upgrade(conn)
            yield Bench(lease.url, conn, TemplateShelf())
            await conn.close()
        finally:
            await asyncio.to_thread(lease.release)


@asynccontextmanager
async def worker_process(
    url: str,
    *,
    concurrency: int,
    handlers: str = "benchmarks.handlers",
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[psutil.Process]:
    """Run `tasker-ctl worker run`; the settings are environment variables."""
    process = subprocess.Popen(
        [TASKER_CTL, "worker", "run", "--handlers", handlers, "--concurrency", str(concurrency)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(ROOT), **(settings or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        conn = await asyncpg.connect(url)
        while not await conn.fetchval(
            "select exists (select from tasker.workers where pid = $1)", process.pid
        ):
            if process.poll() is not None:
                raise RuntimeError("the worker did not start")
            await asyncio.sleep(0.05)
        await conn.close()
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


@dataclass(frozen=True)
class Answer:
    """One line of the table: a figure, its spread over the rounds, and what it is held against."""

    what: str
    values: Sequence[float]
    unit: str
    floor: Sequence[float] | None = None
    goal: str = ""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """Give the line as data."""
        line: dict[str, Any] = {
            "what": self.what,
            "unit": self.unit,
            "median": round(self.median, 4),
            "min": round(min(self.values), 4),
            "max": round(max(self.values), 4),
            "goal": self.goal,
        }
        if self.floor is not None:
            line["floor"] = round(statistics.median(self.floor), 4)
            line["ratio"] = round(self.median / statistics.median(self.floor), 2)
        return line


def show(answers: Sequence[Answer], *, as_json: bool) -> None:
    """Print the answers: a table on a terminal, JSON when asked for."""
    lines = [answer.as_json() for answer in answers]
    if as_json:
        print(json.dumps({"machine": machine(), "answers": lines}, indent=2))
        return
    table = Table(title=machine(), title_justify="left")
    for heading in ("what", "median", "min – max", "against", "ratio", "goal"):
        table.add_column(heading, justify="left" if heading in ("what", "goal") else "right")
    for line in lines:
        table.add_row(
            str(line["what"]),
            f"{_short(line['median'])} {line['unit']}",
            f"{_short(line['min'])} – {_short(line['max'])}",
            _short(line["floor"]) if "floor" in line else "",
            f"{line['ratio']}" if "ratio" in line else "",
            str(line["goal"]),
        )
    Console(width=116).print(table)


def _short(value: float) -> str:
    """Write four digits, or all before the point."""
    digits = max(0, 4 - len(str(int(abs(value)))))
    return f"{value:,.{digits}f}"


def machine() -> str:
    """Say on what the figures were measured."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )
