"""What is declared, what a publisher sees, and what a subscriber gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext

Condition = Literal["success", "failure", "retryable_failure", "permanent_failure", "always"]
DeliveryMode = Literal["durable", "fast", "broadcast"]


class EventDeclaration(BaseModel):
    """One entry of a template's `publishes_events`."""

    model_config = ConfigDict(populate_by_name=True)

    name: str  # dotted: "payment.charged"
    condition: Condition | None = None  # None: on success
    delivery_mode: DeliveryMode | None = None  # None: durable
    publisher: str | None = None  # None: the default one
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")  # of the payload

    @property
    def schema(self) -> dict[str, Any] | None:  # type: ignore[override]  # pydantic's is deprecated
        """The JSON Schema that the payload must fit."""
        return self.schema_


class StepResult(BaseModel):
    """How a step went, for a publisher."""

    success: bool
    result: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class StepEventContext(BaseModel):
    """What a publisher knows when a step has ended."""

    task_uuid: str
    step_uuid: str
    step_name: str
    namespace: str = "default"
    correlation_id: str
    result: dict[str, Any] | None = None  # None: the step has failed
    metadata: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def from_step_context(
        cls,
        context: StepContext,
        result: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make it from the step's own context and what the handler returned."""
        return cls(
            task_uuid=str(context.task_uuid),
            step_uuid=str(context.step_uuid),
            step_name=context.step_name or context.handler_name,
            namespace=context.namespace or "default",
            correlation_id=str(context.correlation_id),
            result=None if result is None else dict(result),
            metadata=dict(metadata or {}),
        )


class PublishContext(BaseModel):
    """One event to be published, with what led to it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    event_name: str
    step_result: StepResult
    event_declaration: EventDeclaration | None = None
    step_context: Any = None  # a StepContext or a StepEventContext

    def as_step_event(self) -> StepEventContext:
        """Give what a publisher's hooks take."""
        known = self.step_context
        result, metadata = self.step_result.result, self.step_result.metadata
        if isinstance(known, StepEventContext):
            merged = {**known.metadata, **(metadata or {})}
            return known.model_copy(update={"result": result, "metadata": merged})
        if known is not None:
            return StepEventContext.from_step_context(known, result, metadata)
        return StepEventContext(
            task_uuid="",
            step_uuid="",
            step_name="",
            correlation_id="",
            result=result,
            metadata=metadata or {},
        )


class DomainEventMetadata(BaseModel):
    """Where an event comes from; publishers may add to it."""

    model_config = ConfigDict(extra="allow")

    task_uuid: UUID
    correlation_id: UUID
    fired_at: str  # ISO 8601, UTC
    fired_by: str  # the handler's name
    step_uuid: UUID | None = None
    step_name: str | None = None
    namespace: str | None = None


class ExecutionResult(BaseModel):
    """How the step went, for a subscriber."""

    success: bool
    result: dict[str, Any] | None = None
    error_message: str | None = None
    error_type: str | None = None
    execution_time_ms: int | None = None


class InProcessDomainEvent(BaseModel):
    """One event. The same step, attempt and name always give the same `event_id`."""

    event_id: UUID
    event_name: str
    event_version: str = "1.0"
    metadata: DomainEventMetadata
    payload: dict[str, Any] = Field(default_factory=dict)
    execution_result: ExecutionResult | None = None
