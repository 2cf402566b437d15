"""Which steps a decision or a batch adds to a task that is running.

Pure: from the template, the steps that exist, and what the handler chose, to the
steps and edges that are to be added. The engine adds them in the transaction that
records the handler's result, or not at all.

Source:
    docs/concepts/expand.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasker_core.errors import InvalidExpansion
from tasker_core.templates.model import StepDefinition, TaskTemplate

MAX_STEPS_PER_DECISION = 100


@dataclass(frozen=True, slots=True)
class ExistingStep:
    """A step that the task has."""

    step_no: int
    name: str
    template_step: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be added. Its parents may exist already, or be added with it."""

    step_no: int
    name: str
    template_step: str
    parents: tuple[int, ...]  # ascending
    children: tuple[int, ...] = ()  # ascending
    inputs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rewiring:
    """What a step that exists gains and loses."""

    step_no: int
    gains_parents: tuple[int, ...] = ()
    loses_parents: tuple[int, ...] = ()
    gains_children: tuple[int, ...] = ()
    loses_children: tuple[int, ...] = ()


@dataclass(slots=True)
class Expansion:
    """What is to be added to a task that had `known_steps` steps when this was planned."""

    known_steps: int
    steps: list[NewStep] = field(default_factory=list)
    rewirings: list[Rewiring] = field(default_factory=list)


def expand_decision(
    template: TaskTemplate,
    existing: Sequence[ExistingStep],
    decision: str,
    chosen: Iterable[str],
) -> Expansion:
    """Plan what follows from a decision.

    Created are the chosen steps; what comes after them, up to the next decision; a
    convergence that waits for any of them, for exactly those of its dependencies that
    exist; and what comes after that.

    Args:
        decision: The decision step, by its name in the template.
        chosen: Names of steps below it; the same name twice counts once.

    Raises:
        InvalidExpansion: A name is not a step that this decision leads to, or too many
            steps would be created.
    """
    names = list(dict.fromkeys(chosen))
    reachable = _reachable(template, decision)
    for name in names:
        if name not in reachable:
            raise InvalidExpansion(decision, f"chose {name!r}", _advice(reachable))
    plan = _Plan(template, existing)
    for name in names:
        if name not in plan.numbers:
            plan.add(template.step(name), name)
    expansion = plan.follow(decision)
    if len(expansion.steps) > MAX_STEPS_PER_DECISION:
        raise InvalidExpansion(
            decision,
            f"leads to {len(expansion.steps)} new steps",
            f"at most {MAX_STEPS_PER_DECISION} are created by one decision",
        )
    return expansion


def expand_batch(
    template: TaskTemplate,
    existing: Sequence[ExistingStep],
    analyzer: str,
    worker: str,
    instances: Mapping[str, dict[str, Any]],
) -> Expansion:
    """Plan the workers of a batch, the convergences that wait for them, and what follows.

    Args:
        analyzer: The batchable step, by its name in the template.
        worker: The batch worker's name in the template.
        instances: Batch id → inputs, in order: `{"001": {"cursor": {…}, …}}`.

    Raises:
        InvalidExpansion: `worker` is not a batch worker that depends on the analyzer.
    """
    workers = [
        step.name
        for step in template.steps
        if step.type == "batch_worker" and analyzer in step.dependencies
    ]
    if worker not in workers:
        raise InvalidExpansion(analyzer, f"names the batch worker {worker!r}", _advice(workers))
    plan = _Plan(template, existing)
    definition = template.step(worker)
    for batch_id, inputs in instances.items():
        plan.add(definition, f"{worker}_{batch_id}", inputs)
    return plan.follow(analyzer)


class _Plan:
    """The steps of a task, those that exist and those that are being added."""

    def __init__(self, template: TaskTemplate, existing: Sequence[ExistingStep]) -> None:
        self.template = template
        self.known_steps = len(existing)
        self.names = {step.name for step in existing}
        self.numbers: dict[str, list[int]] = {}  # by the name in the template
        self.parents = {step.step_no: step.parents for step in existing}
        for step in existing:
            self.numbers.setdefault(step.template_step, []).append(step.step_no)
        self.old = frozenset(self.numbers)
        self.new: set[str] = set()  # names in the template
        self.added: list[tuple[int, str, StepDefinition, dict[str, Any] | None]] = []

    def add(
        self, definition: StepDefinition, name: str, inputs: dict[str, Any] | None = None
    ) -> None:
        """Add a step; whom it waits for is seen when everything is there."""
        if name in self.names:
            raise InvalidExpansion(definition.name, f"exists already as {name!r}", "rename one")
        number = self.known_steps + len(self.added) + 1
        self.names.add(name)
        self.new.add(definition.name)
        self.numbers.setdefault(definition.name, []).append(number)
        self.added.append((number, name, definition, inputs))

    def follow(self, origin: str) -> Expansion:
        """Add what comes after the new steps, until nothing more does; then link everything."""
        grown = True
        while grown:
            grown = False
            for step in self.template.steps:
                if step.name not in self.numbers and self._is_due(step, origin):
                    self.add(step, step.name)
                    grown = True
        return self._link(origin)

    def _is_due(self, step: StepDefinition, origin: str) -> bool:
        """Say whether a step that does not exist comes into being now."""
        if step.type == "batch_worker" or not self.new.intersection(step.dependencies):
            return False
        if step.type == "deferred_convergence":
            return True
        return all(self._lets_through(name, origin) for name in step.dependencies)

    def _lets_through(self, dependency: str, origin: str) -> bool:
        """Say whether a plain step need not wait for this dependency to come into being.

        A decision that has not been made decides itself what comes after it; a
        convergence and a batch must be there; a branch that was not taken never will be.
        """
        kind = self.template.step(dependency).type
        if kind == "decision":
            return dependency == origin or dependency not in self.new
        return dependency in self.numbers or kind in ("standard", "batchable")

    def _link(self, origin: str) -> Expansion:
        gains: dict[int, Rewiring] = {}
        children: dict[int, list[int]] = {}
        new_parents: dict[int, tuple[int, ...]] = {}
        for number, _, definition, _ in self.added:
            parents = self._parents(definition, origin) or set(self.numbers[origin])
            new_parents[number] = tuple(sorted(parents))
            for parent in parents:
                children.setdefault(parent, []).append(number)
        for rewiring in self._waiting_for_more(origin):
            gains[rewiring.step_no] = rewiring
            for parent in rewiring.gains_parents:
                children.setdefault(parent, []).append(rewiring.step_no)
            for parent in rewiring.loses_parents:
                lost = gains.get(parent, Rewiring(parent))
                gains[parent] = replace(
                    lost, loses_children=(*lost.loses_children, rewiring.step_no)
                )
        for parent, own in children.items():
            if parent <= self.known_steps:
                before = gains.get(parent, Rewiring(parent))
                gains[parent] = replace(before, gains_children=tuple(sorted(own)))
        steps = [
            NewStep(
                number,
                name,
                definition.name,
                new_parents[number],
                tuple(sorted(children.get(number, ()))),
                inputs,
            )
            for number, name, definition, inputs in self.added
        ]
        return Expansion(self.known_steps, steps, sorted(gains.values(), key=lambda r: r.step_no))

    def _parents(self, definition: StepDefinition, origin: str) -> set[int]:
        """Give the numbers of its dependencies, and of analyzers that have yet to expand."""
        found: set[int] = set()
        for dependency in definition.dependencies:
            kind = self.template.step(dependency).type
            if definition.type == "batch_worker" and kind == "batchable" and dependency != origin:
                continue  # this instance is of another analyzer
            found.update(self.numbers.get(dependency, ()))
            if kind == "batch_worker":
                found.update(self._waiting_analyzers(dependency, origin))
        return found

    def _waiting_analyzers(self, worker: str, origin: str) -> set[int]:
        """Give the numbers of the analyzers of a batch worker that made none of it yet."""
        expanded = set(self.numbers[origin])
        for number in self.numbers.get(worker, ()):
            expanded.update(self.parents.get(number, ()))
        return {
            number
            for analyzer in self.template.step(worker).dependencies
            if self.template.step(analyzer).type == "batchable"
            for number in self.numbers.get(analyzer, ())
            if number not in expanded
        }

    def _waiting_for_more(self, origin: str) -> Iterator[Rewiring]:
        """Let convergences that exist wait for the new steps too.

        Where one waited for the analyzer in place of its workers, the workers take over.
        """
        for step in self.template.steps:
            fresh = self.new.intersection(step.dependencies)
            if step.type != "deferred_convergence" or step.name not in self.old or not fresh:
                continue
            gains = {
                number
                for name in fresh
                for number in self.numbers[name]
                if number > self.known_steps
            }
            for number in self.numbers[step.name]:
                loses = self._relieved(step, number, origin)
                yield Rewiring(number, tuple(sorted(gains)), tuple(sorted(loses)))

    def _relieved(self, step: StepDefinition, number: int, origin: str) -> set[int]:
        """Say whether the analyzer stood in for its workers, and is relieved by them."""
        if origin in step.dependencies:
            return set()
        return set(self.numbers[origin]).intersection(self.parents[number])


def _reachable(template: TaskTemplate, decision: str) -> list[str]:
    """Name the steps below a decision, as far as the next gate."""
    below: list[str] = []
    seen = {decision}
    grown = True
    while grown:
        grown = False
        for step in template.steps:
            if step.name in seen or step.type in ("deferred_convergence", "batch_worker"):
                continue
            parents = [name for name in step.dependencies if name in seen]
            if any(name == decision or template.step(name).type != "decision" for name in parents):
                seen.add(step.name)
                below.append(step.name)
                grown = True
    return below


def _advice(names: Sequence[str]) -> str:
    return f"it leads to: {', '.join(names)}" if names else "it leads to no step"
