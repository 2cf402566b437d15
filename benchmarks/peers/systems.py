"""The systems that are compared, their environments, and the processes that drive them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import console

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class System:
    """A driver and how to run it."""

    name: str
    title: str
    file: str
    steps: int  # a load for the throughput: so many steps take some seconds
    kind: str = ""
    requirements: str | None = None  # None: our own environment
    on_postgres: bool = True
    durable: bool = True  # an acknowledged step survives a power cut
    peer: bool = True  # neither us nor the floor
    shows: tuple[str, ...] = field(default=())  # packages whose versions are told


SYSTEMS = [
    System(
        *("tasker-async", "Tasker, async handlers", "peer_tasker.py", 12_000, "async"),
        peer=False,
        shows=("tasker-py",),
    ),
    System(
        *("tasker-threads", "Tasker, sync handlers in threads", "peer_tasker.py", 12_000),
        kind="threads",
        peer=False,
        shows=("tasker-py",),
    ),
    System(
        *("floor-single", "floor, 1 step a commit", "peer_floor.py", 4_000, "single"),
        peer=False,
        shows=("psycopg",),
    ),
    System(
        *("floor-batch", "floor, 100 steps a commit", "peer_floor.py", 12_000, "batch"),
        peer=False,
        shows=("psycopg",),
    ),
    System(
        *("dbos", "DBOS", "peer_dbos.py", 1_200),
        requirements="requirements-dbos.txt",
        shows=("dbos",),
    ),
    System(
        *("procrastinate", "Procrastinate + graph in tables", "peer_procrastinate.py", 1_600),
        requirements="requirements-procrastinate.txt",
        shows=("procrastinate",),
    ),
    System(
        *("pgqueuer", "PgQueuer + graph in tables", "peer_pgqueuer.py", 2_000),
        requirements="requirements-pgqueuer.txt",
        shows=("pgqueuer",),
    ),
    System(
        *("absurd", "Absurd", "peer_absurd.py", 2_000),
        requirements="requirements-absurd.txt",
        shows=("absurd-sdk",),
    ),
    System(
        *("celery-durable", "Celery, Redis that syncs each write", "peer_celery.py", 1_600),
        kind="durable",
        requirements="requirements-celery.txt",
        on_postgres=False,
        shows=("celery", "redis"),
    ),
    System(
        *("celery", "Celery, Redis as it comes", "peer_celery.py", 1_600),
        kind="default",
        requirements="requirements-celery.txt",
        on_postgres=False,
        durable=False,
        shows=("celery", "redis"),
    ),
]


def interpreter(system: System, cache: Path) -> Path:
    """Give the interpreter of a system; make its environment if it is not there."""
    if system.requirements is None:
        return Path(sys.executable)
    wanted = HERE / system.requirements
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache / f"{wanted.stem.removeprefix('requirements-')}-{digest}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        console.print(f"making the environment of {wanted.stem} …")
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", wanted], check=True)
        (home / "complete").touch()
    return python


def versions(system: System, python: Path) -> dict[str, str]:
    """Say which versions are compared."""
    if system.requirements is None:
        return {package: version(package) for package in system.shows}
    said = subprocess.run([python, "-m", "pip", "freeze"], stdout=subprocess.PIPE, check=True)
    found = dict(re.findall(r"^([\w-]+)==(\S+)", said.stdout.decode(), re.MULTILINE))
    shown = {package: found[package] for package in system.shows}
    if not system.on_postgres:
        said = subprocess.run(["redis-server", "--version"], stdout=subprocess.PIPE, check=True)
        shown["redis-server"] = said.stdout.decode().split("v=")[1].split()[0]
    return shown


class Process:
    """A driver in its own process: each attribute is a call of the driver's."""

    def __init__(self, system: System, python: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, HERE / system.file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PEERS_KIND": system.kind,
                "PYTHONWARNINGS": "ignore",  # Celery's of running as root, for one
                **environment,
            },
            text=True,
        )

    def call(self, name: str, *arguments: object) -> Any:
        """Call a method of the driver.

        Raises:
            RuntimeError: The driver failed; with its traceback.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"name": name, "arguments": arguments}), file=self._process.stdin)
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "null")
        except OSError:
            answer = None
        if answer is None:
            raise RuntimeError(f"the driver ended during {name}; it said why")
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the driver, which stops what it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended
            self._process.stdin.close()
        self._process.wait(60)
