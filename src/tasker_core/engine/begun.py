"""A task as it begins: what a reader would have found at the moment of its creation.

Nothing is read for it: a new task is what its template and its request say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from tasker_core.engine.create import CreatedTask, NewTask
from tasker_core.engine.inspect import StepRecord, TaskRecord
from tasker_core.engine.register import RegisteredTemplate
from tasker_core.states import StepState, TaskState
from tasker_core.templates.graph import PlannedStep, initial_steps


def begun(created: CreatedTask, new: NewTask) -> tuple[TaskRecord, list[StepRecord]]:
    """Give the task and its steps, as `get_task` and `list_steps` would have at first.

    Args:
        created: What was created.
        new: What it was created from, with its correlation id and a context of plain JSON.
    """
    assert new.correlation_id is not None
    template = created.template.template
    steps = [
        StepRecord(
            task_uuid=created.task_uuid,
            step_no=planned.step_no,
            name=planned.name,
            state=StepState.PENDING if planned.parents else StepState.ENQUEUED,
            parents=list(planned.parents),
            children=list(planned.children),
            parents_left=len(planned.parents),
            attempts=0,
            max_attempts=executions,
            created_at=created.created_at,
            updated_at=created.created_at,
            completed_at=None,
            due_at=None,
            claimed_at=None,
            worker_uuid=None,
            result=None,
            checkpoint=None,
            last_attempt=None,
        )
        for planned, executions in _first_steps(created.template)
    ]
    task = TaskRecord(
        task_uuid=created.task_uuid,
        template_uuid=created.template.template_uuid,
        namespace=template.namespace,
        name=template.name,
        version=template.version,
        state=TaskState.STEPS_IN_PROCESS,
        context=dict(cast(Mapping[str, Any], new.context)),
        priority=new.priority,
        tags=list(new.tags),
        initiator=new.initiator,
        source_system=new.source_system,
        reason=new.reason,
        correlation_id=new.correlation_id,
        parent_correlation_id=new.parent_correlation_id,
        created_at=created.created_at,
        updated_at=created.created_at,
        completed_at=None,
        step_counts=dict(Counter(step.state for step in steps)),
    )
    return task, steps


@lru_cache(maxsize=512)
def _first_steps(registered: RegisteredTemplate) -> list[tuple[PlannedStep, int]]:
    """Plan the steps, with how often each may be executed."""
    template = registered.template
    return [
        (planned, template.step(planned.name).retry.executions)
        for planned in initial_steps(template)
    ]
