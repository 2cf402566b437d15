"""`tasker-ctl template register`: make templates known to the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.db import DatabaseUrl, read_settings
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from tasker_core.engine.registration import TemplateOutcome
    from tasker_core.settings import Settings


def register(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", exists=True, help="Template files, or directories."),
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Put a changed definition in force although tasks have used its version; "
            "those go on with the definition they began with.",
        ),
    ] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Register templates in the database; the exit code is 3 if one is refused."""
    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    outcomes = asyncio.run(_register(settings, paths, force))
    out.data([_facts(one) for one in outcomes], lambda: _table(outcomes))
    for one in outcomes:
        for warning in [*one.warnings, *filter(None, [one.reason])]:
            out.warn(warning)
    if any(one.outcome == "refused" for one in outcomes):
        raise typer.Exit(ExitCode.INVALID)


async def _register(
    settings: Settings, paths: Sequence[Path], force: bool
) -> list[TemplateOutcome]:
    from tasker_core.db import migrate, resolve_database
    from tasker_core.engine.registration import register_directories

    with await asyncio.to_thread(resolve_database, settings) as database:
        conn = await database.connect("tasker-ctl template register")
        try:
            if database.embedded is not None:
                await migrate.upgrade(conn)
            await migrate.check(conn)
            return await register_directories(conn, paths, force=force, logs=False)
        finally:
            await conn.close()


def _facts(one: TemplateOutcome) -> dict[str, Any]:
    return {"file": str(one.path), "template": one.label, "outcome": one.outcome}


def _table(outcomes: Sequence[TemplateOutcome]) -> RenderableType:
    from rich.text import Text

    from tasker_core.observe.visible import visible

    styles = {"registered": "green", "refused": "red"}
    text = Text()
    for one in outcomes:
        text.append(f"{one.path}: ", "bold")
        text.append(one.outcome, styles.get(one.outcome, ""))
        text.append(f" {visible(one.label)}\n" if one.label else "\n")
    text.right_crop(1)
    return text
