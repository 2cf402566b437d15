"""Celery on Redis: chains, and groups that become chords; Redis is broker and result backend.

PEERS_KIND `durable`: Redis appends to its file and syncs it with every write (`appendfsync
always`), and a message is acknowledged when its task is done. `default`: Redis and Celery as
they come, so that a crash may lose what was accepted. In both a worker prefetches 100 messages
for each process (4 is the default) and does not gossip; a worker is one prefork process. A
chord joins a whole level of the graph, a chain has no other edges. The script and the workers
reach Redis over its socket.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver
from bare_app import Submit, serve
from celery import Celery, chain, group, signals
from redis import Redis
from workloads import WORKLOADS, levels, work

LEVELS = {name: levels(graph) for name, graph in WORKLOADS.items()}
DURABLE = os.environ.get("PEERS_KIND") == "durable"
REDIS = {"durable": ["--appendonly", "yes", "--appendfsync", "always"], "default": []}
META = "celery-task-meta-"

app = Celery("bench")
app.conf.update(
    broker_url=f"redis+socket://{os.environ.get('PEERS_URL')}",
    result_backend=f"redis+socket://{os.environ.get('PEERS_URL')}",
    task_acks_late=DURABLE,
    worker_prefetch_multiplier=100,
    broker_connection_retry_on_startup=True,
    worker_redirect_stdouts=False,
)


@app.task(name="step")
def step(number: int, name: str) -> dict[str, bool]:
    """Do nothing."""
    return work(number, name)


def workflow(workload: str, number: int) -> Any:
    """Write the workflow; the last step's id tells its number."""
    parts = [
        step.si(number, names[0])
        if len(names) == 1
        else group(step.si(number, name) for name in names)
        for names in LEVELS[workload]
    ]
    parts[-1].set(task_id=f"end-{number}")
    return chain(*parts)


class CeleryDriver(driver.Driver):
    """Starts Redis, submits to it."""

    def prepare(self, url: str, directory: str) -> None:
        """Start Redis in the directory."""
        socket = f"{directory}/redis.sock"
        os.environ["PEERS_URL"] = socket
        app.conf.update(
            broker_url=f"redis+socket://{socket}", result_backend=f"redis+socket://{socket}"
        )
        self.redis_server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", directory]
            + REDIS[os.environ["PEERS_KIND"]],
            stdout=subprocess.DEVNULL,
        )
        while not Path(socket).exists():
            assert self.redis_server.poll() is None, "redis-server did not start"
            time.sleep(0.02)
        self.redis = Redis(unix_socket_path=socket)
        self.pending: list[int] = []

    def run_one(self, workload: str, number: int) -> float:
        """Submit, wait for the last result, of which Redis tells."""
        began = time.perf_counter()
        workflow(workload, number).apply_async().get()
        return time.perf_counter() - began

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Submit one after the other: Celery has no call for many."""
        for number in numbers:
            workflow(workload, number).apply_async()
        self.pending += numbers

    def expect(self, first: int, n: int) -> None:
        """Hear of workflows that came over HTTP."""
        self.pending += range(first, first + n)

    def busy(self) -> bool:
        """Look for a workflow without its last result."""
        while self.pending and self.redis.exists(f"{META}end-{self.pending[-1]}"):
            self.pending.pop()
        return bool(self.pending)

    def complete(self) -> int:
        """Count the last results that are a success."""
        keys = list(self.redis.scan_iter(f"{META}end-*", count=10_000))
        return sum(b'"SUCCESS"' in value for value in self.redis.mget(keys)) if keys else 0

    def close(self) -> None:
        """Stop the workers, then Redis."""
        super().close()
        self.redis_server.terminate()
        self.redis_server.wait()
        os._exit(0)  # an ordinary end has each result look for Redis


def worker() -> None:
    """Work until a signal comes."""
    signals.worker_ready.connect(lambda **_: driver.ready(), weak=False)
    app.worker_main(
        [
            *("worker", "--pool=prefork", "--concurrency=1", "--loglevel=ERROR"),
            *("--hostname", f"{os.getpid()}@bench"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Submit in one of eight threads: Celery blocks."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(8)
    loop = asyncio.get_running_loop()

    async def submit(number: int) -> None:
        await loop.run_in_executor(threads, lambda: workflow("linear", number).apply_async())

    yield submit
    threads.shutdown()


if __name__ == "__main__":
    driver.main(CeleryDriver, worker=worker, http=lambda port: serve(port, opened))
