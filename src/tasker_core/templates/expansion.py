"""Which steps a decision or a batch adds to a task that is running.

Pure: from the template, the steps that exist, and what the handler chose, to the
steps and edges that are to be added. The engine adds them in the transaction that
records the handler's result, or not at all. Which steps are due is said in fate.py;
here they get their numbers, and it is settled who waits for whom.

Source:
    docs/concepts/expand.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasker_core.errors import InvalidExpansion
from tasker_core.templates.bounds import (
    DEEP_DECISION,
    MANY_STEPS_PER_DECISION,
    MAX_BATCHES,
    MAX_DECISION_DEPTH,
    MAX_STEPS,
    MAX_STEPS_PER_DECISION,
    decision_depths,
)
from tasker_core.templates.fate import GATES, Course, in_order, steps_due
from tasker_core.templates.model import BatchConfig, StepDefinition, TaskTemplate


@dataclass(frozen=True, slots=True)
class ExistingStep:
    """A step that the task has."""

    step_no: int
    name: str
    template_step: str
    is_open: bool  # it has not ended
    chosen: tuple[str, ...] = ()  # by a decision that has ended


@dataclass(frozen=True, slots=True)
class Place:
    """What a batch worker has to do with those beside it."""

    batch_of: int  # the analyzer's number
    parallelism: int
    failure_strategy: str
    is_held: bool  # as many as may run at a time come before it


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be added. Its parents may exist already, or be added with it."""

    step_no: int
    name: str
    template_step: str
    parents: tuple[int, ...]  # ascending
    children: tuple[int, ...] = ()  # ascending
    inputs: dict[str, Any] | None = None
    place: Place | None = None  # of a batch worker


@dataclass(slots=True)
class Expansion:
    """What is to be added to a task that had `known_steps` steps when this was planned."""

    known_steps: int
    open_gates: tuple[int, ...] = ()  # those that were open then, but for the one that ends
    steps: list[NewStep] = field(default_factory=list)
    new_children: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of those known
    warnings: list[str] = field(default_factory=list)  # which limits it comes near


def expand_decision(
    template: TaskTemplate,
    existing: Sequence[ExistingStep],
    decision: str,
    chosen: Iterable[str],
) -> Expansion:
    """Plan what follows from a decision.

    Created are the chosen steps; what comes after them, up to the next decision; a
    convergence of any of them, which waits for exactly those of its dependencies that
    exist; and what comes after that. What waits for something that may yet come is
    created when it is known whether it does.

    Args:
        decision: The decision step, by its name in the template.
        chosen: Names of steps below it; the same name twice counts once.

    Raises:
        InvalidExpansion: A name is not a step that this decision leads to, or more is
            asked for than the limits allow.
    """
    names = tuple(dict.fromkeys(chosen))
    reachable = steps_below(template, decision) if names else []
    for name in names:
        if name not in reachable:
            raise InvalidExpansion(decision, f"chose {name!r}", _advice(reachable))
    plan = _Plan(template, existing, decision, names)
    if not names:
        return plan.follow()
    expansion = plan.follow(limit=MAX_STEPS_PER_DECISION)
    if (count := len(expansion.steps)) >= MANY_STEPS_PER_DECISION:
        expansion.warnings.append(f"added {count} steps, of {MAX_STEPS_PER_DECISION} that it may")
    return expansion


def expand_batch(
    template: TaskTemplate,
    existing: Sequence[ExistingStep],
    analyzer: str,
    worker: str,
    instances: Mapping[str, dict[str, Any]],
    config: BatchConfig,
) -> Expansion:
    """Plan the workers of a batch, the convergences that wait for them, and what follows.

    Args:
        analyzer: The batchable step, by its name in the template.
        worker: The batch worker's name in the template.
        instances: Batch id → inputs, in order: `{"001": {"cursor": {…}, …}}`.
        config: How many of them run at a time, and what becomes of them when one fails.

    Raises:
        InvalidExpansion: `worker` is not a batch worker that depends on the analyzer, or
            more is asked for than the limits allow.
    """
    if len(instances) > MAX_BATCHES:
        raise InvalidExpansion(
            analyzer,
            f"cuts the work into {len(instances)} batches",
            f"at most {MAX_BATCHES} are allowed: cut larger ones",
        )
    workers = [
        step.name
        for step in template.steps
        if step.type == "batch_worker" and analyzer in step.dependencies
    ]
    if worker not in workers:
        raise InvalidExpansion(analyzer, f"names the batch worker {worker!r}", _advice(workers))
    plan = _Plan(template, existing, analyzer)
    definition = template.step(worker)
    (origin,) = plan.numbers[analyzer]
    for index, (batch_id, inputs) in enumerate(instances.items()):
        is_held = index >= config.parallelism
        place = Place(origin, config.parallelism, config.failure_strategy, is_held)
        plan.add(definition, f"{worker}_{batch_id}", inputs, place)
    return plan.follow()


def expand_nothing(
    template: TaskTemplate, existing: Sequence[ExistingStep], gate: str
) -> Expansion:
    """Plan what has waited for a decision or a batch that now adds nothing itself."""
    return _Plan(template, existing, gate).follow()


class _Plan:
    """The steps of a task, those that exist and those that are being added."""

    def __init__(
        self,
        template: TaskTemplate,
        existing: Sequence[ExistingStep],
        origin: str,
        chosen: tuple[str, ...] = (),
    ) -> None:
        self.template = template
        self.origin = origin
        self.known_steps = len(existing)
        self.names = {step.name for step in existing}
        self.numbers: dict[str, list[int]] = {}  # by the name in the template
        self.open_gates: dict[str, int] = {}
        self.chosen: dict[str, tuple[str, ...]] = {}
        for step in existing:
            self.numbers.setdefault(step.template_step, []).append(step.step_no)
            kind = template.step(step.template_step).type
            if kind in GATES and step.is_open and step.template_step != origin:
                self.open_gates[step.template_step] = step.step_no
            elif kind == "decision":
                self.chosen[step.template_step] = step.chosen
        if template.step(origin).type == "decision":
            self.chosen[origin] = chosen
        self.added: list[NewStep] = []

    def add(
        self,
        definition: StepDefinition,
        name: str,
        inputs: dict[str, Any] | None = None,
        place: Place | None = None,
    ) -> None:
        """Add a step; whom it waits for is seen when everything is there."""
        if name in self.names:
            raise InvalidExpansion(definition.name, f"exists already as {name!r}", "rename one")
        number = self.known_steps + len(self.added) + 1
        if number > MAX_STEPS:
            raise InvalidExpansion(
                self.origin, "adds more steps than a task can number", f"it has at most {MAX_STEPS}"
            )
        self.names.add(name)
        self.numbers.setdefault(definition.name, []).append(number)
        self.added.append(NewStep(number, name, definition.name, (), (), inputs, place))

    def follow(self, limit: int | None = None) -> Expansion:
        """Add every step that is due; then link everything."""
        course = Course(set(self.numbers), set(self.open_gates), self.chosen)
        for name in steps_due(self.template, course):
            self.add(self.template.step(name), name)
            if limit is not None and len(self.added) > limit:
                raise InvalidExpansion(
                    self.origin,
                    f"leads to more than {limit} new steps",
                    f"at most {limit} are created by one decision",
                )
        expansion = self._link()
        self._check_depth(expansion)
        return expansion

    def _check_depth(self, expansion: Expansion) -> None:
        """See how many decisions lead to those that are added."""
        names = [new.template_step for new in self.added]
        added = [name for name in names if self.template.step(name).type == "decision"]
        if not added:
            return
        present = [name for name in in_order(self.template) if name in self.numbers]
        parents = {name: self._parent_names(self.template.step(name)) for name in present}
        decisions = {name for name in parents if self.template.step(name).type == "decision"}
        depths = decision_depths(parents, decisions)
        deepest = max(added, key=lambda name: depths[name])
        if depths[deepest] > MAX_DECISION_DEPTH:
            raise InvalidExpansion(
                self.origin,
                f"leads to the decision {deepest!r}, number {depths[deepest]} in a row",
                f"at most {MAX_DECISION_DEPTH} may follow from each other",
            )
        if depths[deepest] > DEEP_DECISION:
            expansion.warnings.append(
                f"added the decision {deepest!r}, number {depths[deepest]} in a row, "
                f"of {MAX_DECISION_DEPTH} that there may be"
            )

    def _parent_names(self, definition: StepDefinition) -> list[str]:
        """Name its dependencies that exist, or else the decisions that chose it."""
        existing = [name for name in definition.dependencies if name in self.numbers]
        return existing or self._deciders(definition)

    def _deciders(self, definition: StepDefinition) -> list[str]:
        return [name for name, chosen in self.chosen.items() if definition.name in chosen]

    def _link(self) -> Expansion:
        children: dict[int, list[int]] = {}
        parents = [self._parents(self.template.step(new.template_step)) for new in self.added]
        for new, above in zip(self.added, parents, strict=True):
            for parent in above:
                children.setdefault(parent, []).append(new.step_no)
        steps = [
            replace(new, parents=above, children=tuple(children.get(new.step_no, ())))
            for new, above in zip(self.added, parents, strict=True)
        ]
        known = {step: tuple(own) for step, own in children.items() if step <= self.known_steps}
        return Expansion(self.known_steps, tuple(sorted(self.open_gates.values())), steps, known)

    def _parents(self, definition: StepDefinition) -> tuple[int, ...]:
        """Give the numbers of its dependencies, or else of the decisions that chose it."""
        found: set[int] = set()
        for dependency in definition.dependencies:
            kind = self.template.step(dependency).type
            if definition.type == "batch_worker" and kind == "batchable":
                if dependency == self.origin:  # else this instance is of another analyzer
                    found.update(self.numbers[dependency])
                continue
            found.update(self.numbers.get(dependency, ()))
        if not found:
            for decision in self._deciders(definition):
                found.update(self.numbers[decision])
        return tuple(sorted(found))


def steps_below(template: TaskTemplate, decision: str) -> list[str]:
    """Name the steps below a decision, as far as the next gate."""
    below: list[str] = []
    seen = {decision}
    for name in in_order(template):
        step = template.step(name)
        if step.type in ("deferred_convergence", "batch_worker"):
            continue
        if any(
            parent == decision or (parent in seen and template.step(parent).type != "decision")
            for parent in step.dependencies
        ):
            seen.add(name)
            below.append(name)
    return below


def _advice(names: Sequence[str]) -> str:
    return f"it leads to: {', '.join(names)}" if names else "it leads to no step"
