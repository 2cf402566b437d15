"""Break the engine in one place at a time, and see that the tests notice.

Each entry of mutants.toml takes away one lock, one fence or one condition. The package
is copied, the copy is changed, and the tests that are named run on it until one fails.
A mutant that lives is a promise that nobody holds:

    python tests/mutants/run.py                 # all of them
    python tests/mutants/run.py fence lease     # those whose names have one of these words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGE = ROOT / "src" / "tasker_core"
TESTS_SECONDS = 600


@dataclass(frozen=True)
class Mutant:
    """One change for the worse."""

    name: str
    file: str  # in the package
    find: str  # occurs once there
    put: str
    tests: tuple[str, ...]  # that are to notice, the quickest first

    def write(self, package: Path) -> None:
        """Change a copy of the package."""
        path = package / self.file
        path.write_text(path.read_text().replace(self.find, self.put))


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    killer: str | None  # the test that noticed; None: it lives
    seconds: float


def read_mutants(*words: str) -> list[Mutant]:
    """Read the list, or those of it whose names have one of these words."""
    entries = tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]
    mutants = [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    return [one for one in mutants if not words or any(word in one.name for word in words)]


def judge(mutants: list[Mutant]) -> Iterator[Verdict]:
    """Run the tests on one mutant after the other."""
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "tasker_core"
        for mutant in mutants:
            shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
            mutant.write(package)
            began = time.monotonic()
            killer = next(filter(None, (_failure(test, directory) for test in mutant.tests)), None)
            yield Verdict(mutant, killer, time.monotonic() - began)
            shutil.rmtree(package)


def _failure(test: str, directory: str) -> str | None:
    """Run one file of tests; name the first test that fails."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", "--dist", "loadfile", test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": directory},
        capture_output=True,
        text=True,
        timeout=TESTS_SECONDS,
        check=False,
    )
    if ran.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    if found is None:
        sys.exit(f"the tests did not run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return found[1]


def main(words: list[str]) -> int:
    """Judge them, show what became of each, and fail if one lives."""
    console = Console()
    mutants = read_mutants(*words)
    table = Table("MUTANT", "NOTICED BY", "SECONDS", box=None)
    alive = 0
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("mutants", total=len(mutants))
        for verdict in judge(mutants):
            alive += verdict.killer is None
            row = (verdict.mutant.name, verdict.killer or "NOBODY", f"{verdict.seconds:.0f}")
            table.add_row(*row)
            if not console.is_terminal:
                print(*row, sep="\t", flush=True)
            progress.advance(bar)
    if console.is_terminal:
        console.print(table)
    print(f"{len(mutants) - alive} of {len(mutants)} mutants were noticed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
