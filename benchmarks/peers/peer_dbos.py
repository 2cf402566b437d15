"""DBOS Transact: async workflows of async steps; a level of the graph is an `asyncio.gather`.

Steps in a row are sync steps of a sync workflow, which is quicker: 20 ms instead of 31, and 300
steps/s instead of 240, where it was tried.

One at a time, the workflow is called in the application's own process, as DBOS is meant to be
used: nothing is queued, no other process has to hear of it. For the throughput, a `DBOSClient`
enqueues all in one transaction (it has no call for many), and workers dequeue every 10 ms (1 s
is the default) up to 100 at a time. The pool has 20 connections (its default), recovery and logs
are as they come, without tracing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver
import psycopg
import sqlalchemy
from bare_app import Submit, serve
from dbos import DBOS, DBOSClient, EnqueueOptions
from workloads import WORKLOADS, levels, work

QUEUE = "bench"
NAMES = {"linear": "run_in_row"}
LEVELS = {name: levels(graph) for name, graph in WORKLOADS.items()}


@DBOS.step()
async def step(number: int, name: str) -> dict[str, bool]:
    """Do nothing."""
    return work(number, name)


@DBOS.workflow()
async def run(workload: str, number: int) -> None:
    """Run the steps, level by level."""
    for names in LEVELS[workload]:
        if len(names) == 1:
            await step(number, names[0])
        else:
            await asyncio.gather(*(step(number, name) for name in names))


@DBOS.step()
def step_in_row(number: int, name: str) -> dict[str, bool]:
    """Do nothing."""
    return work(number, name)


@DBOS.workflow()
def run_in_row(workload: str, number: int) -> None:
    """Run the steps of a workload that has none beside each other."""
    for (name,) in LEVELS[workload]:
        step_in_row(number, name)


def enqueue(workload: str) -> EnqueueOptions:
    """Say what is enqueued, and where."""
    return {"queue_name": QUEUE, "workflow_name": NAMES.get(workload, "run")}


def launch(*, queue: bool) -> None:
    """Be an application: with the queue's worker in it, or without."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ["PEERS_URL"],
            "executor_id": str(os.getpid()),
            "log_level": "ERROR",
        }
    )
    if not queue:
        DBOS.listen_queues([])
    DBOS.launch()
    if queue:
        DBOS.register_queue(QUEUE, worker_concurrency=100, polling_interval_sec=0.01)


def connect() -> DBOSClient:
    """Be a client."""
    return DBOSClient(
        system_database_url=os.environ["PEERS_URL"],
        system_database_pool_size=8,
        application_name="bench",
    )


class Dbos(driver.Driver):
    """Enqueues as a client."""

    def prepare(self, url: str, directory: str) -> None:
        """Let an application make the schema."""
        os.environ["PEERS_URL"] = url.replace("postgresql:", "postgresql+psycopg:")
        self.spawn("worker")
        self.stop()
        self.conn = psycopg.connect(url, autocommit=True)
        self.client = connect()
        self.engine = sqlalchemy.create_engine(os.environ["PEERS_URL"])

    def latency(self, n: int, warm: int) -> dict[str, list[float]]:
        """Run workflows in an application's process."""
        done = subprocess.run(
            [sys.executable, sys.argv[0], "latency", str(n), str(warm), str(self._number)],
            stdout=subprocess.PIPE,
            check=True,
        )
        self.numbers(len(WORKLOADS) * (n + warm))
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Enqueue all in one transaction."""
        with self.engine.begin() as conn:
            for number in numbers:
                self.client.enqueue_in_transaction(conn, enqueue(workload), workload, number)

    def busy(self) -> bool:
        """Look for a workflow that did not succeed."""
        return bool(
            self._value(
                "select exists (select from dbos.workflow_status "
                "where status in ('PENDING', 'ENQUEUED', 'DELAYED'))"
            )
        )

    def complete(self) -> int:
        """Count the workflows that succeeded."""
        return self._value("select count(*) from dbos.workflow_status where status = 'SUCCESS'")

    def close(self) -> None:
        """Stop everything."""
        super().close()
        self.client.destroy()
        self.engine.dispose()
        self.conn.close()

    def settle(self) -> None:
        """Let the pool's sessions end, which tells it too."""
        self.engine.dispose()
        super().settle()

    def _value(self, query: str) -> int:
        row = self.conn.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def worker() -> None:
    """Work on the queue until a signal comes."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    launch(queue=True)
    driver.ready()
    stop.wait()
    DBOS.destroy()


def latency(n: str, warm: str, first: str) -> None:
    """Run workflows one after the other in this process; print their milliseconds."""
    launch(queue=False)
    numbers = itertools.count(int(first))

    async def measure(workload: str) -> list[float]:
        took = []
        for _ in range(int(warm) + int(n)):
            began = time.perf_counter()
            await run(workload, next(numbers))
            took.append((time.perf_counter() - began) * 1000)
        return took[int(warm) :]

    def measure_in_row(workload: str) -> list[float]:
        took = []
        for _ in range(int(warm) + int(n)):
            began = time.perf_counter()
            run_in_row(workload, next(numbers))
            took.append((time.perf_counter() - began) * 1000)
        return took[int(warm) :]

    answer = {
        workload: measure_in_row(workload) if workload in NAMES else asyncio.run(measure(workload))
        for workload in WORKLOADS
    }
    DBOS.destroy()
    print(json.dumps(answer))


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Enqueue as a client."""
    client = connect()

    async def submit(number: int) -> None:
        await client.enqueue_async(enqueue("linear"), "linear", number)

    yield submit
    client.destroy()


if __name__ == "__main__":
    driver.main(Dbos, worker=worker, latency=latency, http=lambda port: serve(port, opened))
