"""What comes back from the server, as plain frozen objects."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from tasker_core.client import (
    BulkCreateItem,
    BulkCreateResponse,
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepCause,
    StepResponse,
    TaskActionOutcome,
    TaskActionsResponse,
    TaskEvent,
    TaskListResponse,
    TaskResponse,
    WhoamiResponse,
)
from tasker_core.wire import actions as wire_actions
from tasker_core.wire import bulk as wire_bulk
from tasker_core.wire import events as wire_events
from tasker_core.wire import steps as wire_steps
from tasker_core.wire import tasks as wire_tasks
from tasker_core.wire.whoami import WhoamiResponse as WireWhoami

# Each with the server's own model of it.
SHARED: list[tuple[Any, Any]] = [
    (BulkCreateItem, wire_bulk.BulkCreateItem),
    (BulkCreateResponse, wire_bulk.BulkCreateResponse),
    (PaginationInfo, wire_tasks.Pagination),
    (StepAuditResponse, wire_steps.StepAudit),
    (StepCause, wire_tasks.StepCause),
    (StepResponse, wire_steps.StepResponse),
    (TaskActionOutcome, wire_actions.TaskActionOutcome),
    (TaskActionsResponse, wire_actions.TaskActionsResponse),
    (TaskEvent, wire_events.EventResponse),
    (TaskListResponse, wire_tasks.TaskListResponse),
    (TaskResponse, wire_tasks.TaskResponse),
    (WhoamiResponse, WireWhoami),
]

ALL: list[Any] = [
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepResponse,
    TaskListResponse,
    TaskResponse,
]


@pytest.mark.parametrize(("kind", "model"), SHARED)
def test_what_the_server_sends_the_client_has(kind: Any, model: Any) -> None:
    """Member for member: none is lost on the way, and none is made up."""
    assert {one.name for one in fields(kind)} == set(model.model_fields)


@pytest.mark.parametrize("kind", ALL)
def test_missing_members_have_defaults_and_unknown_ones_are_ignored(kind: Any) -> None:
    """So an older client reads a newer server, and the other way round."""
    assert kind.from_dict({}) == kind()
    assert kind.from_dict({"of_tomorrow": 1}) == kind()


def test_answers_do_not_change_and_can_be_written_as_json() -> None:
    """They are frozen, and have the `__dict__` that applications pass on."""
    task = TaskResponse.from_dict({"task_uuid": "u", "status": "complete"})

    with pytest.raises(AttributeError):
        task.status = "error"  # type: ignore[misc]
    assert issubclass(FrozenInstanceError, AttributeError)
    assert task.__dict__["status"] == "complete"


def test_a_list_builds_what_it_holds() -> None:
    """Tasks and pagination are objects too."""
    listed = TaskListResponse.from_dict(
        {"tasks": [{"name": "flow", "steps": []}], "pagination": {"total_count": 1, "x": 2}}
    )

    assert listed.tasks == [TaskResponse(name="flow")]
    assert listed.pagination == PaginationInfo(total_count=1)


def test_containers_are_not_shared() -> None:
    """Each answer has its own."""
    assert TaskResponse().context is not TaskResponse().context
