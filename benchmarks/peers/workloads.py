"""The four workloads, and the step that every system runs: it does nothing and leaves a line.

Standard library only: this is imported in the environments of all peers.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LEDGER = "PEERS_LEDGER"  # the variable with the path of the file that steps leave a line in

Graph = dict[str, list[str]]  # step: the steps that it depends on

WORKLOADS: dict[str, Graph] = {
    "linear": {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]},
    "diamond": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
    "graph": {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b"],
        "e": ["b", "c"],
        "f": ["c"],
        "g": ["d", "e", "f"],
    },
    "fan": {
        "a": [],
        **{f"w{no}": ["a"] for no in range(1, 51)},
        "z": [f"w{no}" for no in range(1, 51)],
    },
}


def levels(graph: Graph) -> list[list[str]]:
    """Sort the steps by how many stand before them, for systems without dependencies."""
    depth: dict[str, int] = {}
    for step, parents in graph.items():
        depth[step] = 1 + max((depth[parent] for parent in parents), default=-1)
    return [[step for step in graph if depth[step] == at] for at in range(max(depth.values()) + 1)]


def work(number: int, step: str) -> dict[str, bool]:
    """Be the step of a workflow: leave a line in the ledger, and nothing else."""
    os.write(_ledger(), f"{number} {step}\n".encode())
    return {"ok": True}


@cache
def _ledger() -> int:
    return os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def check(ledger: Path, expected: Mapping[str, int]) -> None:
    """Compare the ledger with what had to be run: every step of every workflow, once.

    Args:
        ledger: A line a step that ran.
        expected: How many workflows of each workload had to run.

    Raises:
        AssertionError: A step is missing, or ran twice.
    """
    ran = Counter(ledger.read_text().splitlines())
    twice = [line for line, count in ran.items() if count > 1]
    assert not twice, f"{len(twice)} steps ran more than once: {twice[:5]}"
    steps: dict[str, set[str]] = defaultdict(set)
    for line in ran:
        number, step = line.split()
        steps[number].add(step)
    wanted: Counter[frozenset[str]] = Counter()
    for workload, workflows in expected.items():
        wanted[frozenset(WORKLOADS[workload])] += workflows
    got = Counter(frozenset(names) for names in steps.values())
    assert got == wanted, (
        f"of {sum(wanted.values())} workflows {len(steps)} ran, "
        f"{sum((got & wanted).values())} of them to the end"
    )
