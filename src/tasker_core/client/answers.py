"""What comes back from the server, as plain frozen objects.

`from_dict` leaves out what it does not know and gives what is missing its default, so
that an older client reads a newer server. Moments stay text, as the server wrote them.
The objects have a `__dict__`: applications put it into their own JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

A = TypeVar("A", bound="Answer")


class Answer:
    """Reads itself from a JSON object."""

    @classmethod
    def from_dict(cls: type[A], data: Mapping[str, Any]) -> A:
        """Build it from a JSON object."""
        names = cls.__dataclass_fields__  # type: ignore[attr-defined] # each is a dataclass
        return cls(**{name: value for name, value in data.items() if name in names})


@dataclass(frozen=True)
class TaskResponse(Answer):
    """One task. `steps` holds an object a step; it is empty in lists.

    `results` has what those steps returned after which none comes, where it was asked for.
    """

    task_uuid: str = ""
    name: str = ""
    namespace: str = ""
    version: str = ""
    status: str = ""
    created_at: str = ""
    updated_at: str = ""
    completed_at: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    initiator: str = ""
    source_system: str = ""
    reason: str = ""
    priority: int | None = None
    tags: list[str] | None = None
    correlation_id: str = ""
    parent_correlation_id: str | None = None
    total_steps: int = 0
    pending_steps: int = 0
    in_progress_steps: int = 0
    completed_steps: int = 0
    failed_steps: int = 0
    ready_steps: int = 0
    execution_status: str = ""
    recommended_action: str = ""
    completion_percentage: float = 0.0
    health_status: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    enqueued_steps: int = 0
    waiting_for_retry_steps: int = 0
    cancelled_steps: int = 0
    results: dict[str, Any] | None = None


@dataclass(frozen=True)
class PaginationInfo(Answer):
    """Where in a list a page is; pages are counted from 1.

    With a cursor they have no number, and `total_count` is 0 unless it was asked for.
    """

    page: int = 0
    per_page: int = 50
    total_count: int = 0
    total_pages: int = 0
    has_next: bool = False
    has_previous: bool = False
    next_cursor: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PaginationInfo:
        """Build it from a JSON object."""
        return super().from_dict({name: one for name, one in data.items() if one is not None})


@dataclass(frozen=True)
class TaskListResponse(Answer):
    """A page of tasks, the youngest first."""

    tasks: list[TaskResponse] = field(default_factory=list)
    pagination: PaginationInfo = PaginationInfo()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskListResponse:
        """Build it, and what it holds, from a JSON object."""
        return cls(
            [TaskResponse.from_dict(task) for task in data.get("tasks") or ()],
            PaginationInfo.from_dict(data.get("pagination") or {}),
        )


@dataclass(frozen=True)
class TaskEvent(Answer):
    """Something that happened to a task, or how it stands.

    `type` is `task.snapshot` (`data` is the task, as `get_task` gives it), `task.created`,
    `task.state_changed`, `task.finished` or `step.state_changed`; `data` has `from` and `to`,
    and of a step `step_uuid`, `step`, `attempt` and `error`. To go on after it, give its `id`.
    """

    id: str = ""
    type: str = ""
    occurred_at: str = ""
    task_uuid: str = ""
    namespace: str = ""
    name: str = ""
    version: str = ""
    correlation_id: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BulkCreateItem(Answer):
    """What became of one of many tasks; `index` is its place in the request, from 0.

    `status` is 201, or what a request for it alone would have answered.
    """

    index: int = 0
    status: int = 0
    task_uuid: str | None = None
    code: str | None = None
    detail: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class BulkCreateResponse(Answer):
    """What became of each of many tasks, in their order."""

    created_count: int = 0
    refused_count: int = 0
    items: list[BulkCreateItem] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BulkCreateResponse:
        """Build it, and what it holds, from a JSON object."""
        items = [BulkCreateItem.from_dict(one) for one in data.get("items") or ()]
        return super().from_dict({**data, "items": items})


@dataclass(frozen=True)
class TaskActionOutcome(Answer):
    """What became of one of many tasks; `detail` says why it was not done.

    `outcome` is `done`, `unchanged`, `skipped`, `refused` or `not_found`; `status` is the
    task's own, now.
    """

    task_uuid: str = ""
    outcome: str = ""
    status: str | None = None
    detail: str | None = None
    namespace: str | None = None
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class TaskActionsResponse(Answer):
    """What became of many tasks; of a dry run, what would have become of them."""

    action: str = ""
    dry_run: bool = False
    items: list[TaskActionOutcome] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    next_cursor: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskActionsResponse:
        """Build it, and what it holds, from a JSON object."""
        items = [TaskActionOutcome.from_dict(one) for one in data.get("items") or ()]
        return super().from_dict({**data, "items": items})


@dataclass(frozen=True)
class StepResponse(Answer):
    """One step. `results` is how its last attempt ended: `{"success", "result", "error", …}`."""

    step_uuid: str = ""
    task_uuid: str = ""
    name: str = ""
    created_at: str = ""
    updated_at: str = ""
    completed_at: str | None = None
    results: dict[str, Any] | None = None
    current_state: str = ""
    dependencies_satisfied: bool = False
    retry_eligible: bool = False
    ready_for_execution: bool = False
    total_parents: int = 0
    completed_parents: int = 0
    attempts: int = 0
    max_attempts: int = 0
    last_failure_at: str | None = None
    next_retry_at: str | None = None
    last_attempted_at: str | None = None


@dataclass(frozen=True)
class StepAuditResponse(Answer):
    """One thing that happened to a step: an attempt that ended, or an operator's action."""

    audit_uuid: str = ""
    workflow_step_uuid: str = ""
    transition_uuid: str = ""
    task_uuid: str = ""
    recorded_at: str = ""
    worker_uuid: str | None = None
    correlation_id: str | None = None
    success: bool = False
    execution_time_ms: int | None = None
    result: dict[str, Any] | None = None
    step_name: str = ""
    from_state: str | None = None
    to_state: str = ""
    kind: str = ""
    attempt: int | None = None
    action: str | None = None
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class StepCause(Answer):
    """Why one step is neither running nor done; `step_uuid` is None before it exists."""

    step_uuid: str | None = None
    name: str = ""
    state: str | None = None
    cause: str = ""
    explanation: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WhoamiResponse(Answer):
    """Whom the server takes the client for, and what it may do.

    `namespaces` are the only ones that it sees; None: all. `expires_at` is when the credential
    ends; None: it does not.
    """

    subject: str = ""
    method: str = ""
    permissions: list[str] = field(default_factory=list)
    namespaces: list[str] | None = None
    expires_at: str | None = None


@dataclass(frozen=True)
class HealthResponse(Answer):
    """Whether the server answers."""

    healthy: bool = False
    status: str = ""
    timestamp: str = ""
