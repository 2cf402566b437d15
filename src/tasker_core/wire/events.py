"""What is told of tasks as it happens, one JSON object an event."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from tasker_core.wire.common import Answer, Moment

EventType = Literal[
    "task.snapshot",
    "task.created",
    "task.state_changed",
    "task.finished",
    "step.state_changed",
    "stream.end",
]


class EventResponse(Answer):
    """One event, as it stands in `data:` of a stream and in a page of the history."""

    id: str = Field(description="Give it as Last-Event-ID to go on after this event.")
    type: EventType
    occurred_at: Moment
    task_uuid: UUID
    namespace: str
    name: str
    version: str
    correlation_id: UUID
    data: dict[str, Any]


class EventPage(Answer):
    """A page of a task's history, the oldest first."""

    events: list[EventResponse]
    next_since: str = Field(description="Where the next page begins.")
    has_more: bool
