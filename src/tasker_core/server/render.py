"""What the engine read → what the caller sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

from tasker_core.engine.ids import step_uuid
from tasker_core.engine.inspect import AttemptRecord, StepRecord, TaskRecord, Transition
from tasker_core.engine.why import Cause, explain
from tasker_core.states import TASK_TERMINAL, StepState
from tasker_core.wire import steps as wire
from tasker_core.wire.tasks import (
    ExecutionStatus,
    Pagination,
    RecommendedAction,
    StepCause,
    TaskListResponse,
    TaskResponse,
)

_ADVICE: dict[ExecutionStatus, RecommendedAction] = {
    "has_ready_steps": "execute_ready_steps",
    "processing": "wait_for_completion",
    "blocked_by_failures": "handle_failures",
    "all_complete": "finalize_task",
    "waiting_for_dependencies": "wait_for_dependencies",
}

_UNSAID_VERSION = "1.0.0"  # a handler's, when its author does not say: not stored

_S = StepState
_ALIVE = frozenset({_S.PENDING, _S.ENQUEUED, _S.IN_PROGRESS, _S.WAITING_FOR_RETRY})


# --- tasks ------------------------------------------------------------------------------


def task_response(
    task: TaskRecord, steps: Iterable[StepRecord] = (), *, with_results: bool = False
) -> TaskResponse:
    """Show a task, with where its steps stand when they are given: they are counted then.

    Args:
        with_results: Also what the steps returned after which none comes.
    """
    steps = list(steps)
    if steps:  # read a moment after the task
        task = replace(task, step_counts=dict(Counter(step.state for step in steps)))
    status = execution_status(task)
    done = task.count(_S.COMPLETE, _S.RESOLVED_MANUALLY)
    total = task.total_steps
    return TaskResponse(
        task_uuid=task.task_uuid,
        name=task.name,
        namespace=task.namespace,
        version=task.version,
        status=task.state,
        created_at=task.created_at,
        updated_at=task.updated_at,
        completed_at=task.completed_at,
        context=task.context,
        initiator=task.initiator,
        source_system=task.source_system,
        reason=task.reason,
        priority=task.priority,
        tags=task.tags,
        correlation_id=task.correlation_id,
        parent_correlation_id=task.parent_correlation_id,
        total_steps=total,
        pending_steps=task.count(_S.PENDING),
        enqueued_steps=task.count(_S.ENQUEUED),
        in_progress_steps=task.count(_S.IN_PROGRESS),
        waiting_for_retry_steps=task.count(_S.WAITING_FOR_RETRY),
        completed_steps=done,
        failed_steps=task.count(_S.ERROR),
        cancelled_steps=task.count(_S.CANCELLED),
        ready_steps=task.count(_S.ENQUEUED),
        execution_status=status,
        recommended_action="none" if task.state in TASK_TERMINAL else _ADVICE[status],
        completion_percentage=round(100 * done / total, 2) if total else 0.0,
        health_status="blocked" if task.count(_S.ERROR) else "healthy",
        steps=[step_readiness(task.template_uuid, step) for step in steps],
        results=last_results(steps) if with_results else None,
    )


def last_results(steps: Iterable[StepRecord]) -> dict[str, Any]:
    """Give what those steps returned after which none comes: the outcome of the task."""
    return {step.name: step.result for step in steps if is_done(step) and not step.children}


def is_done(step: StepRecord) -> bool:
    """Say whether a step is complete, and so has a result."""
    return step.state is _S.COMPLETE


def execution_status(task: TaskRecord) -> ExecutionStatus:
    """Say what the steps of a task are at, the worst first."""
    if task.count(_S.ERROR):
        return "blocked_by_failures"
    if task.count(_S.ENQUEUED):
        return "has_ready_steps"
    if task.count(_S.IN_PROGRESS):
        return "processing"
    total = task.total_steps
    if total and task.count(_S.COMPLETE, _S.RESOLVED_MANUALLY) == total:
        return "all_complete"
    return "waiting_for_dependencies"


def cause_response(task_uuid: UUID, cause: Cause) -> StepCause:
    """Show why a step is neither running nor done."""
    return StepCause.model_validate(
        {
            "step_uuid": cause.step_no and step_uuid(task_uuid, cause.step_no),
            "name": cause.name,
            "state": cause.state,
            "cause": cause.cause,
            "explanation": explain(cause),
            "detail": cause.detail,
        }
    )


def task_list(tasks: Sequence[TaskRecord], page: Pagination) -> TaskListResponse:
    """Show a page of tasks."""
    return TaskListResponse(tasks=[task_response(task) for task in tasks], pagination=page)


# --- steps ------------------------------------------------------------------------------


def step_readiness(template_uuid: UUID, step: StepRecord) -> wire.StepReadiness:
    """Show where a step stands."""
    return wire.StepReadiness(
        workflow_step_uuid=step.step_uuid,
        task_uuid=step.task_uuid,
        named_step_uuid=_named_step_uuid(template_uuid, step.name),
        backoff_request_seconds=None,
        **_standing(step),
    )


def step_response(step: StepRecord, transitions: Iterable[Transition] = ()) -> wire.StepResponse:
    """Show a step with its result; the transitions tell who completed it by hand."""
    return wire.StepResponse(
        step_uuid=step.step_uuid,
        task_uuid=step.task_uuid,
        created_at=step.created_at,
        updated_at=step.updated_at,
        completed_at=step.completed_at,
        results=_result(step, transitions),
        **_standing(step),
    )


def is_completed_by_hand(step: StepRecord) -> bool:
    """Say whether the result is an operator's."""
    if step.state is not _S.COMPLETE:
        return False
    last = step.last_attempt
    return last is None or last.outcome is not _S.COMPLETE or last.error is not None


def step_audit(
    step: StepRecord, attempts: Iterable[AttemptRecord], transitions: Iterable[Transition]
) -> list[wire.StepAudit]:
    """Show what happened to a step, the newest first."""
    told = [_attempt_audit(step, attempt) for attempt in attempts]
    told += [_action_audit(step, move) for move in transitions if move.action is not None]
    return sorted(told, key=lambda one: one.recorded_at, reverse=True)


def transition_response(
    task_uuid: UUID, move: Transition, names: Mapping[int, str]
) -> wire.TransitionResponse:
    """Show one change of state."""
    return wire.TransitionResponse(
        task_uuid=task_uuid,
        step_uuid=None if move.step_no is None else step_uuid(task_uuid, move.step_no),
        step_name=None if move.step_no is None else names.get(move.step_no),
        from_state=move.from_state,
        to_state=move.to_state,
        moved_at=move.moved_at,
        attempt=move.attempt,
        action=move.action,
        actor=move.actor,
        reason=move.reason,
    )


@lru_cache(maxsize=4096)
def _named_step_uuid(template_uuid: UUID, name: str) -> UUID:
    return uuid5(template_uuid, name)


def _standing(step: StepRecord) -> dict[str, Any]:
    last = step.last_attempt
    failed = last is not None and last.error is not None
    return {
        "name": step.name,
        "current_state": step.state,
        "dependencies_satisfied": step.parents_left == 0,
        "retry_eligible": step.state in _ALIVE and step.attempts < step.max_attempts,
        "ready_for_execution": step.state is _S.ENQUEUED,
        "last_failure_at": last.finished_at if last is not None and failed else None,
        "next_retry_at": step.due_at,
        "total_parents": len(step.parents),
        "completed_parents": len(step.parents) - step.parents_left,
        "attempts": step.attempts,
        "max_attempts": step.max_attempts,
        "last_attempted_at": step.claimed_at or (last.claimed_at if last is not None else None),
    }


def _result(step: StepRecord, transitions: Iterable[Transition]) -> wire.ExecutionResult | None:
    if is_completed_by_hand(step):
        return _operator_result(step, transitions)
    if step.last_attempt is None:
        return None
    return _attempt_result(step, step.last_attempt)


def _attempt_result(step: StepRecord, attempt: AttemptRecord) -> wire.ExecutionResult:
    failure = attempt.error
    facts = attempt.metadata or {}
    custom = facts.get("custom")
    is_success = attempt.outcome is _S.COMPLETE and failure is None
    is_last = step.last_attempt is not None and attempt.attempt == step.last_attempt.attempt
    return wire.ExecutionResult(
        step_uuid=step.step_uuid,
        success=is_success,
        result=step.result if is_success and is_last else None,
        status="completed" if is_success else "failed",
        metadata=wire.ResultMetadata(
            execution_time_ms=_milliseconds(attempt),
            retryable=bool(failure and failure.get("retryable", False)),
            completed_at=attempt.finished_at,
            started_at=attempt.claimed_at,
            worker_id=str(attempt.worker_uuid),
            handler_version=_text(facts.get("handler_version", _UNSAID_VERSION)),
            error_code=_text((failure or {}).get("error_code")),
            error_type=_text((failure or {}).get("error_type")),
            custom=custom if isinstance(custom, dict) else {},
            checkpoint=facts.get("checkpoint"),
        ),
        error=None if failure is None else _error(failure, custom),
    )


def _operator_result(step: StepRecord, transitions: Iterable[Transition]) -> wire.ExecutionResult:
    action = None
    for move in transitions:
        if move.step_no == step.step_no and move.action == "complete":
            action = move
    return wire.ExecutionResult(
        step_uuid=step.step_uuid,
        success=True,
        result=step.result,
        status="completed",
        metadata=wire.ResultMetadata(
            execution_time_ms=None,
            retryable=False,
            completed_at=step.completed_at or step.updated_at,
            started_at=None,
            worker_id=None,
            handler_version=None,
            error_code=None,
            error_type=None,
            custom={},
            manually_completed=True,
            completed_by=action.actor if action else None,
            completion_reason=action.reason if action else None,
        ),
        error=None,
    )


def _error(failure: Mapping[str, Any], custom: object) -> wire.ResultError:
    context = custom if isinstance(custom, dict) else {}
    status_code = context.get("status_code")
    return wire.ResultError(
        message=str(failure.get("message", "")),
        error_type=_text(failure.get("error_type")),
        error_code=_text(failure.get("error_code")),
        retryable=bool(failure.get("retryable", False)),
        status_code=status_code if type(status_code) is int else None,
        backtrace=_lines(failure.get("traceback")),
        context=context,
    )


def _attempt_audit(step: StepRecord, attempt: AttemptRecord) -> wire.StepAudit:
    audit_uuid = uuid5(step.step_uuid, f"attempt {attempt.attempt}")
    return wire.StepAudit(
        audit_uuid=audit_uuid,
        workflow_step_uuid=step.step_uuid,
        transition_uuid=audit_uuid,
        task_uuid=step.task_uuid,
        recorded_at=attempt.finished_at,
        kind="worker_result",
        worker_uuid=attempt.worker_uuid,
        attempt=attempt.attempt,
        success=attempt.outcome is _S.COMPLETE and attempt.error is None,
        execution_time_ms=_milliseconds(attempt),
        result=_attempt_result(step, attempt),
        step_name=step.name,
        from_state=_S.IN_PROGRESS,
        to_state=attempt.outcome,
    )


def _action_audit(step: StepRecord, move: Transition) -> wire.StepAudit:
    audit_uuid = uuid5(step.step_uuid, f"{move.action} {move.moved_at.isoformat()}")
    return wire.StepAudit(
        audit_uuid=audit_uuid,
        workflow_step_uuid=step.step_uuid,
        transition_uuid=audit_uuid,
        task_uuid=step.task_uuid,
        recorded_at=move.moved_at,
        kind="operator_action",
        success=True,
        step_name=step.name,
        from_state=move.from_state,
        to_state=move.to_state,
        action=move.action,
        actor=move.actor,
        reason=move.reason,
    )


def _milliseconds(attempt: AttemptRecord) -> int:
    if attempt.execution_ms is not None:
        return round(attempt.execution_ms)
    return round(attempt.duration.total_seconds() * 1000)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _lines(traceback: object) -> list[str] | None:
    if traceback is None:
        return None
    if isinstance(traceback, list):
        return [str(line) for line in traceback]
    return str(traceback).splitlines()
