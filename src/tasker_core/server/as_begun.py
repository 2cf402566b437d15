"""What the creation of a task is answered with: the task as it begins.

It is what a reader would have been shown at that moment, byte for byte. But for ids and
what the request says, it is the same for every task of a template: it is made once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from tasker_core.engine.begun import begun
from tasker_core.engine.create import CreatedTask, NewTask
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.register import RegisteredTemplate
from tasker_core.server.render import task_response
from tasker_core.wire.common import write_moment

_ANY_UUID = UUID("01920000-0000-7000-8000-000000000000")
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def as_begun(created: CreatedTask, new: NewTask) -> bytes:
    """Write down a task that was created, as JSON.

    Args:
        created: What was created.
        new: What it was created from, with its correlation id and a context of plain JSON.
    """
    task_uuid, moment = str(created.task_uuid), write_moment(created.created_at)
    sample = _sample(created.template)
    steps = [
        {
            **step,
            "workflow_step_uuid": str(step_uuid(created.task_uuid, number)),
            "task_uuid": task_uuid,
        }
        for number, step in enumerate(sample["steps"], 1)
    ]
    parent = new.parent_correlation_id
    return to_json(
        {
            **sample,
            "task_uuid": task_uuid,
            "created_at": moment,
            "updated_at": moment,
            "context": new.context,
            "initiator": new.initiator,
            "source_system": new.source_system,
            "reason": new.reason,
            "priority": new.priority,
            "tags": new.tags,
            "correlation_id": str(new.correlation_id),
            "parent_correlation_id": None if parent is None else str(parent),
            "steps": steps,
        }
    )


@lru_cache(maxsize=512)
def _sample(registered: RegisteredTemplate) -> dict[str, Any]:
    new = NewTask(name=registered.template.name, correlation_id=_ANY_UUID)
    task, steps = begun(CreatedTask(_ANY_UUID, registered, _ANY_MOMENT), new)
    return task_response(task, steps).model_dump(mode="json")
