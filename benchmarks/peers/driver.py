"""What a driver is: one file for each system, run in that system's own environment.

`run.py` starts `python peer_x.py`, and the two talk in lines of JSON: a call, an answer.
Workers and HTTP servers are processes of the same file with another first argument.

Standard library only: this is imported in the environments of all peers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from workloads import WORKLOADS

POLL_SECONDS = 0.01  # how often a driver looks whether a load is done
GIVE_UP_SECONDS = 300.0
WARM = 5  # workflows after which one knows about how long they take


class Driver:
    """A system under measurement."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._number = 0
        self._least = 0.0  # seconds that the quickest workflow of a kind took so far

    # --- what a driver writes -----------------------------------------------------------

    def prepare(self, url: str, directory: str) -> None:
        """Make the schema in an empty database, or start a server in an empty directory."""
        raise NotImplementedError

    def start(self, workers: int) -> None:
        """Start worker processes; return when all of them wait for work."""
        self.spawn("worker", copies=workers)

    def run_one(self, workload: str, number: int) -> float:
        """Submit a workflow and wait for its end; give the seconds it took."""
        raise NotImplementedError

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Submit many workflows, in the quickest way that the system has."""
        raise NotImplementedError

    def busy(self) -> bool:
        """Say whether any submitted workflow is not complete."""
        raise NotImplementedError

    def complete(self) -> int:
        """Count the workflows that the system itself holds for successfully complete."""
        raise NotImplementedError

    def latency(self, n: int, warm: int) -> dict[str, list[float]]:
        """Run workflows one at a time with one worker; give the milliseconds of each."""
        self.start(1)
        took = {name: self.run_many(name, n, warm) for name in WORKLOADS}
        self.stop()
        return took

    def serve_http(self) -> dict[str, str]:
        """Serve submissions of linear workflows: give url, path and body, with NUMBER in it."""
        port = free_port()
        self.spawn("http", str(port), wait=False)
        wait_for_http(f"http://127.0.0.1:{port}/ready")
        return {"port": str(port), "path": "/start", "body": '{"number":NUMBER}'}

    def expect(self, first: int, n: int) -> None:
        """Hear of workflows that were submitted over HTTP, where only numbers tell of them."""

    def settle(self) -> None:
        """Let idle sessions tell PostgreSQL's statistics what they did; workers are stopped.

        A session tells it at the end of a transaction, if the last time was a second ago.
        """
        time.sleep(1.1)
        self.busy()

    # --- the rest -----------------------------------------------------------------------

    def run_many(self, workload: str, n: int, warm: int) -> list[float]:
        """Run workflows one after the other, some before it counts."""
        took: list[float] = []
        for number in self.numbers(warm + n):
            self._least = min(took) if len(took) >= WARM else 0.0
            took.append(self.run_one(workload, number))
        return [seconds * 1000 for seconds in took[warm:]]

    def look(self, began: float, done: Callable[[], object]) -> float:
        """Look until a workflow is done; give the seconds since it began.

        Who asks all the time takes the processor from those who work: the first look is
        shortly before the workflow is likely to be done, and then one every 0.3 ms.
        """
        time.sleep(max(0.0, 0.8 * self._least - (time.perf_counter() - began)))
        while not done():
            time.sleep(0.0003)
        return time.perf_counter() - began

    def throughput(self, workload: str, n: int) -> dict[str, float]:
        """Submit n workflows to the workers that run; give the seconds until all are done."""
        before = self.complete()
        began = time.perf_counter()
        self.submit(workload, self.numbers(n))
        submitted = time.perf_counter() - began
        self.drain()
        seconds = time.perf_counter() - began
        assert self.complete() - before == n, "not every workflow is complete"
        return {"seconds": seconds, "submit_seconds": submitted}

    def drain(self) -> None:
        """Wait until everything submitted is done."""
        began = time.monotonic()
        while self.busy():
            assert time.monotonic() - began < GIVE_UP_SECONDS, "workflows do not end"
            time.sleep(POLL_SECONDS)

    def numbers(self, n: int) -> range:
        """Give the next n numbers; a number is a workflow's input."""
        self._number += n
        return range(self._number - n, self._number)

    def spawn(self, *arguments: str, copies: int = 1, wait: bool = True) -> None:
        """Start processes of this file; wait until each has called `ready`."""
        started = [
            subprocess.Popen([sys.executable, sys.argv[0], *arguments], stdout=subprocess.PIPE)
            for _ in range(copies)
        ]
        self._processes += started
        for process in started if wait else ():
            assert process.stdout is not None
            while (line := process.stdout.readline()) != b"ready\n":
                assert line, f"the process of {arguments} did not start"

    def stop(self) -> None:
        """Stop all processes, in good order."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def close(self) -> None:
        """Let go of everything; the last call."""
        self.stop()


def ready() -> None:
    """Tell the driver that this process waits for work."""
    print("ready", flush=True)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_http(url: str) -> None:
    """Wait until a server answers, whatever it says."""
    for _ in range(1000):
        try:
            urlopen(url, timeout=5).close()
            return
        except URLError as error:
            if hasattr(error, "code"):
                return
        time.sleep(0.03)
    raise AssertionError(f"{url} does not answer")


def main(driver: Callable[[], Driver], **processes: Callable[..., Any]) -> None:
    """Be the driver, or the process that the first argument names."""
    if len(sys.argv) > 1 and sys.argv[1] in processes:
        processes[sys.argv[1]](*sys.argv[2:])
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    one = driver()
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"answer": getattr(one, call["name"])(*call["arguments"])}
        except Exception:  # whatever it is, the one who called is told
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
    one.close()
