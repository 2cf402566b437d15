"""How a worker is, and what it can do, as its own port tells it."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from tasker_core.wire.common import Answer, Moment


class WorkerAnswer(Answer):
    """What every answer about a worker has."""

    timestamp: Moment
    worker_id: UUID


class WorkerAlive(WorkerAnswer):
    """The process answers."""

    status: Literal["healthy", "alive"]


class WorkerCheck(Answer):
    """One thing that was looked at."""

    status: Literal["healthy", "degraded", "unhealthy"]
    message: str | None = None
    duration_ms: float
    last_checked: Moment


class WorkerHealth(WorkerAnswer):
    """Whether the worker can do its work; only an unhealthy check makes it not ready."""

    status: Literal["ready", "not_ready", "healthy", "degraded"]
    checks: dict[str, WorkerCheck]
    system_info: dict[str, Any]
    distributed_cache: dict[str, Any] | None = Field(
        None, description="There is none: `enabled` is false."
    )


class WorkerNumbers(WorkerAnswer):
    """Counters and gauges by name: `{"value", "metric_type", "labels", "help"}`."""

    metrics: dict[str, dict[str, Any]]


class WorkerEvents(Answer):
    """How many events were published in this process, and to whom."""

    router: dict[str, int] = Field(description="By delivery mode.")
    in_process_bus: dict[str, int] = Field(
        description="`rust_…` are the handlers of this process, as `handler_…`; `ffi_…` are 0."
    )
    captured_at: Moment
    worker_id: UUID


class WorkerTemplate(Answer):
    """One version of a template, and whether this worker can do all of its steps."""

    namespace: str
    name: str
    version: str
    handlers_resolved: bool
    missing_handlers: list[str]


class WorkerTemplates(Answer):
    """The templates that this worker looks at."""

    supported_namespaces: list[str] = Field(description="Of which it can do at least one step.")
    template_count: int
    cache_stats: dict[str, Any] | None = Field(None, description="What is not counted is null.")
    worker_capabilities: list[str]
    templates: list[WorkerTemplate]


class ResolvedTemplate(Answer):
    """A definition with the overrides of the worker's environment in it."""

    template: dict[str, Any]
    environment: str
    resolved_at: Moment


class WorkerTemplateDetail(Answer):
    """One version of a template, whole."""

    template: ResolvedTemplate
    handler_metadata: dict[str, Any]
    cached: bool = Field(description="Kept in this process: what an id names never changes.")
    cache_age_seconds: int | None = Field(None, description="Not counted.")
    access_count: int | None = Field(None, description="Not counted.")


class WorkerTemplateValidation(Answer):
    """Whether this worker can do a template; `errors` says what it lacks."""

    valid: bool
    errors: list[str]
    required_capabilities: list[str] = Field(description="Kinds of steps beside the standard one.")
    step_handlers: list[str]


class WorkerConfig(Answer):
    """How the worker is set, without what is secret."""

    metadata: dict[str, Any]
    worker_id: UUID
    worker_type: str
    auth: dict[str, Any]
    messaging: dict[str, Any] = Field(
        description="`queues` are the namespaces served: PostgreSQL is the only queue."
    )
