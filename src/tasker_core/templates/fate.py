"""What becomes of the steps that a task does not have yet.

A step that is missing exists from now on, or may come, or never will. Which of the
three, is read off the template, the steps that exist, the gates that are open and
what the decisions chose; so it does not matter in which order the gates ended.

A *gate* is a decision or a batchable step: while it is open, which is until it has
ended, nobody knows what it will add.

Source:
    docs/concepts/expand.md, "Which steps come into being".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tasker_core.templates.graph import initial_steps, topological_order
from tasker_core.templates.model import StepDefinition, TaskTemplate

GATES = frozenset({"decision", "batchable"})
# A veto goes no further than this: what comes after is not the decision's own to choose.
_ENDS_OF_SEGMENTS = frozenset({"deferred_convergence", "batch_worker"})


@dataclass(slots=True)
class Course:
    """How far a task has come. Steps by their names in the template."""

    existing: set[str]
    open_gates: set[str]  # of those that exist
    chosen: Mapping[str, tuple[str, ...]]  # by decision, each that has ended


@dataclass(slots=True)
class _Fate:
    """What becomes of one step. Sets of decisions are bits of a number."""

    exists: bool = False
    may_come: bool = False  # of a batch worker: one more of its steps
    follows: int = 0  # the decisions whose choice it is, or comes after
    may_follow: int = 0  # those, and the ones that may yet lead here
    left_out_by: int = 0  # why it never comes


def steps_due(template: TaskTemplate, course: Course) -> Iterator[str]:
    """Name the steps that are to be added now, parents before children.

    The steps are looked at once, in the order of the graph. While this is read,
    `course` gains the steps that were named; a gate among them is open.
    """
    return _Fates(template, course, _initial(template)).due(in_order(template))


def steps_that_may_come(template: TaskTemplate, course: Course) -> list[str]:
    """Name the steps of which it is not known yet whether they come, parents before children.

    Of a batch worker it is known when its analyzer has ended.
    """
    fates = _Fates(template, course, _initial(template))
    order = in_order(template)
    for _ in fates.due(order):
        pass
    return [name for name in order if fates.fates[name].may_come]


@lru_cache(maxsize=64)
def in_order(template: TaskTemplate) -> tuple[str, ...]:
    """Name the steps, parents before children."""
    return tuple(topological_order({step.name: step.dependencies for step in template.steps}))


@lru_cache(maxsize=64)
def _initial(template: TaskTemplate) -> frozenset[str]:
    return frozenset(step.name for step in initial_steps(template))


class _Fates:
    def __init__(self, template: TaskTemplate, course: Course, initial: frozenset[str]) -> None:
        self.template = template
        self.course = course
        self.initial = initial
        self.bit = {decision: 1 << at for at, decision in enumerate(course.chosen)}
        self.chosen_by: dict[str, int] = {}
        for decision, names in course.chosen.items():
            for name in names:
                self.chosen_by[name] = self.chosen_by.get(name, 0) | self.bit[decision]
        self.fates: dict[str, _Fate] = {}

    def due(self, order: tuple[str, ...]) -> Iterator[str]:
        for name in order:
            step = self.template.step(name)
            fate = self.fates[name] = self._followed(step)
            if step.type == "batch_worker":
                fate.exists = name in self.course.existing
                fate.may_come = self._may_be_cut(step)
                continue
            if name in self.course.existing:
                fate.exists = True
                continue
            if step.type == "deferred_convergence":
                fate.may_come = any(self.fates[above].may_come for above in step.dependencies)
                fate.exists = not fate.may_come and self._comes_after_a_new_one(step)
            else:
                self._decide_plain(step, fate)
            if fate.exists:
                self.course.existing.add(name)
                if step.type in GATES:
                    self.course.open_gates.add(name)
                yield name

    def _followed(self, step: StepDefinition) -> _Fate:
        """See which decisions lead to a step, if it comes into being."""
        follows = may_follow = self.chosen_by.get(step.name, 0)
        for dependency in step.dependencies:
            above = self.fates[dependency]
            if above.exists:
                follows |= above.follows
            if above.exists or above.may_come:
                may_follow |= above.may_follow
        return _Fate(follows=follows, may_follow=may_follow)

    def _decide_plain(self, step: StepDefinition, fate: _Fate) -> None:
        """A plain step comes when nothing that it waits for may come any more.

        A decision that has ended, and did not choose it, has left it out, unless it
        comes after something else that this decision chose. So has one that left
        out what it depends on.
        """
        waits = False
        left_out_by = 0
        for dependency in step.dependencies:
            above = self.fates[dependency]
            kind = self.template.step(dependency).type
            if above.may_come or (kind == "decision" and dependency in self.course.open_gates):
                waits = True
            elif above.exists and kind == "decision":
                left_out_by |= self.bit[dependency]
            elif not above.exists and kind not in _ENDS_OF_SEGMENTS:
                left_out_by |= above.left_out_by
        fate.left_out_by = left_out_by & ~fate.follows
        if waits or fate.left_out_by & fate.may_follow:
            fate.may_come = True  # even if it is left out for sure: by whom, matters below it
        elif not fate.left_out_by:
            fate.exists = step.name in self.chosen_by or self._comes_after_a_new_one(step)

    def _comes_after_a_new_one(self, step: StepDefinition) -> bool:
        """Say whether a dependency exists that the task did not begin with."""
        return any(
            self.fates[name].exists and name not in self.initial for name in step.dependencies
        )

    def _may_be_cut(self, worker: StepDefinition) -> bool:
        return any(
            self.fates[name].may_come or name in self.course.open_gates
            for name in worker.dependencies
            if self.template.step(name).type == "batchable"
        )
