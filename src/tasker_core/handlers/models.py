"""A step's event as objects instead of nested dicts.

For code that reads more of the event than `StepContext` shows; see `StepEvent` for
where each part comes from. Whatever is missing or null has its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext


class _FromDict:
    """Reads a dataclass from a mapping: unknown keys are left aside, null is the default."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from a part of an event; None is the empty part."""
        given = data if isinstance(data, Mapping) else {}
        known = [f.name for f in fields(cast(Any, cls)) if f.init]
        return cls(**{name: given[name] for name in known if given.get(name) is not None})


@dataclass
class HandlerWrapper(_FromDict):
    """Which code does the step."""

    callable: str = ""
    initialization: dict[str, Any] = field(default_factory=dict)
    handler_method: str | None = None  # None is `call`
    resolver: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from `{"callable": str, "method": str, …}`."""
        given = dict(data) if isinstance(data, Mapping) else {}
        given["handler_method"] = given.get("method") or given.get("handler_method")
        return super().from_dict(given)


@dataclass
class StepDefinitionWrapper(_FromDict):
    """What the template says about the step."""

    name: str = ""
    description: str | None = None
    handler: HandlerWrapper = field(default_factory=HandlerWrapper)
    dependencies: list[str] = field(default_factory=list)
    retry: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 30
    publishes_events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from a template's step."""
        given = dict(data) if isinstance(data, Mapping) else {}
        given["handler"] = HandlerWrapper.from_dict(given.get("handler"))
        return super().from_dict(given)


@dataclass
class WorkflowStepWrapper(_FromDict):
    """The step of the task."""

    workflow_step_uuid: str = ""
    task_uuid: str = ""
    name: str = ""
    named_step_uuid: str | None = None
    retryable: bool = True
    max_attempts: int = 3
    in_process: bool = False
    processed: bool = False
    processed_at: str | None = None
    attempts: int = 0  # before this one
    last_attempted_at: str | None = None
    backoff_request_seconds: float = 0
    inputs: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    updated_at: str | None = None
    checkpoint: dict[str, Any] | None = None
    template_step_name: str = ""


@dataclass
class TaskWrapper(_FromDict):
    """The task."""

    task_uuid: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    namespace_name: str = ""
    task_name: str = ""
    task_version: str = ""
    correlation_id: str = ""
    parent_correlation_id: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from an event's `task`; its own fields go before those of the task inside."""
        outer = dict(data) if isinstance(data, Mapping) else {}
        inner = outer.get("task")
        merged = dict(inner) if isinstance(inner, Mapping) else {}
        merged.update({key: value for key, value in outer.items() if value is not None})
        return super().from_dict(merged)


class DependencyResultsWrapper:
    """Step name → `{"result": …}`, for every step that this one comes after.

    Unlike in a dict, a name that is not there gives None.
    """

    def __init__(self, results: Mapping[str, Any] | None = None) -> None:
        self._results: Mapping[str, Any] = results if isinstance(results, Mapping) else {}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from an event's `dependency_results`."""
        return cls(data)

    def get_result(self, step_name: str) -> Any:
        """Give the envelope as it is; None if there is none."""
        return self._results.get(step_name)

    def get_results(self, step_name: str) -> Any:
        """Give what that step's handler returned; None if there is no such result."""
        envelope = self._results.get(step_name)
        if isinstance(envelope, Mapping) and "result" in envelope:
            return envelope["result"]
        return envelope

    def keys(self) -> list[str]:
        """Name the steps that have a result."""
        return list(self._results)

    def __getitem__(self, step_name: str) -> Any:
        return self._results.get(step_name)

    def __contains__(self, step_name: object) -> bool:
        return step_name in self._results

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"DependencyResultsWrapper({list(self._results)})"


@dataclass
class TaskSequenceStepWrapper:
    """Task, step, results before it, and definition: all that an event tells."""

    task: TaskWrapper = field(default_factory=TaskWrapper)
    workflow_step: WorkflowStepWrapper = field(default_factory=WorkflowStepWrapper)
    dependency_results: DependencyResultsWrapper = field(default_factory=DependencyResultsWrapper)
    step_definition: StepDefinitionWrapper = field(default_factory=StepDefinitionWrapper)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Make it from an event's `task_sequence_step`."""
        given = data if isinstance(data, Mapping) else {}
        return cls(
            TaskWrapper.from_dict(given.get("task")),
            WorkflowStepWrapper.from_dict(given.get("workflow_step")),
            DependencyResultsWrapper(given.get("dependency_results")),
            StepDefinitionWrapper.from_dict(given.get("step_definition")),
        )

    @classmethod
    def of(cls, context: StepContext) -> Self:
        """Make it from a context."""
        if context.event is not None:
            return cls.from_dict(context.event.task_sequence_step)
        return cls(
            TaskWrapper(
                task_uuid=str(context.task_uuid),
                context=context.input_data,
                namespace_name=context.namespace,
                task_name=context.task_name,
                task_version=context.task_version,
                correlation_id=str(context.correlation_id),
            ),
            WorkflowStepWrapper(
                workflow_step_uuid=str(context.step_uuid),
                task_uuid=str(context.task_uuid),
                name=context.step_name,
                max_attempts=context.max_retries,
                in_process=True,
                attempts=context.retry_count,
                inputs=context.step_inputs,
                checkpoint=context.checkpoint,
                template_step_name=context.step_name,
            ),
            DependencyResultsWrapper(context.dependency_results),
            StepDefinitionWrapper(
                name=context.step_name,
                handler=HandlerWrapper(context.handler_name, context.step_config),
                dependencies=context.get_dependency_result_keys(),
            ),
        )

    def get_task_field(self, field_name: str) -> Any:
        """Give a field of the task's context; None if there is none."""
        return self.task.context.get(field_name)

    def get_dependency_result(self, step_name: str) -> Any:
        """Give what an earlier step's handler returned; None if there is no such result."""
        return self.dependency_results.get_results(step_name)

    def get_results(self, step_name: str) -> Any:
        """Do what `get_dependency_result` does."""
        return self.get_dependency_result(step_name)
