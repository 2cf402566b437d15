"""Keep what a benchmark answered: a table for the reader, a JSON file, and a chart.

The files in `results/` are the same for the same figures, byte for byte, so that a
difference in them is a difference in the figures.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Answer, console, machine, show

RESULTS = Path(__file__).resolve().parent / "results"

_STYLE = {
    "svg.hashsalt": "tasker",
    "svg.fonttype": "none",  # text stays text: small, and searchable
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Panel:
    """One drawing: lines where x are numbers, groups of bars where they are words."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float | str]
    series: Mapping[str, Sequence[float]]  # as many values as there are x
    goal: float | None = None  # drawn across
    is_log: bool = False  # both axes


def publish(
    name: str, answers: Sequence[Answer], panels: Sequence[Panel], *, as_json: bool
) -> None:
    """Print the answers; write them to results/<name>.json and the chart beside it."""
    show(answers, as_json=as_json)
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "machine": machine(),
        "command": f"benchmarks/{name}.py",
        "answers": [answer.as_json() for answer in answers],
        "panels": [asdict(panel) for panel in panels],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    draw(RESULTS / f"{name}.svg", panels)


def draw(file: Path, panels: Sequence[Panel]) -> None:
    """Draw the panels side by side; without matplotlib, say so and leave the chart out."""
    try:
        import matplotlib
    except ImportError:
        console.print("no chart: it needs pip install -e '.[bench]'")
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_STYLE):
        widths = [_width(panel) for panel in panels]
        figure, axes = pyplot.subplots(
            *(1, len(panels)),
            figsize=(sum(widths), 3.2),
            width_ratios=widths,
            squeeze=False,
            layout="constrained",
        )
        for axis, panel in zip(axes[0], panels, strict=True):
            _draw_panel(axis, panel)
        figure.savefig(file, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def _width(panel: Panel) -> float:
    """Give the inches: bars and their words need room."""
    return 4.2 if not isinstance(panel.x[0], str) else max(4.2, 1.4 * len(panel.x))


def _draw_panel(axis: Any, panel: Panel) -> None:
    if isinstance(panel.x[0], str):
        width = 0.8 / len(panel.series)
        for number, (label, values) in enumerate(panel.series.items()):
            shift = (number - (len(panel.series) - 1) / 2) * width
            axis.bar([place + shift for place in range(len(values))], values, width, label=label)
        words = [textwrap.fill(str(word), 15) for word in panel.x]
        axis.set_xticks(range(len(words)), words)
    else:
        mark = "o" if len(panel.x) <= 20 else ""
        for label, values in panel.series.items():
            axis.plot(panel.x, values, marker=mark, markersize=3, linewidth=1.3, label=label)
    if panel.is_log:
        axis.loglog()
    else:
        axis.set_ylim(bottom=0)
    if panel.goal is not None:
        axis.axhline(panel.goal, linestyle="--", linewidth=1, color="gray", label="goal")
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if len(panel.series) > 1 or panel.goal is not None:
        axis.legend(ncols=2 if len(panel.series) > 3 else 1, fontsize=8)
