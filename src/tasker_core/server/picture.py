"""A task as a graph: for programs, for Mermaid, for Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from tasker_core.engine.inspect import StepRecord, TaskRecord
from tasker_core.states import StepState
from tasker_core.wire.graph import GraphEdge, GraphNode, TaskGraph

_S = StepState
_COLORS = {
    _S.PENDING: "#e5e7eb",
    _S.ENQUEUED: "#dbeafe",
    _S.IN_PROGRESS: "#93c5fd",
    _S.WAITING_FOR_RETRY: "#fde68a",
    _S.COMPLETE: "#bbf7d0",
    _S.RESOLVED_MANUALLY: "#bbf7d0",
    _S.ERROR: "#fecaca",
    _S.CANCELLED: "#d1d5db",
}


def graph_of(task: TaskRecord, steps: Sequence[StepRecord]) -> TaskGraph:
    """Draw what exists by now; decisions and batches may add to it."""
    ids = {step.step_no: step.step_uuid for step in steps}
    return TaskGraph(
        task_uuid=task.task_uuid,
        name=task.name,
        status=task.state,
        nodes=[
            GraphNode(
                step_uuid=step.step_uuid,
                name=step.name,
                state=step.state,
                attempts=step.attempts,
                max_attempts=step.max_attempts,
            )
            for step in steps
        ],
        edges=[
            GraphEdge(parent=ids[parent], child=step.step_uuid)
            for step in steps
            for parent in step.parents
        ],
    )


def mermaid(steps: Sequence[StepRecord]) -> str:
    """Draw it for Mermaid, colored by state."""
    lines = ["flowchart TD"]
    for step in steps:
        label = step.name.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ")
        lines.append(f'    s{step.step_no}["{label}"]:::{step.state}')
    lines += [f"    s{parent} --> s{step.step_no}" for step in steps for parent in step.parents]
    lines += [
        f"    classDef {state} fill:{_COLORS[state]},stroke:#6b7280,color:#111827"
        for state in sorted({step.state for step in steps})
    ]
    return "\n".join(lines) + "\n"


def dot(task: TaskRecord, steps: Sequence[StepRecord]) -> str:
    """Draw it for Graphviz, colored by state."""
    lines = [f"digraph {_quoted(task.name)} {{", "    node [shape=box, style=filled];"]
    for step in steps:
        facts = f"label={_quoted(step.name)}, fillcolor={_quoted(_COLORS[step.state])}"
        lines.append(f"    s{step.step_no} [{facts}, tooltip={_quoted(step.state)}];")
    lines += [f"    s{parent} -> s{step.step_no};" for step in steps for parent in step.parents]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
