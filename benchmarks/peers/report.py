"""What was measured: as a table, as JSON, as a section of benchmarks/README.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systems import System
from workloads import WORKLOADS

BENCHMARKS = Path(__file__).resolve().parents[1]
US, FLOOR = ("tasker-async", "tasker-threads"), ("floor-single", "floor-batch")
Values = list[float]


@dataclass(frozen=True)
class Measure:
    """One table: a figure of all systems."""

    key: str
    title: str
    unit: str
    floor: str = "floor-single"  # what it is held against
    digits: int = 0


MEASURES = [
    *(
        Measure(
            f"latency {name}",
            f"latency, {name}",
            "ms",
            "floor-batch" if name == "fan" else "floor-single",
            2,
        )
        for name in WORKLOADS
    ),
    *(
        Measure(
            f"throughput {name} {workers}",
            f"throughput, {name}, {workers} worker{'s' if workers > 1 else ''}",
            "steps/s",
            "floor-batch",
        )
        for name in WORKLOADS
        for workers in (1, 2)
    ),
    Measure("http", "submissions over HTTP", "requests/s"),
    Measure("commits", "commits a step", "", "floor-batch", 3),
    Measure("rows", "rows written a step", "", "floor-batch", 2),
    Measure("wal", "write-ahead log a step", "bytes", "floor-batch"),
    Measure("statements", "statements a step", "", "floor-batch", 3),
]


@dataclass
class Report:
    """Everything measured, a value a round."""

    date: str
    machine: str
    command: str
    systems: list[System]
    versions: dict[str, dict[str, str]]
    postgres: str = ""
    values: dict[str, dict[str, Values]] = field(default_factory=dict)  # system, measure
    failed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, system: str, round_: dict[str, Any]) -> None:
        """Take what one turn measured."""
        for key, value in _flat(round_):
            self.values.setdefault(system, {}).setdefault(key, []).append(value)

    def median(self, system: str, key: str) -> float | None:
        """Give the figure to quote."""
        values = self.values.get(system, {}).get(key)
        return statistics.median(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """Give it all as data."""
        return {
            "date": self.date,
            "machine": self.machine,
            "postgresql": self.postgres,
            "command": self.command,
            "systems": {
                system.name: {
                    "title": system.title,
                    "durable": system.durable,
                    "versions": self.versions[system.name],
                    **({"failed": self.failed[system.name]} if system.name in self.failed else {}),
                    "measures": {
                        measure.key: _summary(values, measure)
                        for measure in MEASURES
                        if (values := self.values.get(system.name, {}).get(measure.key))
                    },
                }
                for system in self.systems
            },
        }


def _summary(values: Values, measure: Measure) -> dict[str, Any]:
    rounded = [round(value, max(measure.digits, 1)) for value in values]
    return {"unit": measure.unit, "median": statistics.median(rounded), "rounds": rounded}


def _flat(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        path = f"{before} {key}".strip()
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value


def lines(report: Report, measure: Measure) -> list[list[str]]:
    """Give one measure's rows: system, median, spread, ratio to us, ratio to the floor."""
    ours = [value for name in US if (value := report.median(name, measure.key))]
    us = (min if measure.unit not in ("steps/s", "requests/s") else max)(ours, default=None)
    floor = report.median(measure.floor, measure.key)
    rows = []
    for system in report.systems:
        values = report.values.get(system.name, {}).get(measure.key)
        if not values:
            why = "failed" if system.name in report.failed else "–"
            rows.append([system.title, why, "", "", ""])
            continue
        median = statistics.median(values)
        spread = f"{min(values):,.{measure.digits}f} – {max(values):,.{measure.digits}f}"
        rows.append(
            [
                system.title,
                f"{median:,.{measure.digits}f} {measure.unit}".strip(),
                spread,
                f"{median / us:.3g}" if us else "",
                f"{median / floor:.3g}" if floor else "",
            ]
        )
    return rows


def show(report: Report) -> None:
    """Print a table a workload's figure: median, spread, ratio to us and to the floor."""
    print(f"{report.machine}, PostgreSQL {report.postgres}, {report.date}")
    for measure in MEASURES:
        if not any(measure.key in values for values in report.values.values()):
            continue
        print(f"\n{measure.title:36} {'median':>18} {'min – max':>22} {'× us':>7} {'× floor':>8}")
        for system, median, spread, us, floor in lines(report, measure):
            print(f"  {system:34} {median:>18} {spread:>22} {us:>7} {floor:>8}")
    for system, errors in report.failed.items():
        print(f"\n{system} failed in {len(errors)} rounds: {errors[0].splitlines()[-1]}")


def document(report: Report) -> None:
    """Write results/peers.json, and the tables between the marks in README.md."""
    results = BENCHMARKS / "results"
    results.mkdir(exist_ok=True)
    text = json.dumps(report.as_json(), indent=1, ensure_ascii=False)
    (results / "peers.json").write_text(text + "\n")
    readme = BENCHMARKS / "README.md"
    before, rest = readme.read_text().split(_BEGIN)
    _, after = rest.split(_END)
    readme.write_text(f"{before}{_BEGIN}\n{markdown(report)}{_END}{after}")


_BEGIN, _END = "<!-- peers: begin -->", "<!-- peers: end -->"

_COLUMNS = [
    ("latency, ms", [f"latency {name}" for name in WORKLOADS], 1),
    ("throughput of one worker, steps/s", [f"throughput {name} 1" for name in WORKLOADS], 0),
    ("throughput of two workers, steps/s", [f"throughput {name} 2" for name in WORKLOADS], 0),
]


def markdown(report: Report) -> str:
    """Write the section: what a reader compares first, and where the rest is."""
    parts = [
        f"\n{report.date}, {report.machine}, PostgreSQL {report.postgres}; `{report.command}`.\n"
        "Medians, in brackets the lowest and highest round.\n"
    ]
    for title, keys, digits in _COLUMNS:
        parts.append(_table(report, title, list(WORKLOADS), keys, [digits] * len(keys)))
    keys = ["http", "commits", "rows", "wal", "statements"]
    headings = ["HTTP, requests/s", "commits", "rows", "log, bytes", "statements"]
    title = "submissions; and a step of `linear`"
    parts.append(_table(report, title, headings, keys, [0, 3, 2, 0, 2]))
    versions = {
        f"{package} {number}"
        for system in report.systems
        for package, number in report.versions[system.name].items()
    }
    parts.append(f"\nVersions: {', '.join(sorted(versions))}.\n")
    return "".join(parts)


def _table(
    report: Report, title: str, headings: list[str], keys: list[str], digits: list[int]
) -> str:
    rows = [f"\n| {title} | {' | '.join(headings)} |\n| --- |{' --- |' * len(headings)}\n"]
    for system in report.systems:
        cells = []
        for key, places in zip(keys, digits, strict=True):
            values = report.values.get(system.name, {}).get(key)
            if not values:
                cells.append("–")
                continue
            median = f"{statistics.median(values):,.{places}f}"
            low, high = f"{min(values):,.{places}f}", f"{max(values):,.{places}f}"
            cells.append(f"{median} ({low} – {high})" if len(values) > 1 else median)
        rows.append(f"| {system.title} | {' | '.join(cells)} |\n")
    return "".join(rows)
