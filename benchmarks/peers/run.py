"""How do we do beside other systems, and beside the least that PostgreSQL could do?

    python benchmarks/peers/run.py [--rounds N] [--only NAMES] [--quick] [--json]

Four workloads of steps that do nothing: `linear`, four in a row; `diamond`, four; `graph`,
seven; `fan`, one, fifty beside each other, and one that joins them. Each round takes one system
after the other, each with an empty database, on one embedded PostgreSQL with fsync and
synchronous commits. What is settable and what was chosen stands at the top of each `peer_x.py`.

What was run is compared with what had to be run: every step of every workflow, once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import uvloop
from http_load import requests_per_second
from report import Report, document, show
from systems import SYSTEMS, Process, System, interpreter, versions
from workloads import LEDGER, WORKLOADS, check

from benchmarks.harness import console, machine
from benchmarks.peers.server import Server, server

HTTP_FIRST = 1_000_000  # the numbers of workflows that are submitted over HTTP


class Turn:
    """One system in one round: its driver, its database, its ledger."""

    def __init__(self, system: System, python: Path, server: Server, directory: Path) -> None:
        self.system, self.server = system, server
        self.ledger = directory / "ledger"
        self.ledger.touch()
        self.driver = Process(system, python, {LEDGER: str(self.ledger)})
        self.directory = directory
        self.report: dict[str, Any] = {"latency": {}, "throughput": {}}

    async def measure(self, quick: bool) -> dict[str, Any]:
        """Measure everything; the driver has an empty database."""
        system = self.system
        url = await self.server.empty_database() if system.on_postgres else ""
        try:
            self.driver.call("prepare", url, str(self.directory))
            self._latency(*((10, 5) if quick else (100, 20)))
            steps = system.steps // (6 if quick else 1)
            for workers in (1, 2):
                self._throughput(workers, steps)
            if system.on_postgres:
                await self._counters(steps)
                await self._statements()
            await self._http(0.5 if quick else 2.0)
        finally:
            self.driver.close()
        return self.report

    def _latency(self, n: int, warm: int) -> None:
        took = self.driver.call("latency", n, warm)
        self._check(dict.fromkeys(took, n + warm))
        self.report["latency"] = {name: sorted(all)[len(all) // 2] for name, all in took.items()}

    def _throughput(self, workers: int, steps: int) -> None:
        self.driver.call("start", workers)
        for workload, graph in WORKLOADS.items():
            n = max(2, steps // len(graph))
            self.driver.call("throughput", workload, max(2, n // 10))  # to warm up
            self.ledger.write_text("")
            took = self.driver.call("throughput", workload, n)
            self._check({workload: n})
            rates = self.report["throughput"].setdefault(workload, {})
            rates[str(workers)] = n * len(graph) / took["seconds"]
        self.driver.call("stop")

    async def _counters(self, steps: int) -> None:
        """Count commits, rows and log: what many workflows cost beyond what a few do."""
        few, many = steps // 20, steps // 4
        seen = [await self._settled()]
        for n in (few, many):
            self.driver.call("start", 1)
            self.driver.call("throughput", "linear", n)
            self.driver.call("stop")
            seen.append(await self._settled())
        self._check({"linear": few + many})
        for name in seen[0]:
            first, second = seen[1][name] - seen[0][name], seen[2][name] - seen[1][name]
            self.report[name] = (second - first) / ((many - few) * len(WORKLOADS["linear"]))

    async def _settled(self) -> dict[str, float]:
        self.driver.call("settle")
        return await self.server.counters()

    async def _statements(self, n: int = 100) -> None:
        """Count the statements that the server logs; apart, since logging takes time."""
        self.driver.call("start", 1)
        async with self.server.statements() as counted:
            self.driver.call("throughput", "linear", n)
        self.driver.call("stop")
        self._check({"linear": n})
        self.report["statements"] = counted.statements / (n * len(WORKLOADS["linear"]))

    async def _http(self, seconds: float) -> None:
        """Submit over HTTP without a worker; run what was submitted afterwards."""
        address = self.driver.call("serve_http")
        post = (int(address["port"]), address["path"], address["body"])
        _, warm = await requests_per_second(*post, HTTP_FIRST, seconds / 4)
        rate, n = await requests_per_second(*post, HTTP_FIRST + warm, seconds)
        self.driver.call("stop")
        self.driver.call("expect", HTTP_FIRST, warm + n)
        self.driver.call("start", 1)
        self.driver.call("drain")
        self.driver.call("stop")
        self._check({"linear": warm + n})
        self.report["http"] = rate

    def _check(self, expected: dict[str, int]) -> None:
        check(self.ledger, expected)
        self.ledger.write_text("")


async def main(
    systems: list[System],
    rounds: int,
    quick: bool,
    cache: Path,
    after_round: Callable[[Report], None],
) -> Report:
    """Measure in alternating rounds; what is measured so far is given away after each."""
    pythons = {system.name: interpreter(system, cache) for system in systems}
    report = Report(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine(),
        command=" ".join(["python benchmarks/peers/run.py", *sys.argv[1:]]),
        systems=systems,
        versions={s.name: versions(s, pythons[s.name]) for s in systems},
    )
    async with server() as postgres:
        report.postgres = await postgres.version()
        for number in range(1, rounds + 1):
            order = systems if number % 2 else systems[::-1]
            for system in order:
                console.print(f"round {number} of {rounds}: {system.title} …")
                with tempfile.TemporaryDirectory(prefix="tasker-peers-") as directory:
                    os.chmod(directory, 0o755)
                    turn = Turn(system, pythons[system.name], postgres, Path(directory))
                    try:
                        report.add(system.name, await turn.measure(quick))
                    except Exception as error:  # one system's fault is not the others'
                        console.print_exception()
                        report.failed.setdefault(system.name, []).append(str(error)[-2000:])
            after_round(report)
    return report


def chosen_systems(names: str | None) -> list[System]:
    """Find the systems that were asked for."""
    known = {system.name: system for system in SYSTEMS}
    if names is None:
        return SYSTEMS
    return [known[name] for name in _known(names.split(","), known)]


def _known(names: Iterable[str], known: dict[str, System]) -> Iterable[str]:
    for name in names:
        if name not in known:
            raise SystemExit(f"--only: no system {name!r}; there are {', '.join(known)}")
        yield name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--only", metavar="NAME,…", help=", ".join(one.name for one in SYSTEMS))
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--save",
        action="store_true",
        help="write benchmarks/results/peers.json and the table in benchmarks/README.md",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "tasker-peers-environments",
        help="where the peers' environments are kept",
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in good order
    done = uvloop.run(
        main(
            chosen_systems(chosen.only),
            chosen.rounds or (1 if chosen.quick else 3),
            chosen.quick,
            chosen.cache,
            document if chosen.save else lambda _: None,
        )
    )
    if chosen.json:
        print(json.dumps(done.as_json(), indent=1))
    else:
        show(done)
    sys.exit(1 if done.failed else 0)
