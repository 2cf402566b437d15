"""A step's event: everything about one dispatch in a single document.

Workers do not use it. It is a portable form from which tests and tools that have
such a document build a `StepContext`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class StepEvent(BaseModel):
    """One dispatch of one step.

    `task_sequence_step` looks like this; whatever is missing or null counts as empty::

        {
            "task": {"task": {"context": {}}, "task_name": str, "task_version": str,
                     "namespace_name": str},          # or flat, without the inner task
            "workflow_step": {"name": str, "attempts": int, "max_attempts": int,
                              "inputs": {}, "checkpoint": {}},
            "dependency_results": {step name: {"result": …}},
            "step_definition": {"handler": {"callable": str, "initialization": {}}},
        }
    """

    model_config = ConfigDict(frozen=True)

    event_id: str
    task_uuid: str
    step_uuid: str
    correlation_id: str
    task_correlation_id: str | None = None
    parent_correlation_id: str | None = None
    task_sequence_step: dict[str, Any]
    trace_id: str | None = None
    span_id: str | None = None

    def context_fields(self) -> dict[str, Any]:
        """Give the event's facts as the arguments of a `StepContext`."""
        outer = _section(self.task_sequence_step, "task")
        task = {**outer, **_section(outer, "task")}
        step = _section(self.task_sequence_step, "workflow_step")
        definition = _section(self.task_sequence_step, "step_definition")
        return {
            "task_uuid": self.task_uuid,
            "step_uuid": self.step_uuid,
            "correlation_id": self.correlation_id,
            "input_data": _section(task, "context"),
            "dependency_results": _section(self.task_sequence_step, "dependency_results"),
            "step_config": _section(_section(definition, "handler"), "initialization"),
            "step_inputs": _section(step, "inputs"),
            "retry_count": step.get("attempts"),
            "max_retries": step.get("max_attempts"),
            "checkpoint": step.get("checkpoint"),
            "step_name": step.get("name") or definition.get("name") or "",
            "task_name": outer.get("task_name") or task.get("task_name") or "",
            "task_version": outer.get("task_version") or task.get("task_version") or "",
            "namespace": outer.get("namespace_name") or task.get("namespace_name") or "",
        }


FfiStepEvent = StepEvent


def _section(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = document.get(key)
    return dict(section) if isinstance(section, Mapping) else {}
