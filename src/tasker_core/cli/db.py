"""`tasker-ctl db`: the schema `tasker` in the database, and what it keeps."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.arguments import read_age
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output, fields

if TYPE_CHECKING:
    from tasker_core.db.migrate import SchemaStatus, Upgrade
    from tasker_core.settings import Settings

db_app = typer.Typer(no_args_is_help=True, add_completion=False)

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL to use; DATABASE_URL, or the embedded one in .tasker, if not given.",
    ),
]


@db_app.callback()
def db() -> None:
    """Look after the database: its schema, and what it keeps."""


@db_app.command()
def upgrade(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """Bring the schema up to date; changes nothing if it is."""
    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    done = asyncio.run(_upgrade(settings))
    facts = {"database": address(settings), **_facts(done)}
    out.data(facts, lambda: fields(facts.items()))
    out.note(
        "the schema is up to date" if done.applied or done.functions_replaced else "nothing to do"
    )


@db_app.command()
def status(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """Compare the schema with this program; the exit code is 3 if they do not fit."""
    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    now = asyncio.run(_status(settings))
    facts = {"database": address(settings), "current": now.current, **_facts(now)}
    out.data(facts, lambda: fields(facts.items()))
    if now.found > now.wanted:
        out.warn("the database is newer than this program: upgrade tasker-py")
    elif not now.current:
        out.warn("bring it up to date with: tasker-ctl db upgrade")
    if not now.current:
        raise typer.Exit(ExitCode.INVALID)


@db_app.command()
def url(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """Print the database's address, password included: psql "$(tasker-ctl db url)"."""
    from tasker_core.db import embedded

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    if settings.database_url is not None:
        out.data(settings.database_url, lambda: settings.database_url or "")
        return
    status = embedded.status(settings.home)
    out.data(status.url, lambda: status.url)
    if not status.running:
        out.note("it is not running: it does while tasker-ctl dev, a server or a worker runs")


@db_app.command()
def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="How long ago they ended at least, such as 30d, 12h, 90min or 1.5d.",
            show_default="retention_days",
        ),
    ] = None,
    keep_identities: Annotated[
        bool,
        typer.Option(
            "--keep-identities",
            help="Refuse duplicates of them from now on, too; retention_keeps_identities does.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete tasks that ended long ago, with their steps and their history.

    tasker-ctl db prune --older-than 30d --dry-run
    """
    from tasker_core.cli.prune import run

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    age = read_age(older_than, settings.retention_days)
    keeps = keep_identities or settings.retention_keeps_identities
    asks = not (dry_run or yes)
    if asks and not sys.stdin.isatty():
        raise typer.BadParameter(
            "nobody can be asked here; --yes deletes unasked, --dry-run only counts",
            param_hint="--yes",
        )
    count, before = asyncio.run(run(out, settings, age, keeps=keeps, dry_run=dry_run, asks=asks))
    facts = {
        "older_than_days": age / timedelta(days=1),
        "ended_before": before,
        "dry_run": dry_run,
        "keeps_identities": keeps,
        "tasks": count,
    }
    out.data(facts, lambda: fields(facts.items()))


def read_settings(out: Output, **given: Any) -> Settings:
    """Read the settings; what is given and not None goes before file and environment.

    From here on logs go to stderr: whoever needs settings runs more than a request.
    """
    from tasker_core.cli.logs import configure
    from tasker_core.settings import Settings

    configure(out.options)
    return Settings(**{name: value for name, value in given.items() if value is not None})


def address(settings: Settings) -> str:
    """Say where the database is, without a password."""
    from tasker_core.settings import safe_url

    if settings.database_url is None:
        return f"embedded in {settings.home}"
    return safe_url(settings.database_url)


async def _upgrade(settings: Settings) -> Upgrade:
    from tasker_core.db import migrate, resolve_database

    with await asyncio.to_thread(resolve_database, settings) as database:
        conn = await database.connect("tasker-ctl db upgrade")
        try:
            return await migrate.upgrade(conn)
        finally:
            await conn.close()


async def _status(settings: Settings) -> SchemaStatus:
    from tasker_core.db import migrate, resolve_database
    from tasker_core.db.programs import find_program

    if settings.database_url is None and not settings.home.exists():
        find_program("postgres")  # raises if there is neither a URL nor the embedded server
        # Looking must not make a database.
        wanted = migrate.read_migrations(migrate.MIGRATIONS)
        pending = tuple(migration.name for migration in wanted)
        return migrate.SchemaStatus(0, wanted[-1].version, pending, functions_current=False)
    with await asyncio.to_thread(resolve_database, settings) as database:
        conn = await database.connect("tasker-ctl db status")
        try:
            return await migrate.status(conn)
        finally:
            await conn.close()


def _facts(found: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)
