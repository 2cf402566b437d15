"""How many requests a second does the server answer, how soon, and how many can follow a task?

    python benchmarks/server.py [--rounds N] [--seconds N] [--readers N] [--json]

`tasker-ctl server run` beside a FastAPI application on the same uvicorn, with as many
connections, that does one insert or one select by key (bare_server.py); round by round, so the
ratios hold on a noisy machine. Requests come over 32 connections that stay open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
import uvloop

from benchmarks.harness import (
    ROOT,
    TASKER_CTL,
    Answer,
    Bench,
    bench_database,
    console,
    show,
    worker_process,
)
from benchmarks.linear import template

HANDLER = "nothing_on_loop"
CONNECTIONS = 32
MIB = 1024 * 1024
BODY = json.dumps(
    {"name": HANDLER, "namespace": "bench", "context": {"order": 1, "items": [{"sku": "A-1"}]}}
)
SYSTEMS = {
    "server": [TASKER_CTL, "--json", "server", "run", "--port", "0"],
    "bare": [sys.executable, "benchmarks/bare_server.py"],
}


@dataclass
class Served:
    """A process that answers, and where."""

    process: psutil.Process
    port: int

    @property
    def memory(self) -> float:
        """How large it is, in MiB."""
        return float(self.process.memory_info().rss / MIB)


@asynccontextmanager
async def served(name: str, url: str) -> AsyncIterator[Served]:
    """Run one of the two."""
    own = [url] if name == "bare" else []
    process = subprocess.Popen(
        [*SYSTEMS[name], *own],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "PYTHONPATH": str(ROOT),
            "TASKER_STREAMS_PER_CALLER": "10000",
            "TASKER_SWEEP_SECONDS": "3600",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        yield Served(psutil.Process(process.pid), urlsplit(json.loads(line)["url"]).port or 0)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


@dataclass
class Measured:
    """What came of some seconds of requests, round by round."""

    rates: list[float] = field(default_factory=list)  # a second
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)  # ms

    def add(self, took: list[float], seconds: float) -> None:
        """Add a round."""
        took.sort()
        self.rates.append(len(took) / seconds)
        self.p50.append(1000 * statistics.median(took))
        self.p99.append(1000 * took[int(0.99 * (len(took) - 1))])


class Connection(asyncio.Protocol):
    """One connection: it sends a request when the answer to the one before is there."""

    def __init__(
        self, requests: Callable[[], bytes | None], status: bytes, took: list[float]
    ) -> None:
        self._requests, self._status, self._took = requests, status, took
        self._buffer = b""
        self._length = -1
        self._began = 0.0
        self.bodies: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take in a part of an answer."""
        self._buffer += data
        if self._length < 0:
            head, found, _ = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if head[9:12] != self._status:
                self.done.set_exception(AssertionError(self._buffer))
                return
            size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._length = len(head) + 4 + int(size)
            self.bodies.append(head)
        if len(self._buffer) >= self._length:
            self._took.append(time.perf_counter() - self._began)
            self.bodies[-1] = self._buffer
            self._buffer, self._length = b"", -1
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody hangs up before the end."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server hung up"))

    def _next(self) -> None:
        request = self._requests()
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)


async def ask(
    port: int, request: Callable[[], bytes], status: bytes, seconds: float
) -> tuple[list[float], float, list[bytes]]:
    """Send requests for some seconds.

    Returns:
        How long each took, how long all took, and the answers.
    """
    ends = time.perf_counter() + seconds
    took: list[float] = []

    def following() -> bytes | None:
        return request() if time.perf_counter() < ends else None

    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    pairs = [
        await loop.create_connection(lambda: Connection(following, status, took), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(one.done for _, one in pairs))
    answers = [answer for _, one in pairs for answer in one.bodies]
    return took, time.perf_counter() - began, answers


def post() -> bytes:
    """Write the request that creates a task."""
    return (
        f"POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()


def get(task_uuid: str) -> bytes:
    """Write the request that reads a task."""
    return f"GET /v1/tasks/{task_uuid} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def measure(
    found: dict[tuple[str, str], Measured], name: str, at: Served, seconds: float
) -> None:
    """Create and read, each for some seconds."""
    took, all_, answers = await ask(at.port, post, b"201", seconds)
    found["create", name].add(took, all_)
    ids = [json.loads(one.partition(b"\r\n\r\n")[2])["task_uuid"] for one in answers[-1000:]]
    numbers = iter(range(10**9))
    took, all_, _ = await ask(at.port, lambda: get(ids[next(numbers) % len(ids)]), b"200", seconds)
    found["get", name].add(took, all_)


async def follow(bench: Bench, at: Served, readers: int) -> tuple[float, float, float]:
    """Let many follow one task to its end; all must see every event.

    Returns:
        The server's MiB before, with all readers, and after they have gone.

    Raises:
        AssertionError: A reader missed an event, or saw one twice or too early.
    """
    took, _, answers = await ask(at.port, post, b"201", 0.001)
    assert took
    task = json.loads(answers[0].partition(b"\r\n\r\n")[2])["task_uuid"]
    before = at.memory
    streams = [await asyncio.open_connection("127.0.0.1", at.port) for _ in range(readers)]
    for reader, writer in streams:
        writer.write(f"GET /v1/tasks/{task}/events?since=0 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await reader.readuntil(b"id: ")
    during = at.memory
    async with worker_process(bench.url, concurrency=20):
        texts = await asyncio.gather(*(_until_end(reader) for reader, _ in streams))
    seen = [[line for line in text.split(b"\n") if line.startswith(b"data: ")] for text in texts]
    for _, writer in streams:
        writer.close()
    steps = [line for line in seen[0] if b'"step.state_changed"' in line and b'"complete"' in line]
    assert len(steps) == 4, seen[0]
    assert all(one == seen[0] for one in seen), "readers have seen different events"
    await asyncio.sleep(2)
    return before, during, at.memory


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"event: stream.end"), 60)


async def main(rounds: int, seconds: float, readers: int, url: str | None, as_json: bool) -> None:
    """Measure and print."""
    found = {(what, name): Measured() for what in ("create", "get") for name in SYSTEMS}
    async with bench_database(url) as bench:
        await bench.register(template(HANDLER))
        async with served("server", bench.url) as server, served("bare", bench.url) as bare:
            both = {"server": server, "bare": bare}
            for name, at in both.items():  # to warm up
                await measure({(w, name): Measured() for w in ("create", "get")}, name, at, 1)
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds} …")
                order = list(both) if number % 2 else list(both)[::-1]
                for name in order:
                    await measure(found, name, both[name], seconds)
            await bench.conn.execute("truncate tasker.tasks cascade; truncate tasker.ready")
        console.print(f"{readers} readers of one task …")
        async with served("server", bench.url) as server:
            sizes = await follow(bench, server, readers)
    show([*_answers(found), *_sizes(readers, *sizes)], as_json=as_json)


def _answers(found: dict[tuple[str, str], Measured]) -> list[Answer]:
    lines = []
    for what in ("create", "get"):
        ours, bare = found[what, "server"], found[what, "bare"]
        lines += [
            Answer(f"{what}, {CONNECTIONS} connections", ours.rates, "requests/s", bare.rates),
            Answer(f"{what}, median", ours.p50, "ms", bare.p50),
            Answer(f"{what}, 99 %", ours.p99, "ms", bare.p99),
        ]
    return lines


def _sizes(readers: int, before: float, during: float, after: float) -> list[Answer]:
    return [
        Answer(f"memory with {readers} readers of one task", [during], "MiB", [before]),
        Answer("memory after they have gone", [after], "MiB", [before]),
        Answer("events that a reader has missed", [0], "", None, "0"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each kind of request, a round")
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--database-url", help="an empty database; an embedded one if left out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    uvloop.run(
        main(chosen.rounds, chosen.seconds, chosen.readers, chosen.database_url, chosen.json)
    )
