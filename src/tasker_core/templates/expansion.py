"""Which steps a decision or a batch adds to a task that is running.

Pure: from the template, the steps that exist, and what the handler chose, to the
steps and edges that are to be added. The engine adds them in the transaction that
records the handler's result, or not at all.

Source:
    docs/concepts/expand.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be added. Its parents may exist already, or be added with it."""

    step_no: int
    name: str
    template_step: str
    parents: tuple[int, ...]  # ascending
    inputs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rewiring:
    """New parents of a step that exists and has not begun."""

    step_no: int
    add: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()


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
            plan.add(template.step(name), fallback=decision)
    plan.follow(decision)
    if len(plan.expansion.steps) > MAX_STEPS_PER_DECISION:
        raise InvalidExpansion(
            decision,
            f"leads to {len(plan.expansion.steps)} new steps",
            f"at most {MAX_STEPS_PER_DECISION} are created by one decision",
        )
    return plan.expansion


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
        plan.add(definition, name=f"{worker}_{batch_id}", inputs=inputs, fallback=analyzer)
    plan.follow(analyzer)
    return plan.expansion


class _Plan:
    """The steps of a task, those that exist and those that are being added."""

    def __init__(self, template: TaskTemplate, existing: Sequence[ExistingStep]) -> None:
        self.template = template
        self.expansion = Expansion(known_steps=len(existing))
        self.numbers: dict[str, list[int]] = {}  # by the name in the template
        self.names = {step.name for step in existing}
        for step in existing:
            self.numbers.setdefault(step.template_step, []).append(step.step_no)
        self.next_no = 1 + max((step.step_no for step in existing), default=0)
        self.old = set(self.numbers)
        self.new: dict[str, None] = {}  # by the name in the template, in the order of creation

    def add(
        self,
        definition: StepDefinition,
        *,
        fallback: str,
        name: str | None = None,
        inputs: dict[str, Any] | None = None,
    ) -> None:
        """Add a step after all of its dependencies that exist; else after `fallback`."""
        name = name or definition.name
        if name in self.names:
            raise InvalidExpansion(fallback, f"adds {name!r} a second time", "names must differ")
        parents = self.parents(definition) or self.numbers[fallback]
        number = self.next_no
        self.next_no += 1
        self.names.add(name)
        self.new[definition.name] = None
        self.numbers.setdefault(definition.name, []).append(number)
        self.expansion.steps.append(
            NewStep(number, name, definition.name, tuple(sorted(set(parents))), inputs)
        )

    def parents(self, definition: StepDefinition) -> list[int]:
        """Give the numbers of its dependencies that exist, and of analyzers yet to expand."""
        found: list[int] = []
        for dependency in definition.dependencies:
            if dependency in self.numbers:
                found += self.numbers[dependency]
            elif self.template.step(dependency).type == "batch_worker":
                for analyzer in self.template.step(dependency).dependencies:
                    found += self.numbers.get(analyzer, ())
        return found

    def follow(self, origin: str) -> None:
        """Add what comes after the new steps, until nothing more does."""
        grown = True
        while grown:
            grown = False
            for step in self.template.steps:
                if step.name not in self.numbers and self._is_due(step, origin):
                    self.add(step, fallback=origin)
                    grown = True
        self._rewire(origin)
        self._complete_parents(origin)

    def _is_due(self, step: StepDefinition, origin: str) -> bool:
        """Say whether a step that does not exist comes into being now."""
        if step.type == "batch_worker":
            return False
        fresh = [name for name in step.dependencies if name in self.new]
        if step.type == "deferred_convergence":
            return bool(fresh)
        # a plain step waits for decisions that were not made and for convergences that
        # do not exist; it may join branches of which only one was chosen
        return (
            bool(fresh)
            and all(name in self.numbers or self._is_unchosen(name) for name in step.dependencies)
            and not any(self._is_open_gate(name, origin) for name in step.dependencies)
        )

    def _is_open_gate(self, name: str, origin: str) -> bool:
        """Say whether a dependency itself decides what comes after it, and has not yet."""
        return name != origin and name in self.new and self.template.step(name).type == "decision"

    def _is_unchosen(self, name: str) -> bool:
        """Say whether a step that does not exist is a branch that was not taken."""
        return self.template.step(name).type in ("standard", "batchable", "decision")

    def _rewire(self, origin: str) -> None:
        """Let convergences that exist wait for the new steps too."""
        for step in self.template.steps:
            if step.type != "deferred_convergence" or step.name not in self.old:
                continue
            add = [
                number
                for name in step.dependencies
                if name in self.new
                for number in self.numbers[name]
                if number > self.expansion.known_steps
            ]
            if not add:
                continue
            stands_in = {
                number
                for name in step.dependencies
                if self.template.step(name).type == "batch_worker" and name in self.new
                for number in self.numbers[origin]
            }
            keeps = {number for name in step.dependencies for number in self.numbers.get(name, ())}
            for number in self.numbers[step.name]:
                self.expansion.rewirings.append(
                    Rewiring(number, tuple(sorted(set(add))), tuple(sorted(stands_in - keeps)))
                )

    def _complete_parents(self, origin: str) -> None:
        """Give each new step also the parents that were planned after it."""
        for at, step in enumerate(self.expansion.steps):
            definition = self.template.step(step.template_step)
            parents = set(self.parents(definition)) or set(self.numbers[origin])
            if parents != set(step.parents):
                self.expansion.steps[at] = NewStep(
                    step.step_no,
                    step.name,
                    step.template_step,
                    tuple(sorted(parents)),
                    step.inputs,
                )


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
