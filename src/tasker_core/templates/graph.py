"""Which steps exist at creation, in which order, and who waits for whom.

Pure functions, linear in steps and edges, without recursion: a chain of ten
thousand steps and a million edges are ordinary. And versions, put in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from tasker_core.templates.model import TaskTemplate

Dependencies = Mapping[str, Sequence[str]]

# Below these, steps are created while the task runs, once it is known which.
_GATES = frozenset({"decision", "batch_worker", "deferred_convergence"})
_NEVER_AT_CREATION = frozenset({"batch_worker", "deferred_convergence"})


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step that exists from the creation of the task on."""

    step_no: int  # from 1, parents before children
    name: str
    parents: tuple[int, ...]  # step numbers, ascending
    children: tuple[int, ...]
    depth: int  # steps on the longest way here; 0 waits for nobody


def initial_steps(template: TaskTemplate) -> tuple[PlannedStep, ...]:
    """Plan the steps that exist when a task is created.

    A step exists from the start unless it is a batch worker or a deferred
    convergence, or comes after one, or comes after a decision.
    Parents come before children; where that leaves a choice, the file's order holds.

    Source:
        docs/concepts/create.md, "Which steps exist at creation".
    """
    types = {step.name: step.type for step in template.steps}
    dependencies = {step.name: step.dependencies for step in template.steps}
    number: dict[str, int] = {}
    parents: list[tuple[int, ...]] = []
    children: list[list[int]] = []
    depths: list[int] = []
    for name in topological_order(dependencies):
        above = dependencies[name]
        if types[name] in _NEVER_AT_CREATION or not all(
            parent in number and types[parent] not in _GATES for parent in above
        ):
            continue
        number[name] = len(number) + 1
        parents.append(tuple(sorted(number[parent] for parent in above)))
        children.append([])
        depths.append(1 + max((depths[parent - 1] for parent in parents[-1]), default=-1))
        for parent in parents[-1]:
            children[parent - 1].append(number[name])
    return tuple(
        PlannedStep(step_no, name, parents[at], tuple(children[at]), depths[at])
        for at, (name, step_no) in enumerate(number.items())
    )


def ancestors(template: TaskTemplate, step_name: str) -> frozenset[str]:
    """Give every step that must be done before this one, directly or not.

    Raises:
        KeyError: The template has no such step.
    """
    found = set(template.step(step_name).dependencies)
    todo = list(found)
    while todo:
        new = set(template.step(todo.pop()).dependencies) - found
        found |= new
        todo.extend(new)
    return frozenset(found)


def topological_order(dependencies: Dependencies) -> list[str]:
    """Put every step after its dependencies, otherwise in the order given.

    Raises:
        ValueError: Some steps wait for each other in a ring, or for a stranger.
    """
    names = list(dependencies)
    position = {name: at for at, name in enumerate(names)}
    children: list[list[int]] = [[] for _ in names]
    left = [0] * len(names)
    for at, parents in enumerate(dependencies.values()):
        for parent in set(parents):
            if parent not in position:
                raise ValueError(f"{names[at]} depends on {parent}, which does not exist")
            children[position[parent]].append(at)
            left[at] += 1
    ready = [at for at, count in enumerate(left) if count == 0]
    heapify(ready)
    order = []
    while ready:
        at = heappop(ready)
        order.append(names[at])
        for child in children[at]:
            left[child] -= 1
            if left[child] == 0:
                heappush(ready, child)
    if len(order) < len(names):
        raise ValueError("some steps wait for each other in a ring")
    return order


def find_cycles(dependencies: Dependencies, *, limit: int = 100) -> list[tuple[str, ...]]:
    """Find rings of steps that wait for each other, one for each edge that closes one.

    Each depends on the next, and the last on the first; a step that depends on
    itself is a ring of one. Names that are no step are passed over. The search ends
    at `limit` rings: steps that all wait for each other have more than anyone reads.

    >>> find_cycles({"a": ["b"], "b": ["c"], "c": ["b"]})
    [('b', 'c')]
    """
    rings: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in dependencies:
        if start in done:
            continue
        path = {start: 0}  # the steps being looked into, and how deep each stands
        stack = [iter(dependencies[start])]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                done.add(path.popitem()[0])
            elif name in path:
                rings.append(tuple(path)[path[name] :])
                if len(rings) == limit:
                    return rings
            elif name in dependencies and name not in done:
                path[name] = len(path)
                stack.append(iter(dependencies[name]))
    return rings


# --- versions --------------------------------------------------------------------------

_NUMBER = r"(0|[1-9]\d*)"
_WORD = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_WORD}(?:\.{_WORD})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


def is_semver(version: str) -> bool:
    """Tell whether a version reads major.minor.patch, perhaps with -pre and +build.

    >>> is_semver("1.10.0-rc.1"), is_semver("1.0")
    (True, False)
    """
    return _SEMVER.fullmatch(version) is not None


def version_sort_key(version: str) -> str:
    r"""Give a text whose order, byte by byte, is the order of versions.

    Compare it under the collation "C". Build metadata has no part in it.

    Raises:
        ValueError: The version is not semver.

    >>> sorted(["1.10.0", "1.9.0", "1.10.0-rc.1"], key=version_sort_key)
    ['1.9.0', '1.10.0-rc.1', '1.10.0']
    """
    match = _SEMVER.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version such as 1.0.0")
    *core, pre = match.groups()
    key = "".join(_sortable(number) for number in core)
    if pre is None:
        return key + "~"  # a release comes after its candidates
    # "!" is less than all that a word may hold: rc < rc.1 < rc-1
    return key + "-" + "!".join(_sortable_word(word) for word in pre.split("."))


def _sortable(number: str) -> str:
    """Longer numbers are greater, and numbers of one length compare as text."""
    return f"{len(number):03d}{number}"


def _sortable_word(word: str) -> str:
    return "0" + _sortable(word) if word.isdigit() else "1" + word
