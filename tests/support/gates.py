"""Random templates with decisions and batches in them, and what their handlers say."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tasker_core.templates.expansion import steps_below
from tasker_core.templates.model import TaskTemplate

KINDS = ("standard", "standard", "standard", "decision", "batchable", "deferred_convergence")


@dataclass(frozen=True)
class Says:
    """What the handlers of a template's gates return, in whatever order they run."""

    chosen: dict[str, tuple[str, ...]]
    batches: dict[str, int]  # by analyzer; 0: nothing to do

    def result(self, name: str) -> dict[str, Any]:
        """Write the result of a decision or of a batchable step; of any other, nothing."""
        if name in self.chosen:
            outcome = {"type": "create_steps", "step_names": list(self.chosen[name])}
            return {"decision_point_outcome": outcome}
        if not self.batches.get(name):
            return {"batch_processing_outcome": {"type": "no_batches"}}
        cursors = [{"batch_id": batch_id} for batch_id in self.batch_ids(name)]
        worker = f"{name}_work"
        outcome = {
            "type": "create_batches",
            "worker_template_name": worker,
            "cursor_configs": cursors,
        }
        return {"batch_processing_outcome": outcome}

    def batch_ids(self, name: str) -> list[str]:
        return [f"{number}" for number in range(self.batches[name])]


def random_template(random: Random, size: int) -> TaskTemplate:
    """Draw a template of valid steps, in any order of the file."""
    steps = [_step("s0")]
    added: set[str] = set()  # steps that no task begins with
    while len(steps) < size:
        name = f"s{len(steps)}"
        kind = random.choice(KINDS)
        above = [step for step in steps if step["type"] != "batch_worker" or kind == KINDS[-1]]
        parents = random.sample(above, min(len(above), random.choice((1, 1, 2, 2, 3))))
        names = [parent["name"] for parent in parents]
        if kind == "deferred_convergence" and added.isdisjoint(names):
            kind = "standard"
            names = [parent["name"] for parent in parents if parent["type"] != "batch_worker"]
            names = names or ["s0"]
        steps.append(_step(name, names, kind))
        if kind == "deferred_convergence" or any(
            parent["name"] in added or parent["type"] == "decision" for parent in parents
        ):
            added.add(name)
        if kind == "batchable":
            worker = f"{name}_work"
            steps.append(_step(worker, [name], "batch_worker"))
            steps.append(_step(f"{name}_total", [worker], "deferred_convergence"))
            added.update((worker, f"{name}_total"))
    random.shuffle(steps)
    definition = {"name": "gates", "namespace_name": "shop", "version": "1.0.0", "steps": steps}
    return TaskTemplate.from_definition({**definition, "identity_strategy": "always_unique"})


def random_says(random: Random, template: TaskTemplate) -> Says:
    """Draw what every gate of a template will say, should it exist."""
    chosen, batches = {}, {}
    for step in template.steps:
        if step.type == "decision":
            below = steps_below(template, step.name)
            chosen[step.name] = tuple(name for name in below if random.random() < 0.5)
        elif step.type == "batchable":
            batches[step.name] = random.choice((0, 1, 2))
    return Says(chosen, batches)


def _step(name: str, parents: list[str] | None = None, kind: str = "standard") -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "dependencies": parents or [],
        "handler": {"callable": "any"},
    }
