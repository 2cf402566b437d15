"""Dead letters, and the report of tasks that do not move."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from tasker_core.states import DlqReason, DlqStatus, TaskState
from tasker_core.wire.common import Answer, Moment, Request, Text, any_of


def _spelt(kind: type[StrEnum]) -> BeforeValidator:
    """Accept a word of an enum in either spelling: `manual_dlq` or `ManualDlq`."""
    words = {word.replace("_", ""): word for word in kind}

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return words.get(value.replace("_", "").lower(), value) if value else None

    return BeforeValidator(read)


ReasonWord = Annotated[DlqReason | None, _spelt(DlqReason)]
StatusWord = Annotated[DlqStatus | None, _spelt(DlqStatus)]


class DlqEntryRequest(Request):
    """A task that is to be put aside."""

    task_uuid: UUID
    reason: Text = Field(min_length=1, max_length=500, description="Why; kept in the metadata.")
    entered_by: Text | None = Field(
        None, min_length=1, max_length=255, description="Left out or null: whoever calls."
    )
    metadata: dict[str, Any] | None = None


class DlqUpdate(Request):
    """What is found out about a dead letter. What is absent or null stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            **any_of(
                resolution_status={"type": "string"},
                resolution_notes={"type": "string"},
                resolved_by={"type": "string"},
                metadata={"type": "object"},
                reopen={"const": True},
            ),
            "if": {"required": ["reopen"], "properties": {"reopen": {"const": True}}},
            "then": {"properties": {"resolution_status": {"enum": ["pending", None]}}},
        }
    )

    resolution_status: StatusWord = Field(
        None, description="A pending entry is resolved once; pending only with reopen."
    )
    resolution_notes: Text | None = Field(None, max_length=10_000)
    resolved_by: Text | None = Field(
        None, min_length=1, max_length=255, description="When it is resolved: else whoever calls."
    )
    metadata: dict[str, Any] | None = Field(None, description="Added to what is there.")
    reopen: bool = Field(False, description="Make a resolved entry pending again.")


class DlqEntryResponse(Answer):
    """One investigation."""

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState = Field(description="The task's, when the entry was made.")
    dlq_reason: DlqReason
    dlq_timestamp: Moment
    resolution_status: DlqStatus
    resolution_timestamp: Moment | None
    resolution_notes: str | None
    resolved_by: str | None
    task_snapshot: dict[str, Any] = Field(
        description="The task at that moment: taken_at, task, step_counts, steps, transitions."
    )
    metadata: dict[str, Any] | None
    created_at: Moment
    updated_at: Moment
    task_state: TaskState | None = Field(description="Now; null: the task is gone.")


class DlqUpdateResponse(Answer):
    """What became of an update."""

    success: bool
    message: str
    dlq_entry_uuid: UUID
    entry: DlqEntryResponse


class DlqStatsResponse(Answer):
    """The entries of one reason, counted."""

    dlq_reason: DlqReason
    total_entries: int
    pending: int
    manually_resolved: int
    permanent_failures: int
    cancelled: int
    oldest_entry: Moment | None
    newest_entry: Moment | None
    avg_resolution_time_minutes: float | None = Field(description="Of the resolved ones.")


class InvestigationResponse(Answer):
    """One pending entry, with how urgent it is."""

    dlq_entry_uuid: UUID
    task_uuid: UUID
    original_state: TaskState
    dlq_reason: DlqReason
    dlq_timestamp: Moment
    minutes_in_dlq: float
    namespace_name: str | None
    task_name: str | None
    current_state: TaskState = Field(description="The same as original_state.")
    time_in_state_minutes: float | None = Field(
        description="How long it was over its limit's clock then; null: time was not the reason."
    )
    priority_score: float
    task_state: TaskState | None = Field(description="Now; null: the task is gone.")
    is_repaired: bool = Field(
        description="The task goes on by an operator's hand, or has ended well: close the entry."
    )


class StalenessResponse(Answer):
    """How close a living task is to being stale."""

    task_uuid: UUID
    namespace_name: str
    task_name: str
    current_state: TaskState
    time_in_state_minutes: float
    idle_minutes: float | None = Field(
        description="What is held against the threshold; null: it is moving."
    )
    task_age_minutes: float
    staleness_threshold_minutes: float
    ends_at: Moment | None = Field(description="When it is over its template's duration.")
    health_status: Literal["healthy", "warning", "stale"]
    priority: int
    missing_handlers: list[str] = Field(
        description="Callables of ready steps that no live worker has."
    )
