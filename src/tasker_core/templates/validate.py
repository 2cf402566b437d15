"""What a definition says as a whole: names, dependencies, branches, batches.

Runs after `shape`, on its definition. The rules that need the graph run only when
it is one: with a ring in it, they would say the same thing over and over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasker_core.templates.bounds import DEEP_DECISION, MAX_DECISION_DEPTH, decision_depths
from tasker_core.templates.document import Path
from tasker_core.templates.findings import Findings, did_you_mean, shown
from tasker_core.templates.graph import find_cycles, topological_order

# The closure of n steps takes n² bits; beyond this, redundancy is not looked for.
MAX_CLOSURE = 20_000
MAX_SHOWN = 12  # steps of a ring in a message


def validate(definition: dict[str, Any], findings: Findings) -> bool:
    """Report what is wrong between the steps; tell whether they form a ring."""
    steps = _Steps(definition, findings)
    _check_dependencies(steps)
    _check_orphans(steps)
    _check_gates(steps)
    _check_batches(steps)
    _check_overrides(steps, definition.get("environments", {}))
    _check_result_schemas(steps)
    has_cycles = _check_cycles(steps)
    if not has_cycles:
        order = topological_order(steps.parents)
        _check_convergences(steps, order)
        _check_branch_joins(steps, order)
        _check_gate_joins(steps, order)
        _check_depth(steps, order)
        if len(order) <= MAX_CLOSURE:
            _check_redundancy(steps, order)
    return has_cycles


class _Steps:
    """The steps by name, with the dependencies that lead somewhere."""

    def __init__(self, definition: dict[str, Any], findings: Findings) -> None:
        self.findings = findings
        self.steps: list[dict[str, Any]] = definition["steps"]
        self.position: dict[str, int] = {}
        for at, step in enumerate(self.steps):
            name = step.get("name")
            if name is None:
                continue
            if name in self.position:
                message = f"the step name {shown(name)} is used by step {self.position[name] + 1}"
                hint = "give each step its own name"
                findings.error("DUPLICATE_STEP_NAME", ("steps", at, "name"), message, hint)
            else:
                self.position[name] = at
        self.parents: dict[str, list[str]] = {}
        self.children: dict[str, list[str]] = {name: [] for name in self.position}
        for name in self.position:
            known = [d for d in self.declared(name) if d in self.position and d != name]
            self.parents[name] = known
            for parent in known:
                self.children[parent].append(name)

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.steps[self.position[name]]

    def type(self, name: str) -> str:
        kind: str = self[name].get("type", "standard")
        return kind

    def of_type(self, kind: str) -> list[str]:
        return [name for name in self.position if self.type(name) == kind]

    def declared(self, name: str) -> list[str]:
        dependencies: list[str] = self[name].get("dependencies", [])
        return dependencies

    def path(self, name: str, key: str = "") -> Path:
        at = self.position[name]
        return ("steps", at, key) if key else ("steps", at)

    def edge(self, at: int, parent: str) -> Path:
        """Find where a step names a dependency."""
        raw = self.findings.document.value["steps"][at]
        key = "dependencies" if raw.get("dependencies") is not None else "depends_on"
        return ("steps", at, key, raw[key].index(parent))

    def near(self, name: str) -> str | None:
        """Suggest a step for a name that is none."""
        return did_you_mean(name, self.position)


def _check_dependencies(steps: _Steps) -> None:
    for at, step in enumerate(steps.steps):
        name = step.get("name")
        for parent in step.get("dependencies", []):
            if parent == name:
                message = f"{name} depends on itself"
                hint = "leave this dependency out"
                steps.findings.error("SELF_DEPENDENCY", steps.edge(at, parent), message, hint)
            elif parent not in steps.position:
                message = f"{name or 'the step'} depends on {shown(parent)}, which is no step"
                hint = steps.near(parent) or "name a step of this template"
                steps.findings.error("MISSING_DEP_REF", steps.edge(at, parent), message, hint)


def _check_cycles(steps: _Steps) -> bool:
    rings = find_cycles(steps.parents)
    for ring in rings:
        names = [*ring, ring[0]]
        if len(names) > MAX_SHOWN:
            names[MAX_SHOWN // 2 : -MAX_SHOWN // 2] = ["…"]
        steps.findings.error(
            "CYCLE_DETECTED",
            steps.edge(steps.position[ring[-1]], ring[0]),
            "these steps wait for each other in a ring, so that none can ever start: "
            + " -> ".join(names),
            "remove one of these dependencies",
        )
    return bool(rings)


def _check_orphans(steps: _Steps) -> None:
    for name in steps.position if len(steps.steps) > 1 else ():
        if steps.type(name) not in ("standard", "batchable"):
            continue  # the others have rules of their own
        if not steps.declared(name) and not steps.children[name]:
            steps.findings.warning(
                "ORPHAN_STEP",
                steps.path(name),
                f"{name} has no dependencies, and nothing depends on it",
                "if it is meant to run apart from the others, all is well",
            )


def _check_gates(steps: _Steps) -> None:
    """Decisions have a step before and after them, convergences one before."""
    findings = steps.findings
    for name in steps.of_type("decision"):
        if not steps.declared(name):
            message = f"the decision {name} depends on nothing, so that it has nothing to decide by"
            hint = "add dependencies: [the step that it judges]"
            findings.error("DECISION_WITHOUT_DEPENDENCY", steps.path(name), message, hint)
        if not steps.children[name]:
            message = f"nothing depends on the decision {name}, so that it has no branches"
            hint = f"add dependencies: [{name}] to its branches"
            findings.warning("DECISION_WITHOUT_BRANCHES", steps.path(name), message, hint)
    for name in steps.of_type("deferred_convergence"):
        if not steps.declared(name):
            message = f"{name} is a deferred_convergence that joins nothing"
            hint = "list the branches in dependencies"
            findings.error("CONVERGENCE_WITHOUT_DEPENDENCIES", steps.path(name), message, hint)


# --- batches ---------------------------------------------------------------------------


def _check_batches(steps: _Steps) -> None:
    findings = steps.findings
    for name in steps.of_type("batchable"):
        worker = _worker_of(steps, name)
        if worker is not None and not (
            "batch_config" in steps[name] or "batch_config" in steps[worker]
        ):
            message = f"neither {name} nor {worker} has a batch_config"
            hint = f"add batch_config: {{worker_template: {worker}}} to {name}"
            findings.error("BATCH_CONFIG_MISSING", steps.path(name), message, hint)
    for name in steps.of_type("batch_worker"):
        if not any(steps.type(parent) == "batchable" for parent in steps.parents[name]):
            message = f"the batch_worker {name} does not depend on a batchable step"
            hint = "add the step that divides the work to its dependencies"
            findings.error("BATCH_WORKER_PARENT", steps.path(name), message, hint)
        for child in steps.children[name]:
            if steps.type(child) != "deferred_convergence":
                message = f"{child} depends on the batch_worker {name}, of which there may be many"
                path = steps.edge(steps.position[child], name)
                hint = f"give {child} the type deferred_convergence"
                findings.error("BATCH_WORKER_DEPENDENT", path, message, hint)
    for name in steps.position:
        if "batch_config" in steps[name] and steps.type(name) not in ("batchable", "batch_worker"):
            message = f"batch_config has no effect on a {steps.type(name)} step"
            hint = "leave it out, or give the step type: batchable"
            findings.warning("BATCH_CONFIG_UNUSED", steps.path(name, "batch_config"), message, hint)


def _worker_of(steps: _Steps, name: str) -> str | None:
    """Find the worker of a batchable step; report when there is none, or no single one."""
    findings, step = steps.findings, steps[name]
    initialization = step["handler"].get("initialization", {})
    path = steps.path(name)
    named = step.get("batch_config", {}).get("worker_template")
    if named is not None:
        path = (*path, "batch_config", "worker_template")
    elif initialization.get("worker_template_name") is not None:
        named = initialization["worker_template_name"]
        path = (*path, "handler", "initialization", "worker_template_name")
    if named is None:
        workers = [c for c in steps.children[name] if steps.type(c) == "batch_worker"]
        if len(workers) == 1:
            return workers[0]
        message = f"{name} does not say which of {', '.join(workers)} is its worker"
        if not workers:
            message = f"{name} is batchable, but no batch_worker depends on it"
        hint = "name it: batch_config: {worker_template: …}"
        findings.error("BATCH_WORKER_UNRESOLVED", path, message, hint)
        return None
    if named not in steps.position:
        message = f"the worker of {name} is {shown(named)}, which is no step"
        findings.error("BATCH_WORKER_UNRESOLVED", path, message, steps.near(str(named)))
        return None
    if steps.type(named) != "batch_worker":
        message = f"the worker of {name}, {named}, is a {steps.type(named)} step"
        findings.error("BATCH_WORKER_TYPE", path, message, f"give {named} type: batch_worker")
        return None
    worker: str = named
    return worker


# --- branches ----------------------------------------------------------------------------


def _check_convergences(steps: _Steps, order: list[str]) -> None:
    """Find convergences that would never come into being: they do so with what they join."""
    added: set[str] = set()  # steps that a task does not begin with
    for name in order:
        kind, parents = steps.type(name), steps.parents[name]
        if kind == "deferred_convergence" and parents and added.isdisjoint(parents):
            message = (
                f"{name} is a deferred_convergence, but all it joins exists from the start, "
                "so that it would never come into being"
            )
            hint = "leave the type out"
            steps.findings.error("CONVERGENCE_NOT_DYNAMIC", steps.path(name), message, hint)
        if kind in ("deferred_convergence", "batch_worker") or any(
            parent in added or steps.type(parent) == "decision" for parent in parents
        ):
            added.add(name)


def _check_branch_joins(steps: _Steps, order: list[str]) -> None:
    """Find plain steps that wait for branches of which only one may be chosen.

    Every edge out of a decision is a bit; a step has the bits of the edges that
    it is reached by. A convergence is there whatever was chosen: it has none.
    """
    decisions = steps.of_type("decision")
    if not decisions:
        return
    edge_bit: dict[tuple[str, str], int] = {}
    edges_of: dict[str, int] = {}
    for decision in decisions:
        for child in steps.children[decision]:
            edge_bit[decision, child] = 1 << len(edge_bit)
            edges_of[decision] = edges_of.get(decision, 0) | edge_bit[decision, child]
    reached: dict[str, int] = {}
    for name in order:
        bits = [reached[p] | edge_bit.get((p, name), 0) for p in steps.parents[name]]
        union = 0
        for each in bits:
            union |= each
        deferred = steps.type(name) == "deferred_convergence"
        reached[name] = 0 if deferred else union
        if deferred or union in bits or union == 0:
            continue
        for decision in _split(union, bits, edges_of):
            message = f"{name} waits for more than one branch of {decision}; not all may exist"
            hint = f"give {name} type: deferred_convergence"
            steps.findings.warning("BRANCH_JOIN_NOT_DEFERRED", steps.path(name), message, hint)


def _split(union: int, bits: list[int], edges_of: dict[str, int]) -> Iterator[str]:
    """Name the decisions whose branches come together here, not in one parent before."""
    for decision, edges in edges_of.items():
        here = union & edges
        if here.bit_count() > 1 and all(each & edges != here for each in bits):
            yield decision


def _check_gate_joins(steps: _Steps, order: list[str]) -> None:
    """Find plain steps that wait for what different decisions or batches add.

    Every decision and every batchable step is a bit; a step has the bits of those that
    decide whether it exists.
    """
    gates = [*steps.of_type("decision"), *steps.of_type("batchable")]
    bit = {name: 1 << at for at, name in enumerate(gates)}
    above: dict[str, int] = {}
    for name in order if len(gates) > 1 else ():
        kind = steps.type(name)
        bits = [
            above[parent] | (bit[parent] if _adds(steps.type(parent), kind) else 0)
            for parent in steps.parents[name]
        ]
        union = 0
        for each in bits:
            union |= each
        above[name] = union
        if kind in ("deferred_convergence", "batch_worker") or union in bits or not union:
            continue
        names = " and ".join(gate for gate in gates if union & bit[gate])
        message = f"{name} waits for steps that {names} may add; not all may exist"
        hint = f"if {name} may run without some of them, give it type: deferred_convergence"
        steps.findings.warning("BRANCH_JOIN_NOT_DEFERRED", steps.path(name), message, hint)


def _adds(parent: str, child: str) -> bool:
    """Say whether a step of the one type decides if its child of the other exists."""
    return parent == "decision" or (parent == "batchable" and child == "batch_worker")


def _check_depth(steps: _Steps, order: list[str]) -> None:
    decisions = steps.of_type("decision")
    depths = decision_depths({name: steps.parents[name] for name in order}, set(decisions))
    deepest = max(decisions, key=lambda name: depths[name], default="")
    if not decisions or depths[deepest] <= DEEP_DECISION:
        return
    message = f"{deepest} may be decision number {depths[deepest]} in a row"
    hint = f"at most {MAX_DECISION_DEPTH} may follow from each other; let one decide more"
    steps.findings.warning("DECISION_DEPTH", steps.path(deepest), message, hint)


def _check_redundancy(steps: _Steps, order: list[str]) -> None:
    bit = {name: 1 << at for at, name in enumerate(order)}
    above: dict[str, int] = {}
    for name in order:
        implied = direct = 0
        for parent in steps.parents[name]:
            implied |= above[parent]
            direct |= bit[parent]
        above[name] = implied | direct
        # which of its branches exist decides what a convergence waits for
        if implied & direct and steps.type(name) != "deferred_convergence":
            for parent in steps.parents[name]:
                if implied & bit[parent]:
                    message = f"{name} waits for {parent} in any case, by its other dependencies"
                    hint = f"keep it only if {name} needs the result of {parent}"
                    path = steps.edge(steps.position[name], parent)
                    steps.findings.info("REDUNDANT_DEPENDENCY", path, message, hint)


# --- the rest ------------------------------------------------------------------------------


def _check_overrides(steps: _Steps, environments: dict[str, Any]) -> None:
    for environment, overrides in environments.items():
        for at, override in enumerate(overrides["steps"]):
            name = override.get("name")
            if name in (None, "ALL") or name in steps.position:
                continue
            path = ("environments", environment, "steps", at, "name")
            message = f"the override is for {shown(name)}, which is no step"
            hint = steps.near(name) or "name a step, or ALL"
            steps.findings.error("ENV_UNKNOWN_STEP", path, message, hint)


def _check_result_schemas(steps: _Steps) -> None:
    for name in steps.position:
        validation = steps[name].get("result_validation", "off")
        if validation != "off" and "result_schema" not in steps[name]:
            message = f"{name} has no result_schema, so that there is nothing to {validation}"
            path = steps.path(name, "result_validation")
            steps.findings.warning("RESULT_VALIDATION_UNUSED", path, message, "add result_schema")
        if "result_schema" not in steps[name]:
            message = f"{name} does not say what its result looks like"
            steps.findings.info("NO_RESULT_SCHEMA", steps.path(name), message, "add result_schema")
