"""`tasker-ctl task cancel`, `resolve`, `reset`: one task, several, or all that fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from tasker_core.cli.arguments import read_where
from tasker_core.cli.connect import confirm, connect
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output
from tasker_core.cli.steps import OPERATOR, Reason, Yes

if TYPE_CHECKING:
    from tasker_core.client import TaskActionOutcome, TaskerClient

actions_app = typer.Typer(add_completion=False)

A_CALL = 1000  # tasks

Uuids = Annotated[
    list[UUID] | None, typer.Argument(metavar="[UUID]...", help="The tasks, one or several.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="All that fit; may be repeated. Keys: status, namespace, template, failed_step, "
        "error_type, created_after, created_before.",
    ),
]
By = Annotated[str, typer.Option("--by", "-b", help="Who does it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing, and show what would be done.")
]


@actions_app.command()
def cancel(
    ctx: typer.Context,
    task_uuids: Uuids = None,
    where: Where = None,
    reason: Reason = "Cancelled with tasker-ctl",
    by: By = OPERATOR,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Cancel tasks: no step of them begins any more."""
    _act(ctx.obj, "cancel", task_uuids, where, dry_run, yes, reason=reason, actor=by)


@actions_app.command()
def resolve(
    ctx: typer.Context,
    reason: Reason,
    task_uuids: Uuids = None,
    where: Where = None,
    by: By = OPERATOR,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Declare tasks settled: their steps stay as they are, and none begins any more."""
    _act(ctx.obj, "resolve", task_uuids, where, dry_run, yes, reason=reason, actor=by)


@actions_app.command()
def reset(
    ctx: typer.Context,
    reason: Reason,
    task_uuids: Uuids = None,
    where: Where = None,
    drop_checkpoints: Annotated[
        bool, typer.Option("--drop-checkpoints", help="Begin batches from their start.")
    ] = False,
    by: By = OPERATOR,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Run all failed steps of tasks again, each with all its attempts.

    tasker-ctl task reset --where failed_step=pay --where error_type=timeout --reason 'bank is back'
    """
    _act(
        ctx.obj,
        "reset",
        task_uuids,
        where,
        dry_run,
        yes,
        reason=reason,
        actor=by,
        drop_checkpoints=drop_checkpoints,
    )


# --- helpers --------------------------------------------------------------------------------


Action = Literal["cancel", "resolve", "reset"]


def _act(
    out: Output,
    action: Action,
    task_uuids: list[UUID] | None,
    where: list[str] | None,
    dry_run: bool,
    yes: bool,
    **facts: Any,
) -> None:
    from tasker_core.cli.views import actions_view

    if not task_uuids and not where:
        raise typer.BadParameter("which tasks? give UUIDs, or --where KEY=VALUE")
    facts["where"] = read_where(where) if where else None
    with connect(out) as client:
        if dry_run or (not yes and sys.stdin.isatty()):
            items = list(_pages(client, action, task_uuids, dry_run=True, **facts))
            if not dry_run and _asks(out, action, items):
                task_uuids = [UUID(one.task_uuid) for one in items]  # what was agreed to
        if not dry_run:
            items = list(_pages(client, action, task_uuids, **facts))
    counts = dict.fromkeys(("done", "unchanged", "skipped", "refused", "not_found"), 0)
    for one in items:
        counts[one.outcome] += 1
    document = {
        "action": action,
        "dry_run": dry_run,
        "items": [asdict(one) for one in items],
        "total": len(items),
        "counts": counts,
    }
    words = _words(action, dry_run)
    out.data(document, lambda: actions_view(items, words))
    told = ", ".join(f"{count} {words[outcome]}" for outcome, count in counts.items() if count)
    nothing = "dry run, nothing was changed: " if dry_run else ""
    out.note(f"{nothing}{told or 'no such tasks'}")
    if counts["refused"] or counts["not_found"]:
        lone = len(items) == 1 and counts["not_found"]
        raise typer.Exit(ExitCode.NOT_FOUND if lone else ExitCode.FAILED)


def _words(action: Action, dry_run: bool) -> dict[str, str]:
    """Say what became of a task, or would, for each outcome."""
    done = {"cancel": "cancelled", "resolve": "resolved", "reset": "reset"}[action]
    if not dry_run:
        return {
            "done": done,
            "unchanged": "unchanged",
            "skipped": "skipped",
            "refused": "refused",
            "not_found": "not found",
        }
    return {
        "done": f"would be {done}",
        "unchanged": "would stay as it is",
        "skipped": "would be skipped",
        "refused": "would be refused",
        "not_found": "not found",
    }


def _asks(out: Output, action: Action, items: list[TaskActionOutcome]) -> bool:
    """Ask whether these are meant, if any of them would change; say whether it did."""
    meant = [one for one in items if one.outcome == "done"]
    if not meant:
        return False
    if len(meant) == 1:
        (one,) = meant
        confirm(f"{action} {one.namespace}/{one.name} {one.version}, {one.task_uuid}?")
    else:
        from tasker_core.cli.views import actions_view

        out.console(error=True).print(actions_view(meant[:20], _words(action, True)))
        more = f" ({len(meant) - 20} more)" if len(meant) > 20 else ""
        confirm(f"{action} {len(meant)} tasks{more}?")
    return True


def _pages(
    client: TaskerClient,
    action: Action,
    task_uuids: list[UUID] | None,
    *,
    where: dict[str, Any] | None,
    **facts: Any,
) -> Iterator[TaskActionOutcome]:
    """Make as many calls as it takes."""
    if task_uuids:
        for at in range(0, len(task_uuids), A_CALL):
            some = task_uuids[at : at + A_CALL]
            yield from client.act_on_tasks(action, task_uuids=some, where=where, **facts).items
        return
    cursor = None
    while True:
        page = client.act_on_tasks(action, where=where, cursor=cursor, limit=A_CALL, **facts)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
