"""`tasker-ctl doctor`: look for what keeps work from moving, at the database itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from tasker_core.cli.db import DatabaseUrl, address, read_settings
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output, table

if TYPE_CHECKING:
    from tasker_core.settings import Settings

doctor_app = typer.Typer(add_completion=False)

OLDEST_POSTGRES = 150_000


@doctor_app.command()
def doctor(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """Look for what keeps work from moving; the exit code is 3 if anything is found.

    The settings, the database and its schema, workers and the steps that none of them can
    run, what the sweep and the relay left lying, long transactions that hold back vacuum, and
    settings of PostgreSQL that were lost.
    """
    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    found = asyncio.run(_examine(settings))
    facts = [
        {"check": name, "status": "healthy" if message is None else grade, "message": message}
        for name, grade, message in found
    ]
    rows = [[fact["check"], fact["status"], fact["message"] or ""] for fact in facts]
    out.data(
        {"database": address(settings), "checks": facts},
        lambda: table(["CHECK", "STATUS", "WHAT"], rows),
    )
    if any(fact["message"] for fact in facts):
        raise typer.Exit(ExitCode.INVALID)


async def _examine(settings: Settings) -> list[tuple[str, str, str | None]]:
    """Make every check that can be made: its name, what a finding is worth, and the finding."""
    from tasker_core.db import resolve_database
    from tasker_core.engine.gauges import list_lost_settings
    from tasker_core.observe import checks, gauges

    with await asyncio.to_thread(resolve_database, settings) as database:
        conn = await database.connect("tasker-ctl doctor")
        try:
            found: list[tuple[str, str, str | None]] = [
                ("database", "unhealthy", await _version(conn)),
                ("schema", "unhealthy", await checks.schema(conn)),
            ]
            if found[-1][-1] is not None:  # nothing else can be asked
                return found
            reading = await gauges.read(conn)
            found += [
                (name, checks.GRADES[name], look(reading))
                for name, look in checks.OF_READING.items()
            ]
            alive = reading.gauges.workers
            found.insert(2, ("alive", "degraded", None if alive else "no worker is alive"))
            lost = await list_lost_settings(conn)
            return [*found, ("settings", "degraded", "; ".join(lost) or None)]
        finally:
            await conn.close()


async def _version(conn: Any) -> str | None:
    number = int(await conn.fetchval("show server_version_num"))
    if number >= OLDEST_POSTGRES:
        return None
    return f"PostgreSQL is {number // 10_000}, but must be {OLDEST_POSTGRES // 10_000} or newer"
