"""What a template is, once it has been checked.

`TaskTemplate.from_definition` builds it from the definition: plain JSON, the form
that is stored in the database. A definition leaves out whatever equals its
default, so that a file that spells a default out has the same digest, and a new
key with a default changes no digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

StepType = Literal["standard", "decision", "deferred_convergence", "batchable", "batch_worker"]
Backoff = Literal["none", "linear", "exponential", "fibonacci"]
IdentityStrategy = Literal["strict", "caller_provided", "always_unique"]
ResultValidation = Literal["off", "warn", "enforce"]

DEFAULT_BASE_MS = 1000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The `retry` block of a step. Milliseconds, as in the YAML."""

    retryable: bool = True
    max_attempts: int = 3
    backoff: Backoff = "exponential"
    backoff_base_ms: int = DEFAULT_BASE_MS
    max_backoff_ms: int = 30_000
    base_given: bool = False  # the YAML spells out a base that equals the default

    @property
    def executions(self) -> int:
        """How often the step runs at most."""
        return max(1, self.max_attempts) if self.retryable else 1

    @property
    def first_delay_ms(self) -> int:
        """The rest after the first failure, where the policy has any.

        Exponential backoff without a base of its own begins at twice the default:
        2 s, 4 s, 8 s. A base that was given is itself the first rest.

        >>> RetryPolicy().first_delay_ms, RetryPolicy(backoff_base_ms=100).first_delay_ms
        (2000, 100)
        """
        given = self.base_given or self.backoff_base_ms != DEFAULT_BASE_MS
        if self.backoff == "exponential" and not given:
            return 2 * self.backoff_base_ms
        return self.backoff_base_ms


@dataclass(frozen=True, slots=True)
class HandlerDefinition:
    """Which code does the step, and what it is given to start with."""

    callable: str
    method: str = "call"
    resolver: str | None = None
    initialization: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How a batchable step's work is divided."""

    batch_size: int = 1000
    parallelism: int = 10
    cursor_field: str = "id"
    worker_template: str | None = None
    failure_strategy: Literal["continue_on_failure", "fail_fast", "isolate"] = "continue_on_failure"


@dataclass(frozen=True, slots=True)
class EventDeclaration:
    """An event that a step publishes when it ends."""

    name: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    condition: str = "success"
    delivery_mode: str = "durable"
    publisher: str | None = None


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step of a template."""

    name: str
    handler: HandlerDefinition
    description: str | None = None
    type: StepType = "standard"
    dependencies: tuple[str, ...] = ()  # distinct, in the order of the file
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float | None = None
    system_dependency: str | None = None
    batch_config: BatchConfig | None = None
    publishes_events: tuple[EventDeclaration, ...] = ()
    result_schema: dict[str, Any] | None = None
    result_validation: ResultValidation = "off"  # the step's own, else the template's
    composition: dict[str, Any] | None = None
    consumes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskHandler:
    """The template's own handler; only its `required_fields` have an effect."""

    callable: str | None = None
    initialization: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SystemDependencies:
    """Outside systems, for the reader."""

    primary: str = "default"
    secondary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How long a task may take; None: as long as it likes. See templates/limits.py."""

    max_duration_minutes: int | None = None
    max_waiting_for_dependencies_minutes: int | None = None
    max_waiting_for_retry_minutes: int | None = None
    max_steps_in_process_minutes: int | None = None
    staleness_action: Literal["dlq", "error", "none"] = "dlq"
    auto_fail_on_timeout: bool | None = None
    auto_dlq_on_timeout: bool | None = None


@dataclass(frozen=True, eq=False)
class TaskTemplate:
    """A checked template. Two are equal when their definitions are."""

    namespace: str
    name: str
    version: str
    steps: tuple[StepDefinition, ...]
    definition: dict[str, Any] = field(repr=False)
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    task_handler: TaskHandler | None = None
    system_dependencies: SystemDependencies = SystemDependencies()
    domain_events: tuple[dict[str, Any], ...] = ()
    input_schema: dict[str, Any] | None = None
    identity_strategy: IdentityStrategy = "strict"
    lifecycle: Lifecycle | None = None
    environments: dict[str, Any] = field(default_factory=dict)
    on_failure: Literal["halt", "continue"] = "halt"
    give_up_after: float | None = None  # seconds
    result_validation: ResultValidation = "off"

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> TaskTemplate:
        """Build the template from a definition that was checked before."""
        own = dict(definition)
        validation = own.get("result_validation", "off")
        return cls(
            definition=own,
            namespace=own["namespace_name"],
            steps=tuple(_step(step, validation) for step in own["steps"]),
            task_handler=_build(TaskHandler, own.get("task_handler")),
            system_dependencies=_system_dependencies(own.get("system_dependencies") or {}),
            domain_events=tuple(own.get("domain_events", ())),
            lifecycle=_build(Lifecycle, own.get("lifecycle")),
            **{key: own[key] for key in _PLAIN if key in own},
        )

    @property
    def label(self) -> str:
        """Name the template for a person: namespace/name version."""
        return f"{self.namespace}/{self.name} {self.version}"

    @cached_property
    def required_fields(self) -> tuple[str, ...]:
        """Fields that a context must have, by the task handler's `input_validation`."""
        if self.task_handler is None:
            return ()
        validation = self.task_handler.initialization.get("input_validation") or {}
        return tuple(dict.fromkeys(validation.get("required_fields") or ()))

    def step(self, name: str) -> StepDefinition:
        """Give the step of this name; KeyError when there is none."""
        return self._steps[name]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the definition: the same for the same meaning, whatever the file."""
        return hashlib.sha256(
            orjson.dumps(self.definition, option=orjson.OPT_SORT_KEYS)
        ).hexdigest()

    @cached_property
    def _steps(self) -> dict[str, StepDefinition]:
        return {step.name: step for step in self.steps}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskTemplate) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


_PLAIN = (
    "name",
    "version",
    "description",
    "metadata",
    "input_schema",
    "identity_strategy",
    "environments",
    "on_failure",
    "give_up_after",
    "result_validation",
)


def _build(kind: Any, values: Mapping[str, Any] | None) -> Any:
    """Build a small object; keys of a later program are left aside."""
    if values is None:
        return None
    return kind(**{key: value for key, value in values.items() if key in kind.__slots__})


def _step(values: Mapping[str, Any], validation: str) -> StepDefinition:
    retry = values.get("retry", {})
    base_given = retry.get("backoff_base_ms") == DEFAULT_BASE_MS
    parts = {
        "handler": _build(HandlerDefinition, values["handler"]),
        "dependencies": tuple(values.get("dependencies", ())),
        "retry": _build(RetryPolicy, {**retry, "base_given": base_given}),
        "batch_config": _build(BatchConfig, values.get("batch_config")),
        "publishes_events": tuple(
            _build(EventDeclaration, event) for event in values.get("publishes_events", ())
        ),
    }
    step: StepDefinition = _build(
        StepDefinition, {"result_validation": validation, **values, **parts}
    )
    return step


def _system_dependencies(values: Mapping[str, Any]) -> SystemDependencies:
    return SystemDependencies(values.get("primary", "default"), tuple(values.get("secondary", ())))
