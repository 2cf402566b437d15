"""Absurd: async tasks of async steps; a level of the graph is an `asyncio.gather`.

A worker runs 50 tasks at a time over its one connection, as its SDK has it, and looks for new
ones every 2 ms when idle (250 ms is the default; nobody wakes it). Many tasks are spawned in one
transaction. The queue is as it comes: not partitioned.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver
import psycopg
from absurd_sdk import Absurd, AsyncAbsurd, AsyncTaskContext
from absurdctl import BUNDLED_SCHEMA_SQL
from bare_app import Submit, serve
from workloads import WORKLOADS, levels, work

QUEUE = "bench"
CONCURRENCY = 50
POLL_SECONDS = 0.002
LEVELS = {name: levels(graph) for name, graph in WORKLOADS.items()}


async def run(params: dict[str, Any], context: AsyncTaskContext) -> None:
    """Run the steps, level by level."""

    async def step(name: str) -> None:
        async def nothing() -> dict[str, bool]:
            return work(params["number"], name)

        await context.step(name, nothing)

    for names in LEVELS[params["workload"]]:
        if len(names) == 1:
            await step(names[0])
        else:
            await asyncio.gather(*(step(name) for name in names))


class AbsurdDriver(driver.Driver):
    """Spawns with a connection of its own."""

    def prepare(self, url: str, directory: str) -> None:
        """Make the schema and the queue."""
        os.environ["PEERS_URL"] = url
        self.conn = psycopg.connect(url, autocommit=True)
        self.conn.execute(BUNDLED_SCHEMA_SQL)
        self.app = Absurd(self.conn, queue_name=QUEUE)
        self.app.create_queue(QUEUE)

    def run_one(self, workload: str, number: int) -> float:
        """Spawn, look until the task is complete."""
        began = time.perf_counter()
        task = self._spawn(workload, number)
        query = f"select state = 'completed' from absurd.t_{QUEUE} where task_id = '{task}'"
        return self.look(began, lambda: self.value(query))

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Spawn all in one transaction."""
        with self.conn.transaction():
            for number in numbers:
                self._spawn(workload, number)

    def busy(self) -> bool:
        """Look for a task that is not complete."""
        return bool(
            self.value(f"select exists (select from absurd.t_{QUEUE} where state <> 'completed')")
        )

    def complete(self) -> int:
        """Count the complete tasks that were begun once."""
        return self.value(
            f"select count(*) from absurd.t_{QUEUE} where state = 'completed' and attempts = 1"
        )

    def value(self, query: str) -> int:
        """Ask for a number."""
        row = self.conn.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _spawn(self, workload: str, number: int) -> object:
        spawned = self.app.spawn("run", {"workload": workload, "number": number}, queue=QUEUE)
        return spawned["task_id"]


def worker() -> None:
    """Work on the queue until a signal comes."""

    async def work_on() -> None:
        app = AsyncAbsurd(os.environ["PEERS_URL"], queue_name=QUEUE)
        app.register_task("run")(run)
        working = asyncio.create_task(
            app.start_worker(concurrency=CONCURRENCY, poll_interval=POLL_SECONDS)
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.stop_worker)
        await asyncio.sleep(0)  # it has begun: now it can be stopped
        driver.ready()
        await working
        await app.close()

    asyncio.run(work_on())


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Spawn on one of eight connections."""
    apps: asyncio.Queue[AsyncAbsurd] = asyncio.Queue()
    for _ in range(8):
        apps.put_nowait(AsyncAbsurd(os.environ["PEERS_URL"], queue_name=QUEUE))

    async def submit(number: int) -> None:
        app = await apps.get()
        try:
            await app.spawn("run", {"workload": "linear", "number": number}, queue=QUEUE)
        finally:
            apps.put_nowait(app)

    yield submit
    while not apps.empty():
        await apps.get_nowait().close()


if __name__ == "__main__":
    driver.main(AbsurdDriver, worker=worker, http=lambda port: serve(port, opened))
