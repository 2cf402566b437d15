"""A task from one side or the other: its summary, its history, what its steps returned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tasker_core.engine.dlq import DlqEntry
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.inspect import AttemptRecord, StepRecord, TaskRecord, Transition
from tasker_core.server.render import is_done, step_response, task_response
from tasker_core.states import StepState
from tasker_core.templates.model import TaskTemplate
from tasker_core.wire import graph as wire


def summary(
    task: TaskRecord,
    template: TaskTemplate,
    steps: Sequence[StepRecord],
    entry: DlqEntry | None,
    root: str,
) -> wire.TaskSummary:
    """Show everything that a page about one task needs; `root` is where the API stands."""
    base = f"{root}/tasks/{task.task_uuid}"
    names = {step.step_no: step.name for step in steps}
    return wire.TaskSummary(
        task=wire.SummaryTask.model_validate(task_response(task, steps).model_dump()),
        template=wire.SummaryTemplate(
            steps=[
                wire.SummaryTemplateStep(
                    name=step.name,
                    step_type=step.type,
                    handler=step.handler.callable,
                    dependencies=list(step.dependencies),
                    retryable=step.retry.retryable,
                    max_attempts=step.retry.max_attempts,
                )
                for step in template.steps
            ]
        ),
        steps=[_step(step, names) for step in steps],
        dlq=wire.SummaryDlq(
            in_dlq=entry is not None,
            dlq_reason=None if entry is None else entry.dlq_reason,
            resolution_status=None if entry is None else entry.resolution_status,
        ),
        links=wire.SummaryLinks(
            task=base,
            steps=f"{base}/workflow_steps",
            dlq=f"{root}/dlq/task/{task.task_uuid}",
            events=f"{base}/events",
            graph=f"{base}/graph",
            summary=f"{base}/summary",
        ),
    )


def audit(
    task: TaskRecord,
    attempts: Iterable[AttemptRecord],
    transitions: Iterable[Transition],
    names: dict[int, str],
) -> list[wire.TaskAudit]:
    """Show what happened to a task, and who did it, the newest first."""
    told = [
        wire.TaskAudit(
            recorded_at=task.created_at,
            kind="created",
            actor=task.initiator,
            reason=task.reason,
            to_state="steps_in_process",
        )
    ]
    told += [_attempt(task, attempt, names) for attempt in attempts]
    told += [_change(task, move, names) for move in transitions if move.action is not None]
    told.sort(key=_moment)  # stable: of one moment, as they came
    return told[::-1]


def context(task: TaskRecord, steps: Sequence[StepRecord]) -> wire.TaskContextResponse:
    """Show what went in and what came out."""
    outputs = {step.name: step.result for step in steps if is_done(step)}
    merged: dict[str, Any] = dict(task.context)
    for result in outputs.values():
        if isinstance(result, dict):
            merged |= result
    return wire.TaskContextResponse(inputs=task.context, outputs=outputs, merged=merged)


def _step(step: StepRecord, names: dict[int, str]) -> wire.SummaryStep:
    shown = step_response(step)
    failure = shown.results.error if shown.results is not None else None
    return wire.SummaryStep(
        step_uuid=step.step_uuid,
        name=step.name,
        current_state=step.state,
        created_at=step.created_at,
        completed_at=step.completed_at,
        last_attempted_at=shown.last_attempted_at,
        attempts=step.attempts,
        max_attempts=step.max_attempts,
        dependencies=[names[parent] for parent in step.parents],
        dependencies_satisfied=shown.dependencies_satisfied,
        retry_eligible=shown.retry_eligible,
        error=None
        if failure is None
        else wire.SummaryError(
            message=failure.message,
            error_type=failure.error_type,
            retryable=failure.retryable,
            status_code=failure.status_code,
        ),
    )


def _change(task: TaskRecord, move: Transition, names: dict[int, str]) -> wire.TaskAudit:
    is_step = move.step_no is not None
    return wire.TaskAudit(
        recorded_at=move.moved_at,
        kind="task_change" if move.actor is None else "operator_action",
        actor=move.actor,
        reason=move.reason,
        action=move.action,
        step_uuid=step_uuid(task.task_uuid, move.step_no) if move.step_no is not None else None,
        step_name=names.get(move.step_no or 0) if is_step else None,
        from_state=move.from_state,
        to_state=move.to_state,
    )


def _attempt(task: TaskRecord, attempt: AttemptRecord, names: dict[int, str]) -> wire.TaskAudit:
    milliseconds = attempt.execution_ms
    if milliseconds is None:
        milliseconds = attempt.duration.total_seconds() * 1000
    return wire.TaskAudit(
        recorded_at=attempt.finished_at,
        kind="worker_result",
        actor=str(attempt.worker_uuid),
        step_uuid=step_uuid(task.task_uuid, attempt.step_no),
        step_name=names.get(attempt.step_no),
        from_state=StepState.IN_PROGRESS,
        to_state=attempt.outcome,
        attempt=attempt.attempt,
        success=attempt.outcome is StepState.COMPLETE and attempt.error is None,
        execution_time_ms=round(milliseconds),
        error=attempt.error and {k: v for k, v in attempt.error.items() if k != "traceback"},
    )


def _moment(told: wire.TaskAudit) -> datetime:
    return told.recorded_at
