"""How long does it take to import the package, to ask the command for help, and to start
`tasker-ctl dev` for the first time?

    python benchmarks/start.py [--rounds N] [--json]

Each in a new process, with compiled modules and warm disk caches. `dev` starts in a
copy of the example shop without a database: it makes the embedded one, registers the
template, starts server and worker, and says that it is ready.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.chart import Panel, publish
from benchmarks.harness import ROOT, TASKER_CTL, Answer, console

IGNORED = shutil.ignore_patterns(".tasker", "__pycache__")
IMPORT = (
    "import time; began = time.perf_counter(); import tasker_core; "
    "print(time.perf_counter() - began)"
)


def import_ms() -> float:
    """Import the package in a new process; give the milliseconds of the import alone."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    return 1000 * float(done.stdout)


def help_ms() -> float:
    """Run `tasker-ctl --help`; give the milliseconds of the whole process."""
    began = time.perf_counter()
    subprocess.run([TASKER_CTL, "--help"], stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - began)


def bare_ms() -> float:
    """Run Python for nothing: what every figure of a whole process contains."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return 1000 * (time.perf_counter() - began)


def dev_seconds(directory: Path) -> float:
    """Start `tasker-ctl dev` there; give the seconds until it is ready, and stop it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TASKER_", "DATABASE"))}
    began = time.perf_counter()
    process = subprocess.Popen(
        [TASKER_CTL, "dev", "--port", "0"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                return time.perf_counter() - began
        raise RuntimeError("dev did not start:\n" + "".join(said))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def main(rounds: int, as_json: bool) -> None:
    """Measure and print."""
    quick: dict[str, tuple[Callable[[], float], str]] = {
        "python -c ''": (bare_ms, ""),
        "import tasker_core": (import_ms, "≤ 150 ms"),
        "tasker-ctl --help": (help_ms, "≤ 250 ms"),
    }
    answers = []
    for label, (measure, goal) in quick.items():
        console.print(f"{label} …")
        measure()  # compiles what is not compiled yet
        answers.append(Answer(label, [measure() for _ in range(2 * rounds)], "ms", None, goal))
    first: list[float] = []
    again: list[float] = []
    for number in range(1, rounds + 1):
        console.print(f"tasker-ctl dev, round {number} of {rounds} …")
        with tempfile.TemporaryDirectory(prefix="tasker-bench-") as directory:
            shop = Path(directory) / "shop"
            shutil.copytree(ROOT / "examples" / "shop", shop, ignore=IGNORED)
            first.append(dev_seconds(shop))
            again.append(dev_seconds(shop))
    answers.append(Answer("tasker-ctl dev, first start to ready", first, "s", None, "≤ 4 s"))
    answers.append(Answer("tasker-ctl dev, second start to ready", again, "s"))
    panel = Panel(
        title="from nothing to ready",
        x_label="",
        y_label="seconds",
        x=["import", "--help", "dev, first", "dev, again"],
        series={
            "median": [
                answer.median / (1000 if answer.unit == "ms" else 1) for answer in answers[1:]
            ]
        },
    )
    publish("start", answers, [panel], as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    main(chosen.rounds, chosen.json)
