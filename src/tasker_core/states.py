"""The states of tasks, steps and dead letters, and which may follow which.

This is the only table of legal transitions. The SQL functions make the moves;
the tests hold every move that they record against this page.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands. The last four words of the second block are for old clients."""

    PENDING = "pending"  # created, starts later
    STEPS_IN_PROCESS = "steps_in_process"  # steps are enqueued or running
    WAITING_FOR_RETRY = "waiting_for_retry"  # only retries are left to wait for
    WAITING_FOR_DEPENDENCIES = "waiting_for_dependencies"  # waits for something outside
    BLOCKED_BY_FAILURES = "blocked_by_failures"  # settled, and a step failed for good
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"

    # Legal in filters, never stored.
    INITIALIZING = "initializing"
    ENQUEUING_STEPS = "enqueuing_steps"
    EVALUATING_RESULTS = "evaluating_results"


class StepState(StrEnum):
    """Where a step stands."""

    PENDING = "pending"  # its dependencies are not done, or its task is halted
    ENQUEUED = "enqueued"  # claimable now
    IN_PROGRESS = "in_progress"  # claimed, lease held
    WAITING_FOR_RETRY = "waiting_for_retry"  # claimable at a later time
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESOLVED_MANUALLY = "resolved_manually"

    # Legal in filters, never stored.
    ENQUEUED_FOR_ORCHESTRATION = "enqueued_for_orchestration"
    ENQUEUED_AS_ERROR_FOR_ORCHESTRATION = "enqueued_as_error_for_orchestration"


class DlqReason(StrEnum):
    """Why a task was put aside."""

    STALENESS_TIMEOUT = "staleness_timeout"  # over a limit of its template
    MAX_RETRIES_EXCEEDED = "max_retries_exceeded"  # given up after a step failed for good
    DEPENDENCY_CYCLE_DETECTED = "dependency_cycle_detected"  # for old clients; refused earlier
    WORKER_UNAVAILABLE = "worker_unavailable"  # stale, as no live worker has its handlers
    MANUAL_DLQ = "manual_dlq"  # on an operator's word


class DlqStatus(StrEnum):
    """Where an investigation stands."""

    PENDING = "pending"
    MANUALLY_RESOLVED = "manually_resolved"
    PERMANENTLY_FAILED = "permanently_failed"
    CANCELLED = "cancelled"


TASK_TERMINAL = frozenset(
    {TaskState.COMPLETE, TaskState.ERROR, TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY}
)

STEP_TERMINAL = frozenset({StepState.COMPLETE, StepState.CANCELLED, StepState.RESOLVED_MANUALLY})

STEP_SATISFIES_CHILDREN = frozenset({StepState.COMPLETE, StepState.RESOLVED_MANUALLY})

_T = TaskState
_OPEN_TASK = (
    _T.PENDING,
    _T.STEPS_IN_PROCESS,
    _T.WAITING_FOR_RETRY,
    _T.WAITING_FOR_DEPENDENCIES,
    _T.BLOCKED_BY_FAILURES,
)
_MOVES_ON = frozenset(_OPEN_TASK[1:]) | TASK_TERMINAL

TASK_TRANSITIONS: dict[TaskState | None, frozenset[TaskState]] = {
    None: frozenset({_T.PENDING, _T.STEPS_IN_PROCESS, _T.COMPLETE}),
    **{state: _MOVES_ON - {state} for state in _OPEN_TASK},
    _T.ERROR: frozenset({_T.STEPS_IN_PROCESS, _T.WAITING_FOR_RETRY}),  # an operator's reset
    _T.COMPLETE: frozenset(),
    _T.CANCELLED: frozenset(),
    _T.RESOLVED_MANUALLY: frozenset(),
}

_S = StepState
_BY_OPERATOR = frozenset({_S.COMPLETE, _S.RESOLVED_MANUALLY, _S.CANCELLED})

STEP_TRANSITIONS: dict[StepState | None, frozenset[StepState]] = {
    None: frozenset({_S.PENDING, _S.ENQUEUED, _S.WAITING_FOR_RETRY}),
    _S.PENDING: frozenset({_S.ENQUEUED, _S.WAITING_FOR_RETRY}) | _BY_OPERATOR,
    _S.ENQUEUED: frozenset({_S.IN_PROGRESS, _S.PENDING}) | _BY_OPERATOR,
    _S.IN_PROGRESS: frozenset({_S.ERROR, _S.WAITING_FOR_RETRY, _S.ENQUEUED, _S.PENDING})
    | _BY_OPERATOR,
    _S.WAITING_FOR_RETRY: frozenset({_S.ENQUEUED, _S.PENDING}) | _BY_OPERATOR,
    _S.ERROR: frozenset({_S.PENDING, _S.ENQUEUED}) | _BY_OPERATOR,  # reset, resolve, cancel
    _S.COMPLETE: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.RESOLVED_MANUALLY: frozenset(),
}
