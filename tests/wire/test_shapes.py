"""The shapes that cross HTTP, and those who read them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel

from tasker_core import client
from tasker_core.wire import actions, bulk, events, steps, tasks

PAIRS: list[tuple[type[BaseModel], Any]] = [
    (tasks.TaskResponse, client.TaskResponse),
    (tasks.TaskListResponse, client.TaskListResponse),
    (tasks.Pagination, client.PaginationInfo),
    (tasks.StepCause, client.StepCause),
    (actions.TaskActionsResponse, client.TaskActionsResponse),
    (actions.TaskActionOutcome, client.TaskActionOutcome),
    (bulk.BulkCreateItem, client.BulkCreateItem),
    (bulk.BulkCreateResponse, client.BulkCreateResponse),
    (events.EventResponse, client.TaskEvent),
    (steps.StepResponse, client.StepResponse),
    (steps.StepAudit, client.StepAuditResponse),
]


@pytest.mark.parametrize(("written", "read"), PAIRS)
def test_the_client_reads_every_member(written: type[BaseModel], read: Any) -> None:
    """What the server writes has a place in what the client gives."""
    assert set(written.model_fields) == {field.name for field in fields(read)}


def test_a_request_is_its_own_default() -> None:
    """Only the name must be said; two requests share no containers."""
    one, two = tasks.TaskRequest(name="flow"), tasks.TaskRequest(name="flow")

    assert one == two
    assert one.context is not two.context
    assert one.tags is not two.tags
