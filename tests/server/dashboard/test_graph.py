"""Where boxes and bars stand."""

from __future__ import annotations

from itertools import combinations
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker_core.server.dashboard.graph import HEIGHT, MOST_BOXES, WIDTH, draw, draw_template
from tasker_core.server.dashboard.timeline import _ticks
from tasker_core.states import StepState, TaskState
from tasker_core.wire.graph import GraphEdge, GraphNode, TaskGraph


def steps(graph: dict[str, list[str]]) -> list[dict[str, object]]:
    return [
        {"name": name, "type": "standard", "dependencies": parents}
        for name, parents in graph.items()
    ]


@st.composite
def graphs(draw_one: st.DrawFn) -> dict[str, list[str]]:
    """Up to twelve steps, each after some of those before it."""
    names = [f"s{n}" for n in range(draw_one(st.integers(1, 12)))]
    return {
        name: sorted(draw_one(st.sets(st.sampled_from(names[:at])))) if at else []
        for at, name in enumerate(names)
    }


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_parents_stand_left_of_their_children_and_nothing_overlaps(
    graph: dict[str, list[str]],
) -> None:
    """And all is within the picture, with a line for each dependency."""
    picture = draw_template(steps(graph))
    boxes = {box.name: box for box in picture.boxes}
    for name, parents in graph.items():
        assert all(boxes[parent].x + WIDTH < boxes[name].x for parent in parents)
    for one, other in combinations(picture.boxes, 2):
        assert one.x != other.x or abs(one.y - other.y) > HEIGHT
    for box in picture.boxes:
        assert 0 <= box.x <= picture.width - WIDTH
        assert 0 <= box.y <= picture.height - HEIGHT
    assert len(picture.lines) == sum(map(len, graph.values()))


def test_many_steps_that_are_alike_are_one_box_in_the_color_of_the_worst() -> None:
    """With their number, and without a link."""
    first, last, *middle = (uuid4() for _ in range(30))
    states = dict.fromkeys((first, last, *middle), StepState.COMPLETE) | {
        middle[3]: StepState.ERROR
    }
    graph = TaskGraph(
        task_uuid=uuid4(),
        name="batch",
        status=TaskState.STEPS_IN_PROCESS,
        nodes=[
            GraphNode(step_uuid=one, name="w", state=states[one], attempts=1, max_attempts=3)
            for one in (first, *middle, last)
        ],
        edges=[
            edge
            for one in middle
            for edge in (GraphEdge(parent=first, child=one), GraphEdge(parent=one, child=last))
        ],
    )
    picture = draw(graph)
    merged = next(box for box in picture.boxes if box.step_uuid is None)
    assert (len(picture.boxes), len(picture.lines)) == (3, 2)
    assert (merged.state, merged.note) == ("error", "28 steps, 27 complete")


def test_what_is_too_large_for_a_picture_is_told() -> None:
    """By the number of boxes that there would be."""
    chain = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(MOST_BOXES + 1)}
    assert draw_template(steps(chain)).left_out == MOST_BOXES + 1


@given(st.floats(0.001, 10**8))
def test_a_timeline_has_a_few_round_numbers(whole: float) -> None:
    """From nought, and none beyond the end."""
    found = list(_ticks(whole))
    assert found[0] == 0
    assert 1 <= len(found) <= 14
    assert found[-1] <= whole * (1 + 1e-9)
