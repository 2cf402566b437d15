"""Many tasks in one request, and what became of each."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, Strict

from tasker_core.wire.common import Answer, Request
from tasker_core.wire.problems import FieldError
from tasker_core.wire.tasks import TaskRequest

MAX_BULK_TASKS = 10_000  # of one request


class BulkCreateRequest(Request):
    """Tasks to begin, each for itself, or all of them or none."""

    # each is held against TaskRequest by itself, so that one that is wrong stops no other
    tasks: list[Any] = Field(min_length=1, max_length=MAX_BULK_TASKS)
    atomic: Annotated[bool, Strict()] = Field(
        False, description="All of them or none: one that is refused refuses all."
    )


class BulkCreateTasks(BulkCreateRequest):
    """The same, as it is described."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tasks": [{"name": "refund", "namespace": "shop"}], "atomic": True}]
        }
    )

    tasks: list[TaskRequest] = Field(min_length=1, max_length=MAX_BULK_TASKS)


class BulkCreateItem(Answer):
    """What became of one of them."""

    index: int = Field(description="Its place in the request, from 0.")
    status: int = Field(description="201, or what a request for it alone would have answered.")
    task_uuid: UUID | None = None
    code: str | None = None
    detail: str | None = None
    errors: list[FieldError] = Field(
        default=[], description="Pointers into the request for this task."
    )


class BulkCreateResponse(Answer):
    """What became of each, in the order of the request."""

    created_count: int
    refused_count: int
    items: list[BulkCreateItem]
