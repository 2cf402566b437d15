"""`tasker-ctl dlq`: find the tasks that were put aside, and write down what became of them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from tasker_core.cli.arguments import read_object
from tasker_core.cli.connect import connect
from tasker_core.cli.output import Output, fields, table
from tasker_core.cli.steps import OPERATOR, Reason, TaskUuid
from tasker_core.cli.views import moment
from tasker_core.states import DlqReason, DlqStatus

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

dlq_app = typer.Typer(no_args_is_help=True, add_completion=False)

EntryUuid = Annotated[
    UUID, typer.Argument(metavar="UUID", help="The dead letter, or the task that has it.")
]
Metadata = Annotated[
    str | None, typer.Option(metavar="JSON", help="Facts to keep with it, an object.")
]


@dlq_app.callback()
def dlq() -> None:
    """Look after dead letters: tasks put aside for a person."""


@dlq_app.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[
        str | None,
        typer.Option("--status", "-s", help=f"Only these: {', '.join(DlqStatus)}."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", help=f"Only these: {', '.join(DlqReason)}.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-l", min=1, max=200, help="How many at most.")
    ] = 50,
    offset: Annotated[int, typer.Option("--offset", "-o", min=0, help="How many to skip.")] = 0,
) -> None:
    """List dead letters, the youngest first."""
    out: Output = ctx.obj
    status = _word(status, DlqStatus, "--status")
    reason = _word(reason, DlqReason, "--reason")
    with connect(out) as client:
        found = client.list_dlq_entries(
            limit=limit, offset=offset, resolution_status=status, dlq_reason=reason
        )
        counts = client.get_dlq_stats()
    total = sum(
        counted[_COUNTERS.get(status or "", "total_entries")]
        for counted in counts
        if reason in (None, counted["dlq_reason"])
    )
    items = {"items": found, "total": total, "limit": limit, "offset": offset}
    out.data(items, lambda: _entries_view(found))
    if not total:
        out.note("no such dead letters")
    elif total > len(found):
        out.note(f"{len(found)} of {total}")


@dlq_app.command()
def get(ctx: typer.Context, uuid: EntryUuid) -> None:
    """Show a dead letter, with the task as it was then; of a task, the pending one first."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_dlq_entry(uuid)
    out.data(found, lambda: _entry_view(found))
    if found["resolution_status"] == "pending":
        out.note(f"close it: {_close(found['dlq_entry_uuid'])}")


@dlq_app.command()
def add(
    ctx: typer.Context,
    task_uuid: TaskUuid,
    reason: Reason,
    entered_by: Annotated[str, typer.Option("--entered-by", "-b", help="Who does it.")] = OPERATOR,
    metadata: Metadata = None,
) -> None:
    """Put a task aside for a person. The task itself goes on as it was."""
    out: Output = ctx.obj
    facts = None if metadata is None else read_object(metadata, "--metadata")
    with connect(out) as client:
        made = client.create_dlq_entry(task_uuid, reason=reason, actor=entered_by, metadata=facts)
    out.data(made, lambda: _entry_view(made))


@dlq_app.command()
def update(
    ctx: typer.Context,
    entry_uuid: EntryUuid,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            "-s",
            help="Resolve it: manually_resolved, permanently_failed or cancelled.",
        ),
    ] = None,
    notes: Annotated[str | None, typer.Option("--notes", "-n", help="What was found.")] = None,
    resolved_by: Annotated[
        str | None,
        typer.Option("--resolved-by", "-b", help="Who did.", show_default=OPERATOR),
    ] = None,
    metadata: Metadata = None,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Make a resolved one pending again.")
    ] = False,
) -> None:
    """Write into a dead letter, and resolve it, once. The task itself is not changed."""
    out: Output = ctx.obj
    status = _word(status, DlqStatus, "--status")
    facts = None if metadata is None else read_object(metadata, "--metadata")
    if not reopen and {status, notes, resolved_by, metadata} == {None}:
        raise typer.BadParameter("what is to be changed? give --status, --notes or --reopen")
    if status is not None and resolved_by is None:
        resolved_by = OPERATOR
    with connect(out) as client:
        done = client.update_dlq_investigation(
            entry_uuid,
            resolution_status=status,
            resolution_notes=notes,
            resolved_by=resolved_by,
            metadata=facts,
            reopen=reopen,
        )
    out.data(done["entry"], lambda: _entry_view(done["entry"]))
    out.note(done["message"])


@dlq_app.command()
def stats(ctx: typer.Context) -> None:
    """Count the dead letters by reason."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_dlq_stats()
    out.data(_items(found, len(found)), lambda: _stats_view(found))


@dlq_app.command()
def queue(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="How many.")] = 10,
) -> None:
    """List the pending dead letters, the most urgent first, those of repaired tasks last."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_investigation_queue(limit=limit)
    out.data(_items(found, limit), lambda: _queue_view(found))
    repaired = [one["dlq_entry_uuid"] for one in found if one["is_repaired"]]
    if repaired:
        which = repaired[0] if len(repaired) == 1 else "ENTRY"
        out.note(f"{len(repaired)} of them repaired; close such a one: {_close(which)}")


@dlq_app.command()
def staleness(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="How many.")] = 20,
) -> None:
    """List living tasks by how long nothing has happened to them, the worst first."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_staleness_monitoring(limit=limit)
    out.data(_items(found, limit), lambda: _staleness_view(found))


# --- pieces -------------------------------------------------------------------------------

_COUNTERS = {
    "pending": "pending",
    "manually_resolved": "manually_resolved",
    "permanently_failed": "permanent_failures",
    "cancelled": "cancelled",
}


def _close(entry: str) -> str:
    return f"tasker-ctl dlq update {entry} --status manually_resolved"


def _items(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    return {"items": found, "total": len(found), "limit": limit, "offset": 0}


def _word(text: str | None, known: type[DlqStatus] | type[DlqReason], option: str) -> str | None:
    """Read a word of an enum, in whatever case."""
    if text is None or text.lower() in list(known):
        return text and text.lower()
    close = get_close_matches(text.lower(), known, 1)
    advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    raise typer.BadParameter(f"{text!r} is not known; {advice}", param_hint=option)


def _template(snapshot: dict[str, Any]) -> str | None:
    task = snapshot.get("task")
    return task and f"{task['namespace']}/{task['name']} {task['version']}"


def _entries_view(entries: list[dict[str, Any]]) -> Table:
    return table(
        ("ENTRY", "TASK", "TEMPLATE", "REASON", "STATUS", "TASK IS", "SINCE"),
        [
            (
                entry["dlq_entry_uuid"],
                entry["task_uuid"],
                _template(entry["task_snapshot"]),
                entry["dlq_reason"],
                entry["resolution_status"],
                entry["task_state"] or "gone",
                moment(entry["dlq_timestamp"]),
            )
            for entry in entries
        ],
    )


def _entry_view(entry: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    snapshot = entry["task_snapshot"]
    metadata = dict(entry["metadata"] or {})
    ranges = metadata.pop("failed_ranges", None)
    facts = fields(
        {
            "entry": entry["dlq_entry_uuid"],
            "task": entry["task_uuid"],
            "template": _template(snapshot),
            "reason": entry["dlq_reason"],
            "task was": entry["original_state"],
            "task is": entry["task_state"] or "gone",
            "since": moment(entry["dlq_timestamp"]),
            "status": entry["resolution_status"],
            "resolved": moment(entry["resolution_timestamp"]),
            "resolved by": entry["resolved_by"],
            "notes": entry["resolution_notes"],
            **{f"  {name}": value for name, value in metadata.items()},
        }.items()
    )
    steps = snapshot.get("steps") or []
    rows = [
        (
            step["name"],
            step["state"],
            f"{step['attempts']}/{step['max_attempts']}",
            (step["last_error"] or {}).get("message") or "",
        )
        for step in steps
    ]
    left_out = (_ranges_view(ranges), "") if ranges else ()
    then = table(("STEP", "STATE THEN", "ATTEMPTS", "LAST ERROR"), rows)
    return Group(facts, "", *left_out, then)


def _ranges_view(ranges: list[dict[str, Any]]) -> Table:
    """Show the ranges of a batch that were left out, and how far each got."""
    cursors = [one["cursor"] or {} for one in ranges]
    return table(
        ("FAILED RANGE", "FROM", "TO", "ITEMS", "GOT TO"),
        [
            (
                one["step"],
                cursor.get("start_cursor"),
                cursor.get("end_cursor"),
                cursor.get("batch_size"),
                one["checkpoint"],
            )
            for one, cursor in zip(ranges, cursors, strict=True)
        ],
    )


def _stats_view(found: list[dict[str, Any]]) -> Table:
    return table(
        ("REASON", "TOTAL", "PENDING", "RESOLVED", "FAILED", "CANCELLED", "OLDEST", "MINUTES"),
        [
            (
                one["dlq_reason"],
                one["total_entries"],
                one["pending"],
                one["manually_resolved"],
                one["permanent_failures"],
                one["cancelled"],
                moment(one["oldest_entry"]),
                one["avg_resolution_time_minutes"],
            )
            for one in found
        ],
    )


def _queue_view(found: list[dict[str, Any]]) -> Table:
    return table(
        ("SCORE", "ENTRY", "TASK", "TEMPLATE", "REASON", "WAS", "IS", "REPAIRED", "MINUTES"),
        [
            (
                one["priority_score"],
                one["dlq_entry_uuid"],
                one["task_uuid"],
                f"{one['namespace_name']}/{one['task_name']}",
                one["dlq_reason"],
                one["original_state"],
                one["task_state"] or "gone",
                one["is_repaired"],
                one["minutes_in_dlq"],
            )
            for one in found
        ],
    )


def _staleness_view(found: list[dict[str, Any]]) -> Table:
    return table(
        ("TASK", "TEMPLATE", "STATE", "HEALTH", "IDLE", "LIMIT", "NO WORKER FOR"),
        [
            (
                one["task_uuid"],
                f"{one['namespace_name']}/{one['task_name']}",
                one["current_state"],
                one["health_status"],
                one["idle_minutes"],
                one["staleness_threshold_minutes"],
                ", ".join(one["missing_handlers"]),
            )
            for one in found
        ],
    )
