"""`tasker-ctl task`: create tasks and follow them, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from tasker_core.cli.actions import actions_app
from tasker_core.cli.arguments import apply_set, check_status, read_object, template_name
from tasker_core.cli.connect import INITIATOR, SOURCE_SYSTEM, connect
from tasker_core.cli.output import Output
from tasker_core.cli.steps import steps_app

if TYPE_CHECKING:
    from tasker_core.client import TaskerClient, TaskResponse

task_app = typer.Typer(no_args_is_help=True, add_completion=False)
task_app.add_typer(actions_app)
task_app.add_typer(steps_app)

TaskUuid = Annotated[UUID, typer.Argument(metavar="UUID", help="The task.")]
Interval = Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the task.")]


@task_app.callback()
def task() -> None:
    """Create tasks, look at them, watch them, and step in."""


@task_app.command()
def create(
    ctx: typer.Context,
    template: Annotated[
        str | None,
        typer.Argument(metavar="TEMPLATE", help="namespace/name, or namespace/name@version."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The template, if TEMPLATE is not given.")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Its namespace.", show_default="default"),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Its version; the newest if not given.")
    ] = None,
    input: Annotated[
        str,
        typer.Option(
            "--input", "-i", metavar="JSON", help="The context: JSON, @FILE or - (stdin)."
        ),
    ] = "{}",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one value of it; a.b=1 sets inside."),
    ] = None,
    priority: Annotated[
        int, typer.Option("--priority", "-p", min=-100, max=100, help="The higher goes first.")
    ] = 0,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="What makes a task the same task.")
    ] = None,
    correlation_id: Annotated[
        UUID | None, typer.Option("--correlation-id", "-c", help="A new one if not given.")
    ] = None,
    initiator: Annotated[str, typer.Option(help="Who asks for it.")] = INITIATOR,
    source_system: Annotated[str, typer.Option(help="From where.")] = SOURCE_SYSTEM,
    reason: Annotated[str, typer.Option(help="Why.")] = "Created with tasker-ctl",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the task has ended.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it, as task watch does.")] = False,
    wait_timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most, with --wait or --watch.")
    ] = None,
) -> None:
    """Create a task.

    tasker-ctl task create shop/order --set cart.total=99.5 --watch
    """
    out: Output = ctx.obj
    space, name, version = template_name(template, name, namespace, version)
    context = read_object(input, "--input")
    apply_set(context, assignments or ())
    more: dict[str, Any] = {"priority": priority, "tags": tags or []}
    if idempotency_key is not None:
        more["idempotency_key"] = idempotency_key
    if correlation_id is not None:
        more["correlation_id"] = str(correlation_id)
    with connect(out) as client:
        made = client.create_task(
            name,
            namespace=space,
            context=context,
            version=version,
            reason=reason,
            initiator=initiator,
            source_system=source_system,
            **more,
        )
        if not (wait or watch):
            _show_created(out, made)
            return
        out.note(f"created task {made.task_uuid}")
        _follow(out, client, UUID(made.task_uuid), quietly=not watch, timeout=wait_timeout)


@task_app.command()
def get(ctx: typer.Context, task_uuid: TaskUuid) -> None:
    """Show a task and its steps."""
    from tasker_core.cli.views import task_view

    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_task(task_uuid)
        moves = client.list_task_transitions(task_uuid) if out.is_for_people else []
    out.data(vars(found), lambda: task_view(found, moves))


@task_app.command("list")
def list_(
    ctx: typer.Context,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only of this namespace.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", "-s", help="Only with this status, or one of several: a,b."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-l", min=1, max=100, help="How many on a page.")
    ] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    initiator: Annotated[str | None, typer.Option(help="Only asked for by this one.")] = None,
    source_system: Annotated[str | None, typer.Option(help="Only from this system.")] = None,
) -> None:
    """List tasks, the youngest first."""
    from tasker_core.cli.views import tasks_view

    out: Output = ctx.obj
    offset = (page - 1) * limit
    filters = {"initiator": initiator, "source_system": source_system}
    with connect(out) as client:
        found = client.list_tasks(
            limit=limit,
            offset=offset,
            namespace=namespace,
            status=check_status(status),
            **{key: value for key, value in filters.items() if value is not None},
        )
    total = found.pagination.total_count
    items = [vars(one) for one in found.tasks]
    out.data(
        {"items": items, "total": total, "limit": limit, "offset": offset},
        lambda: tasks_view(found),
    )
    if total == 0:
        out.note("no such tasks")
    elif total > len(items):
        out.note(f"{len(items)} of {total}, page {page} of {found.pagination.total_pages}")


@task_app.command()
def watch(
    ctx: typer.Context,
    task_uuid: TaskUuid,
    interval: Interval = 0.5,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to watch at most.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Stop when the task has this status.")
    ] = None,
    tui: Annotated[
        bool, typer.Option("--tui/--no-tui", help="A live view if stdout is a terminal.")
    ] = True,
) -> None:
    """Follow a task until it ends; the exit code is 7 if it ends badly."""
    out: Output = ctx.obj
    check_status(until, "--until")
    with connect(out) as client:
        _follow(out, client, task_uuid, interval=interval, timeout=timeout, until=until, live=tui)


@task_app.command()
def why(ctx: typer.Context, task_uuid: TaskUuid) -> None:
    """Say of each step that is neither running nor done why it is not."""
    from tasker_core.cli.views import causes_view

    out: Output = ctx.obj
    with connect(out) as client:
        causes = client.explain_task(task_uuid)
    out.data([vars(cause) for cause in causes], lambda: causes_view(causes))


# --- helpers --------------------------------------------------------------------------------


def _show_created(out: Output, made: TaskResponse) -> None:
    from rich.text import Text

    from tasker_core.cli.views import task_view

    if out.options.quiet:
        out.data(vars(made), lambda: Text(made.task_uuid))
        return
    out.data(vars(made), lambda: task_view(made))
    out.note(f"follow it: tasker-ctl task watch {made.task_uuid}")


def _follow(
    out: Output,
    client: TaskerClient,
    task_uuid: UUID,
    *,
    interval: float = 0.5,
    timeout: float | None = None,
    until: str | None = None,
    live: bool = True,
    quietly: bool = False,
) -> None:
    from tasker_core.cli.watch import Watch

    watch = Watch(client, task_uuid, interval=interval, timeout=timeout, until=until)
    if quietly:
        watch.wait(out)
    elif live and out.is_for_people and out.on_terminal:
        watch.live(out)
    else:
        watch.lines(out)
    watch.leave(out)
