"""Where the bars of a timeline stand: what each step waited, and what it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasker_core.engine.inspect import AttemptRecord, StepRecord, TaskRecord
from tasker_core.server.dashboard.show import duration
from tasker_core.states import TASK_TERMINAL, StepState

WIDTH, LABELS, ROW, HEAD = 960, 190, 24, 26
MOST_ROWS = 80
LEAST = 2.0  # a bar can be seen
LONGEST_LABEL = 26
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30)
_LONGER = (60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400)


@dataclass(frozen=True)
class Bar:
    """One attempt, or the wait before it."""

    x: float
    y: float
    width: float
    state: str  # how it ended; `wait` before it began
    title: str


@dataclass(frozen=True)
class Row:
    """One step."""

    name: str
    label: str
    y: float
    step_uuid: str


@dataclass
class Timeline:
    """All steps that have begun."""

    width: float = WIDTH
    height: float = 0
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    left_out: int = 0


def draw(
    task: TaskRecord, steps: Sequence[StepRecord], attempts: Sequence[AttemptRecord], now: datetime
) -> Timeline:
    """Draw what happened from the task's creation to its end, or until now."""
    begun = {one.step_no for one in attempts} | {one.step_no for one in steps if one.claimed_at}
    shown = [step for step in steps if step.step_no in begun]
    moments = [one.finished_at for one in attempts]
    ends_at = max([task.updated_at, *moments])
    if task.state not in TASK_TERMINAL and any(step.claimed_at for step in steps):
        ends_at = max(ends_at, now)
    whole = max((ends_at - task.created_at).total_seconds(), 0.001)
    scale = (WIDTH - LABELS - 12) / whole

    def x(moment: datetime) -> float:
        return LABELS + scale * max(0.0, (moment - task.created_at).total_seconds())

    drawn = Timeline(height=HEAD + ROW * min(len(shown), MOST_ROWS) + 6)
    drawn.left_out = max(0, len(shown) - MOST_ROWS)
    drawn.ticks = [(LABELS + scale * at, duration(at) if at else "0") for at in _ticks(whole)]
    for at, step in enumerate(shown[:MOST_ROWS]):
        y = HEAD + ROW * at
        label = step.name if len(step.name) <= LONGEST_LABEL else step.name[:25] + "…"
        drawn.rows.append(Row(step.name, label, y, str(step.step_uuid)))
        for one in (one for one in attempts if one.step_no == step.step_no):
            drawn.bars += _bars(one, x, y)
        if step.claimed_at is not None:
            left = x(step.claimed_at)
            title = f"running for {_span(now - step.claimed_at)}"
            width = max(LEAST, x(max(now, step.claimed_at)) - left)
            drawn.bars.append(Bar(left, y, width, StepState.IN_PROGRESS, title))
    return drawn


def _bars(one: AttemptRecord, x: Callable[[datetime], float], y: float) -> Iterator[Bar]:
    queued, begun, ended = x(one.enqueued_at), x(one.claimed_at), x(one.finished_at)
    if begun - queued >= 1:
        wait = f"waited {_span(one.claimed_at - one.enqueued_at)} for a worker"
        yield Bar(queued, y, begun - queued, "wait", wait)
    title = f"attempt {one.attempt}: {one.outcome.replace('_', ' ')} after {_span(one.duration)}"
    yield Bar(begun, y, max(LEAST, ended - begun), one.outcome, title)


def _span(span: timedelta) -> str:
    return duration(max(0.0, span.total_seconds()))


def _ticks(whole: float) -> Iterator[float]:
    """Give a few round numbers of seconds up to the end."""
    days = 86_400 * max(1, round(whole / 86_400 / 6))
    step = next((one for one in (*_SECONDS, *_LONGER) if whole / one <= 6), days)
    for number in range(int(whole / step) + 1):
        yield number * step
