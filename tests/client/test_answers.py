"""What comes back from the server, as plain frozen objects."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from tasker_core.client import (
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepResponse,
    TaskListResponse,
    TaskResponse,
)

ALL: list[Any] = [
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepResponse,
    TaskListResponse,
    TaskResponse,
]


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
