"""The diagrams of docs/concepts/states.md are the table of states.py, no arrow more or less."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from tasker_core.states import (
    STEP_TERMINAL,
    STEP_TRANSITIONS,
    TASK_TERMINAL,
    TASK_TRANSITIONS,
    StepState,
    TaskState,
)

PAGE = (Path(__file__).parents[2] / "docs/concepts/states.md").read_text(encoding="utf-8")

Edge = tuple[str | None, str]

KINDS = [
    pytest.param("A step", StepState, STEP_TRANSITIONS, STEP_TERMINAL, id="steps"),
    pytest.param("A task", TaskState, TASK_TRANSITIONS, TASK_TERMINAL, id="tasks"),
]


def section(title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def drawn(text: str) -> list[Edge]:
    """Read a diagram; an arrow from a box is one from each state in it, `[*]` is None."""
    found = re.search(r"^```mermaid\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    boxes: dict[str, set[str]] = {}
    arrows: list[tuple[str, str]] = []
    box = None
    for line in map(str.strip, found[1].splitlines()):
        if opened := re.fullmatch(r"state (\w+) \{", line):
            box = opened[1]
            boxes[box] = set()
        elif line == "}":
            box = None
        elif arrow := re.fullmatch(r"(\[\*\]|\w+) --> (\w+)", line):
            arrows.append((arrow[1], arrow[2]))
            if box:
                boxes[box] |= {arrow[1], arrow[2]} - {"[*]"}
        else:
            assert line == "stateDiagram-v2", line
    return [
        (None if source == "[*]" else source, target)
        for begin, target in arrows
        for source in sorted(boxes.get(begin, {begin}))
    ]


def legal(transitions: Mapping[StrEnum | None, Iterable[StrEnum]]) -> list[Edge]:
    return [
        (None if source is None else str(source), str(target))
        for source, targets in transitions.items()
        for target in targets
    ]


@pytest.mark.parametrize(("title", "states", "transitions", "terminal"), KINDS)
def test_the_diagram_is_the_table(title, states, transitions, terminal):
    """Every legal move is drawn once, and nothing else."""
    arrows = drawn(section(title))

    assert len(arrows) == len(set(arrows))
    assert set(arrows) == set(legal(transitions))


@pytest.mark.parametrize(("title", "states", "transitions", "terminal"), KINDS)
def test_every_state_has_a_meaning(title, states, transitions, terminal):
    """The states that are stored are told in the order of the code, the others in one place."""
    meanings = section(title).split("```")[2].split("\n\n")
    told = next(part for part in meanings if part.startswith(("| state", "\n| state")))
    named = re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)
    stored = [str(state) for state in states if state in transitions]

    assert sorted(named) == sorted(stored)
    rest = section("Words that are legal and never stored")
    for state in states:
        assert (f"`{state}`" in rest) == (state not in transitions)


@pytest.mark.parametrize(("title", "states", "transitions", "terminal"), KINDS)
def test_final_states_are_those_of_the_code(title, states, transitions, terminal):
    """The sentence about final states names all of them."""
    sentence = next(
        line
        for line in section(title).splitlines()
        if re.match(r"`\w+`, .*(final|end a task)", line)
    )
    assert {str(state) for state in terminal} == set(
        re.findall(r"`(\w+)`", re.split(r"are final|end a task", sentence)[0])
    )


@pytest.mark.parametrize(("title", "states", "transitions", "terminal"), KINDS)
def test_moves_that_are_told_are_legal(title, states, transitions, terminal):
    """Each row `a` → `b` of the tables of moves."""
    moves = re.findall(r"^\| `(\w+)` → `(\w+)`", section(title), re.MULTILINE)

    assert moves
    assert set(moves) <= set(legal(transitions))
