"""`tasker-ctl analytics`: how tasks and steps do, and where the time goes, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.connect import connect
from tasker_core.cli.output import Output, fields, table

if TYPE_CHECKING:
    from rich.console import RenderableType

analytics_app = typer.Typer(no_args_is_help=True, add_completion=False)

Hours = Annotated[
    int, typer.Option(min=1, max=8760, help="How far back the tasks may have been created.")
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Only of this namespace.")]


@analytics_app.callback()
def analytics() -> None:
    """Measure how tasks and steps do."""


@analytics_app.command()
def performance(ctx: typer.Context, hours: Hours = 24, namespace: Namespace = None) -> None:
    """Show how the tasks of the last hours do."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_performance_metrics(hours=hours, namespace=namespace)
    out.data(found, lambda: fields(_facts(found)))


@analytics_app.command()
def bottlenecks(
    ctx: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-l", min=1, max=100, help="How many steps, and tasks.")
    ] = 10,
    min_executions: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Leave out what ran less often.")
    ] = 5,
    hours: Hours = 24,
    namespace: Namespace = None,
) -> None:
    """Show the slowest steps and tasks of the last hours."""
    out: Output = ctx.obj
    with connect(out) as client:
        found = client.get_bottlenecks(
            limit=limit, min_executions=min_executions, hours=hours, namespace=namespace
        )
    out.data(found, lambda: _tables(found))
    for advice in found["recommendations"]:
        out.note(advice)


# --- what a person reads ----------------------------------------------------------------


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    states = sorted(found["tasks_by_state"].items())
    yield "tasks", f"{found['total_tasks']:,} created in {found['window_hours']} h"
    for state, count in states:
        yield f"  {state}", f"{count:,}"
    yield "complete", f"{found['completion_rate']:g} %"
    yield "failed", f"{found['error_rate']:g} %"
    yield "health score", found["system_health_score"]
    yield "tasks an hour", f"{found['tasks_per_hour']:,.1f}"
    yield "steps an hour", f"{found['steps_per_hour']:,.1f}"
    yield "executions", f"{found['execution_count']:,}"
    yield "  failed", f"{found['error_count']:,}"
    yield "  retries", f"{found['retry_count']:,}"
    for what in ("task_duration", "step_duration", "queue_wait"):
        yield what.replace("_", " "), _timing(found, what)


def _timing(found: dict[str, Any], what: str) -> str | None:
    average = found[f"average_{what}_seconds"]
    if average is None:
        return None
    middle, most = found[f"p50_{what}_seconds"], found[f"p95_{what}_seconds"]
    return f"{_seconds(average)} on average, p50 {_seconds(middle)}, p95 {_seconds(most)}"


def _tables(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    columns = ("AVERAGE", "P50", "P95", "LONGEST", "RUNS", "FAILED")
    steps = table(
        ("STEP", "TEMPLATE", *columns, "QUEUED"),
        (
            (
                one["step_name"],
                _template(one),
                *_cells(one),
                _seconds(one["average_queue_wait_seconds"]),
            )
            for one in found["slow_steps"]
        ),
    )
    tasks = table(
        ("TASK", *columns, "STEPS"),
        (
            (_template(one), *_cells(one), f"{one['average_step_count']:.1f}")
            for one in found["slow_tasks"]
        ),
    )
    return Group(steps, "", tasks)


def _cells(one: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(_seconds(one[f"{which}_duration_seconds"]) for which in ("average", "p50", "p95", "max")),
        one["execution_count"],
        f"{one['error_rate']:.1%}",
    )


def _template(one: dict[str, Any]) -> str:
    return f"{one['namespace_name']}/{one['task_name']}@{one['version']}"


def _seconds(seconds: float | None) -> str | None:
    """Write a duration so that its first three digits are seen.

    >>> _seconds(0.0123), _seconds(2.5), _seconds(90)
    ('12.3 ms', '2.50 s', '90.0 s')
    """
    if seconds is None:
        return None
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.1f} s"
