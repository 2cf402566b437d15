"""What an operator asks of many tasks, and what became of each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, model_validator

from tasker_core.states import TaskState
from tasker_core.wire.common import Answer, Request, Text, any_of

MAX_TASKS = 1000  # of one call


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _no_number(given: object) -> object:
    is_number = isinstance(given, int | float) or (
        isinstance(given, str) and given.replace(".", "", 1).lstrip("+-").isdigit()
    )
    if is_number:
        raise ValueError("must be a moment like 2026-01-02T03:04:05Z, not a number")
    return given


def _whole(number: Any) -> Any:
    """Take 7.0 for 7, as JSON Schema does."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


GivenMoment = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]
_Name = Annotated[Text, Field(min_length=1, max_length=255)]


class TaskSelection(Request):
    """What tasks have in common; at least one of it. What is not known is refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra=any_of(
            status={"type": "array", "minItems": 1},
            namespace={"type": "string"},
            name={"type": "string"},
            version={"type": "string"},
            failed_step={"type": "string"},
            error_type={"type": "string"},
            created_after={"type": "string"},
            created_before={"type": "string"},
        ),
    )

    status: list[TaskState] = Field(
        [],
        description="One of these states. Left out: those in which the action may be done; of "
        "a reset, blocked_by_failures and error.",
    )
    namespace: _Name | None = None
    name: _Name | None = None
    version: _Name | None = None
    failed_step: _Name | None = Field(
        None, description="A step of this name, or made from it, is in error."
    )
    error_type: _Name | None = Field(
        None, description="The last attempt of a step in error ended with this."
    )
    created_after: GivenMoment | None = Field(None, description="Without an offset: UTC.")
    created_before: GivenMoment | None = None

    @model_validator(mode="after")
    def _says_something(self) -> TaskSelection:
        if not any(getattr(self, name) for name in type(self).model_fields):
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"is empty, and would mean every task; say at least one of {known}")
        return self


class TaskActionsRequest(Request):
    """Do the same with many tasks: those named, those that fit, or those named that fit."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["task_uuids"],
                    "properties": {"task_uuids": {"type": "array"}, "cursor": {"type": "null"}},
                },
                {
                    "required": ["where"],
                    "properties": {"where": {"type": "object"}, "task_uuids": {"type": "null"}},
                },
            ]
        },
    )

    action: Literal["cancel", "resolve", "reset"]
    task_uuids: list[UUID] | None = Field(None, min_length=1, max_length=MAX_TASKS)
    where: TaskSelection | None = None
    reason: Text = Field(min_length=1, max_length=500)
    actor: Text | None = Field(
        None, min_length=1, max_length=255, description="Left out or null: whoever calls."
    )
    drop_checkpoints: Annotated[bool, Strict()] = Field(
        False, description="Of a reset: the steps begin from their start."
    )
    dry_run: Annotated[bool, Strict()] = Field(
        False, description="Change nothing, and say what would become of each."
    )
    limit: Annotated[int, Strict(), BeforeValidator(_whole)] = Field(
        MAX_TASKS, ge=1, le=MAX_TASKS, description="How many tasks to find at most."
    )
    cursor: UUID | None = Field(None, description="The next_cursor of the answer before.")

    @model_validator(mode="after")
    def _says_which(self) -> TaskActionsRequest:
        if self.task_uuids is None and self.where is None:
            raise ValueError("does not say which tasks; give task_uuids, where, or both")
        if self.task_uuids is not None and self.cursor is not None:
            raise ValueError("has a cursor, which only a search without task_uuids has")
        return self


class TaskActionOutcome(Answer):
    """What became of one task."""

    task_uuid: UUID
    outcome: Literal["done", "unchanged", "skipped", "refused", "not_found"] = Field(
        description="unchanged: it was cancelled or resolved before; skipped: it does not fit."
    )
    status: TaskState | None = Field(description="The one it has now; null: no such task.")
    detail: str | None = Field(description="Why it was not done.")
    namespace: str | None
    name: str | None
    version: str | None


class TaskActionsResponse(Answer):
    """What became of each task, in the order given; of a search, the oldest first."""

    action: Literal["cancel", "resolve", "reset"]
    dry_run: bool = Field(description="true: it would have become of it, and did not.")
    items: list[TaskActionOutcome]
    counts: dict[str, int] = Field(description="How often each outcome occurs.")
    next_cursor: UUID | None = Field(description="null: there are no more.")
