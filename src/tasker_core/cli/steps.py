"""`tasker-ctl task steps`, `step`, `reset-step` …: look at steps, and step in.

A step is named by its UUID, or by its name in the task.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from tasker_core.cli.arguments import read_json
from tasker_core.cli.connect import confirm, connect
from tasker_core.cli.failures import NoSuchStep
from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from tasker_core.client import StepResponse, TaskerClient

steps_app = typer.Typer(add_completion=False)

TaskUuid = Annotated[UUID, typer.Argument(metavar="TASK_UUID", help="The task.")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="The step: its UUID or its name.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept in the history.")]
Force = Annotated[bool, typer.Option("--force", help="Even while it is running.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

OPERATOR = "cli-operator"


@steps_app.command()
def steps(ctx: typer.Context, task_uuid: TaskUuid) -> None:
    """Show the steps of a task, parents before children."""
    from tasker_core.cli.views import steps_view

    out: Output = ctx.obj
    with connect(out) as client:
        found = client.list_task_steps(task_uuid)
    total = len(found)
    items = {"items": [vars(one) for one in found], "total": total, "limit": total, "offset": 0}
    out.data(items, lambda: steps_view(found))


@steps_app.command()
def step(ctx: typer.Context, task_uuid: TaskUuid, step: Step) -> None:
    """Show one step and how its last attempt ended."""
    from tasker_core.cli.views import step_view

    out: Output = ctx.obj
    with connect(out) as client:
        found = find_step(client, task_uuid, step)
    verbose = out.options.verbose > 0
    out.data(vars(found), lambda: step_view(found, with_traceback=verbose))
    error = (found.results or {}).get("error") or {}
    if error.get("backtrace") and not verbose:
        out.note("its traceback: the same with -v")


@steps_app.command("reset-step")
def reset_step(
    ctx: typer.Context,
    task_uuid: TaskUuid,
    step: Step,
    reason: Reason,
    reset_by: Annotated[str, typer.Option("--reset-by", "-b", help="Who does it.")] = OPERATOR,
    drop_checkpoint: Annotated[
        bool, typer.Option("--drop-checkpoint", help="Begin a batch from its start.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Run a failed step again, with all its attempts before it."""
    _change(
        ctx.obj,
        "reset",
        (task_uuid, step),
        lambda client, found: client.reset_step(
            task_uuid, found, reason=reason, actor=reset_by, drop_checkpoint=drop_checkpoint
        ),
        yes,
    )


@steps_app.command("resolve-step")
def resolve_step(
    ctx: typer.Context,
    task_uuid: TaskUuid,
    step: Step,
    reason: Reason,
    resolved_by: Annotated[
        str, typer.Option("--resolved-by", "-b", help="Who does it.")
    ] = OPERATOR,
    force: Force = False,
    yes: Yes = False,
) -> None:
    """Declare a step settled without a result; its children go on."""
    _change(
        ctx.obj,
        "resolve",
        (task_uuid, step),
        lambda client, found: client.resolve_step(
            task_uuid, found, reason=reason, actor=resolved_by, force=force
        ),
        yes,
    )


@steps_app.command("complete-step")
def complete_step(
    ctx: typer.Context,
    task_uuid: TaskUuid,
    step: Step,
    reason: Reason,
    result: Annotated[
        str, typer.Option(metavar="JSON", help="The result: JSON, @FILE or - (stdin).")
    ],
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="Facts to keep with it.")
    ] = None,
    completed_by: Annotated[
        str, typer.Option("--completed-by", "-b", help="Who does it.")
    ] = OPERATOR,
    force: Force = False,
    yes: Yes = False,
) -> None:
    """Complete a step with a result of yours, as if a handler had."""
    value = read_json(result, "--result")
    facts = None if metadata is None else read_json(metadata, "--metadata")
    _change(
        ctx.obj,
        "complete",
        (task_uuid, step),
        lambda client, found: client.complete_step(
            task_uuid,
            found,
            result=value,
            metadata=facts,
            reason=reason,
            actor=completed_by,
            force=force,
        ),
        yes,
    )


def find_step(client: TaskerClient, task_uuid: UUID, step: str) -> StepResponse:
    """Find a step by its UUID or its name.

    Raises:
        NoSuchStep: The task has no step of this name.
    """
    try:
        return client.get_step(task_uuid, UUID(step))
    except ValueError:
        pass
    found = {one.name: one for one in client.list_task_steps(task_uuid)}
    if step not in found:
        raise NoSuchStep(task_uuid, step, get_close_matches(step, found, 3) or list(found)[:10])
    return found[step]


def _change(
    out: Output,
    verb: str,
    place: tuple[UUID, str],
    act: Callable[[TaskerClient, UUID], StepResponse],
    yes: bool,
) -> None:
    from tasker_core.cli.views import attempts_of, step_view

    with connect(out) as client:
        before = find_step(client, *place)
        if not yes and sys.stdin.isatty():
            tried = f"{attempts_of(vars(before))} attempts"
            confirm(f"{verb} step {before.name}, {before.current_state}, {tried}?")
        after = act(client, UUID(before.step_uuid))
    out.data(vars(after), lambda: step_view(after))
    out.note(f"{after.name}: {before.current_state} → {after.current_state}")
