"""How tasks and steps look to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasker_core.cli.output import STYLES, fields, table
from tasker_core.observe.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from tasker_core.client import (
        StepCause,
        StepResponse,
        TaskActionOutcome,
        TaskListResponse,
        TaskResponse,
    )

MARKS = {
    "complete": "✓",
    "resolved_manually": "✓",
    "error": "✗",
    "cancelled": "–",
    "in_progress": "▶",
    "waiting_for_retry": "↻",
    "enqueued": "•",
}


def task_view(task: TaskResponse, transitions: Iterable[Mapping[str, Any]] = ()) -> RenderableType:
    """Show one task, with its steps if it came with them, and what an operator did last."""
    from rich.console import Group

    facts = fields(
        {
            "task": task.task_uuid,
            "template": template_of(task),
            "status": task.status,
            "steps": f"{task.completed_steps} of {task.total_steps} ({progress_of(task)})",
            "health": task.health_status,
            "advice": task.recommended_action,
            "priority": task.priority,
            "tags": ", ".join(task.tags or ()) or None,
            "created": moment(task.created_at),
            "updated": moment(task.updated_at),
            "completed": moment(task.completed_at),
            "initiator": f"{task.initiator} ({task.source_system})",
            "reason": task.reason,
            "correlation": task.correlation_id,
            "operator": _last_action(transitions),
        }.items()
    )
    if not task.steps:
        return facts
    rows = [
        (step["name"], step["current_state"], attempts_of(step), step["workflow_step_uuid"])
        for step in task.steps
    ]
    return Group(facts, "", table(("STEP", "STATE", "ATTEMPTS", "UUID"), rows))


def causes_view(causes: Iterable[StepCause]) -> RenderableType:
    """Show why each step is neither running nor done."""
    from rich.text import Text

    rows = [(one.name, one.state, visible(one.explanation)) for one in causes]
    return table(("STEP", "STATE", "WHY"), rows) if rows else Text("every step is running or done")


def tasks_view(page: TaskListResponse) -> Table:
    """Show a page of tasks."""
    return table(
        ("TASK", "TEMPLATE", "STATUS", "STEPS", "HEALTH", "CREATED"),
        [
            (
                task.task_uuid,
                template_of(task),
                task.status,
                f"{task.completed_steps}/{task.total_steps}",
                task.health_status,
                moment(task.created_at),
            )
            for task in page.tasks
        ],
    )


def steps_view(steps: Iterable[StepResponse]) -> Table:
    """Show the steps of a task."""
    return table(
        ("STEP", "STATE", "ATTEMPTS", "PARENTS", "UUID", "NOTE"),
        [
            (
                step.name,
                step.current_state,
                attempts_of(vars(step)),
                f"{step.completed_parents}/{step.total_parents}",
                step.step_uuid,
                note_of(step) or "",
            )
            for step in steps
        ],
    )


def step_view(step: StepResponse, *, with_traceback: bool = False) -> Table:
    """Show one step with how its last attempt ended."""
    results = step.results or {}
    return fields(
        {
            "step": step.name,
            "uuid": step.step_uuid,
            "state": step.current_state,
            "attempts": attempts_of(vars(step)),
            "parents done": f"{step.completed_parents} of {step.total_parents}",
            "claimable now": step.ready_for_execution,
            "may be retried": step.retry_eligible,
            "last attempt": moment(step.last_attempted_at),
            "last failure": moment(step.last_failure_at),
            "next retry": moment(step.next_retry_at),
            "completed": moment(step.completed_at),
            "result": results.get("result") if results.get("success") else None,
            "error": error_of(step),
            "traceback": _traceback_of(step) if with_traceback else None,
        }.items()
    )


def actions_view(items: Iterable[TaskActionOutcome], words: Mapping[str, str]) -> Table:
    """Show what became of each of many tasks; outcome → words for it."""
    return table(
        ("TASK", "TEMPLATE", "OUTCOME", "STATUS", "NOTE"),
        [
            (
                one.task_uuid,
                f"{one.namespace}/{one.name} {one.version}" if one.name else None,
                words[one.outcome],
                one.status,
                one.detail or "",
            )
            for one in items
        ],
    )


# --- pieces ---------------------------------------------------------------------------------


def template_of(task: TaskResponse) -> str:
    """Name the template of a task: `shop/order 1.0.0`."""
    return f"{task.namespace}/{task.name} {task.version}"


def _last_action(transitions: Iterable[Mapping[str, Any]]) -> str | None:
    """Say who stepped in last, and why."""
    last = None
    for move in transitions:
        if move.get("actor") is not None:
            last = f"{move['action']} by {move['actor']}: {move['reason']}"
    return last


def progress_of(task: TaskResponse) -> str:
    """Say how much is done, with one decimal."""
    return f"{task.completion_percentage:.1f} %"


def attempts_of(step: Mapping[str, Any]) -> str:
    """Say how many attempts there were, and how many there may be."""
    return f"{step['attempts']}/{step['max_attempts']}"


def error_of(step: StepResponse) -> str | None:
    """Say why the last attempt failed; None if it did not."""
    return error_in(step.results)


def _traceback_of(step: StepResponse) -> str | None:
    error = (step.results or {}).get("error")
    lines = error.get("backtrace") if isinstance(error, Mapping) else None
    return "\n".join(map(str, lines)) if lines else None


def error_in(results: Mapping[str, Any] | None) -> str | None:
    """Say why an attempt failed, of its result as the API gives it."""
    error = (results or {}).get("error")
    if not isinstance(error, Mapping):
        return None
    kind = error.get("error_type")
    return f"{kind}: {error.get('message')}" if kind else str(error.get("message"))


def note_of(step: StepResponse, now: datetime | None = None) -> str | None:
    """Say what is worth knowing of a step now: the wait for a retry, the last error."""
    parts = []
    due = moment(step.next_retry_at)
    if step.current_state == "waiting_for_retry" and due is not None:
        rest = (due - (now or datetime.now(UTC))).total_seconds()
        parts.append(f"again in {max(0.0, rest):.1f} s")
    if step.current_state not in ("complete", "resolved_manually"):
        parts.append(error_of(step) or "")
    return visible("; ".join(filter(None, parts))) or None


def state_text(state: str) -> Text:
    """Show a state with its mark and colour."""
    from rich.text import Text

    return Text(f"{MARKS.get(state, '·')} {state}", style=STYLES.get(state, ""))


def moment(text: str | None) -> datetime | None:
    """Read a moment of the API."""
    if not text:
        return None
    read = datetime.fromisoformat(text)
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
