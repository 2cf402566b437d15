"""Where the boxes and lines of a graph stand: parents to the left of their children.

A step stands as far to the right as its longest way from the start; within a column the
steps are put near their neighbours. A line that passes a column has a place of its own there.
Many steps that have the same neighbours, such as the workers of a batch, are one box.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tasker_core.templates.graph import topological_order
from tasker_core.wire.graph import TaskGraph

WIDTH, HEIGHT = 174, 46
GAP_X, GAP_Y, MARGIN = 44, 16, 10
LANE = 12  # the height of a line that passes a column
ALIKE = 6  # so many steps with the same neighbours are one box
MOST_BOXES = 300
LONGEST_LABEL = 18
SWEEPS = 6


@dataclass
class Box:
    """One step, or many that are alike."""

    key: str
    name: str
    states: Counter[str]
    note: str = ""
    step_uuid: str | None = None  # of one step that can be looked at
    x: float = 0
    y: float = 0

    @property
    def label(self) -> str:
        """The name, as far as there is room for it."""
        return (
            self.name if len(self.name) <= LONGEST_LABEL else self.name[: LONGEST_LABEL - 1] + "…"
        )

    @property
    def state(self) -> str | None:
        """The one that says most of them; None: it is a template's."""
        for state in ("error", "in_progress", "waiting_for_retry", "enqueued", "pending"):
            if self.states[state]:
                return state
        return next(iter(self.states), None)


@dataclass
class Picture:
    """A graph, drawn."""

    width: float = 0
    height: float = 0
    box_width: float = WIDTH
    box_height: float = HEIGHT
    boxes: list[Box] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # the `d` of a path each
    left_out: int = 0  # boxes for which there are too many


def draw(graph: TaskGraph) -> Picture:
    """Draw the steps of a task."""
    parents: dict[str, list[str]] = {str(node.step_uuid): [] for node in graph.nodes}
    for edge in graph.edges:
        parents[str(edge.child)].append(str(edge.parent))
    boxes = {}
    for node in graph.nodes:
        key = str(node.step_uuid)
        note = f"attempt {node.attempts} of {node.max_attempts}" if node.attempts > 1 else ""
        boxes[key] = Box(key, node.name, Counter([node.state]), note, key)
    return _place(*_merge(boxes, parents))


def draw_template(steps: Iterable[Mapping[str, Any]]) -> Picture:
    """Draw the steps of a template, as the API tells them."""
    boxes, parents = {}, {}
    for step in steps:
        name, kind = step["name"], step["type"]
        note = "" if kind == "standard" else kind.replace("_", " ")
        boxes[name] = Box(name, name, Counter(), note)
        parents[name] = list(step["dependencies"])
    return _place(boxes, parents)


def _merge(
    boxes: dict[str, Box], parents: dict[str, list[str]]
) -> tuple[dict[str, Box], dict[str, list[str]]]:
    """Make one box of many steps with the same neighbours."""
    children: dict[str, list[str]] = defaultdict(list)
    for child, above in parents.items():
        for parent in above:
            children[parent].append(child)
    alike: dict[Any, list[str]] = defaultdict(list)
    for key in boxes:
        alike[tuple(sorted(parents[key])), tuple(sorted(children[key]))].append(key)
    stands_for = {key: key for key in boxes}
    for group in alike.values():
        if len(group) > ALIKE and (parents[group[0]] or children[group[0]]):
            first = boxes[group[0]]
            first.states = Counter(state for key in group for state in boxes[key].states)
            done = first.states["complete"]
            first.name, first.step_uuid = f"{first.name} …", None
            first.note = f"{len(group)} steps, {done} complete"
            stands_for.update(dict.fromkeys(group, group[0]))
    kept = {key: box for key, box in boxes.items() if stands_for[key] == key}
    merged = {
        key: list(dict.fromkeys(stands_for[parent] for parent in parents[key])) for key in kept
    }
    return kept, merged


def _place(boxes: Mapping[str, Box], parents: Mapping[str, Sequence[str]]) -> Picture:
    if len(boxes) > MOST_BOXES:
        return Picture(left_out=len(boxes))
    depths: dict[str, int] = {}
    for key in topological_order(parents):
        depths[key] = 1 + max((depths[parent] for parent in parents[key]), default=-1)
    # a place in every column for each line that passes it
    columns: list[list[str]] = [[] for _ in range(1 + max(depths.values(), default=-1))]
    for key, depth in depths.items():
        columns[depth].append(key)
    links: dict[str, list[str]] = defaultdict(list)
    ways: list[list[str]] = []
    for child, above in parents.items():
        for parent in above:
            way = [parent]
            for depth in range(depths[parent] + 1, depths[child]):
                way.append(f"{parent}>{child}@{depth}")
                columns[depth].append(way[-1])
            way.append(child)
            ways.append(way)
            for one, other in pairwise(way):
                links[one].append(other)
                links[other].append(one)
    _order(columns, links)
    places = _stack(columns, boxes)
    lines = [_line([places[key] for key in way], [key in boxes for key in way]) for way in ways]
    bottom = max((y for _, y in places.values()), default=0) + HEIGHT / 2
    for key, box in boxes.items():
        box.x, box.y = places[key][0], places[key][1] - HEIGHT / 2
    return Picture(
        width=2 * MARGIN + len(columns) * (WIDTH + GAP_X) - GAP_X,
        height=bottom + MARGIN,
        boxes=list(boxes.values()),
        lines=lines,
    )


def _order(columns: list[list[str]], links: Mapping[str, Sequence[str]]) -> None:
    """Put what is in a column near its neighbours to the left, then to the right, and again."""
    for sweep in range(SWEEPS):
        rank = {key: at for column in columns for at, key in enumerate(column)}
        forward = sweep % 2 == 0
        span = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
        for at in span:
            beside = set(columns[at - 1 if forward else at + 1])

            def mean(key: str, beside: set[str] = beside, rank: dict[str, int] = rank) -> float:
                near = [rank[one] for one in links.get(key, ()) if one in beside]
                return sum(near) / len(near) if near else rank[key]

            columns[at].sort(key=mean)
            rank |= {key: place for place, key in enumerate(columns[at])}


def _stack(
    columns: Sequence[Sequence[str]], boxes: Mapping[str, Box]
) -> dict[str, tuple[float, float]]:
    """Give each its left edge and its middle; the columns are centred."""

    def height(key: str) -> float:
        return HEIGHT if key in boxes else LANE

    heights = [sum(map(height, column)) + GAP_Y * (len(column) - 1) for column in columns]
    places: dict[str, tuple[float, float]] = {}
    for at, column in enumerate(columns):
        y = MARGIN + (max(heights) - heights[at]) / 2
        for key in column:
            places[key] = (MARGIN + at * (WIDTH + GAP_X), y + height(key) / 2)
            y += height(key) + GAP_Y
    return places


def _line(places: Sequence[tuple[float, float]], is_box: Sequence[bool]) -> str:
    """Draw from the right edge of the first through all places to the left edge of the last."""
    x, y = places[0]
    x += WIDTH
    path = f"M{x:g} {y:g}"
    for (left, middle), stops in zip(places[1:], is_box[1:], strict=True):
        half = (left - x) / 2
        path += f"C{x + half:g} {y:g} {left - half:g} {middle:g} {left:g} {middle:g}"
        x, y = left, middle
        if not stops:
            x += WIDTH
            path += f"H{x:g}"
    return path
