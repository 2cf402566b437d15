"""Behind `tasker-ctl db prune`: one pass over the tasks that ended long ago."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tasker_core.cli.connect import confirm
from tasker_core.cli.output import Output, written

if TYPE_CHECKING:
    from rich.progress import Progress

    from tasker_core.db.connect import Connection
    from tasker_core.settings import Settings


async def run(
    out: Output, settings: Settings, age: timedelta, *, keeps: bool, dry_run: bool, asks: bool
) -> tuple[int, datetime]:
    """Delete the tasks of this age, or only count them.

    Returns:
        How many they are, and the moment before which they ended.
    """
    from tasker_core.db import migrate, resolve_database

    with await asyncio.to_thread(resolve_database, settings) as database:
        conn = await database.connect("tasker-ctl db prune")
        try:
            if database.embedded is not None:
                await migrate.upgrade(conn)
            await migrate.check(conn)
            before = await conn.fetchval("select tasker.now() - $1::interval", age)
            if dry_run:
                return await _count(conn, age), before
            total = await _count(conn, age) if asks or sys.stderr.isatty() else None
            if asks and total:
                confirm(
                    f"delete {total:,} tasks that ended before {written(before)}, "
                    f"with their steps and their history?"
                )
            return await _delete(out, conn, age, keeps, total), before
        finally:
            await conn.close()


async def _count(conn: Connection, age: timedelta) -> int:
    from tasker_core.engine.retention import count_prunable

    total = 0
    batch = await count_prunable(conn, older_than=age)
    while batch.reached is not None:
        total += batch.count
        batch = await count_prunable(conn, older_than=age, after=batch.reached)
    return total + batch.count


async def _delete(
    out: Output, conn: Connection, age: timedelta, keeps: bool, expected: int | None
) -> int:
    from tasker_core.engine.retention import prune_tasks

    done = 0
    with _progress(out) as progress:
        bar = progress.add_task("deleting tasks", total=expected)
        batch = await prune_tasks(conn, older_than=age, keeps_identities=keeps)
        while True:
            done += batch.count
            progress.update(bar, completed=done)
            if batch.reached is None:
                return done
            batch = await prune_tasks(
                conn, older_than=age, after=batch.reached, keeps_identities=keeps
            )


def _progress(out: Output) -> Progress:
    """Make the bar that a person sees on a terminal, and nobody else."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out.console(error=True),
        disable=out.options.quiet or not sys.stderr.isatty(),
        transient=True,
    )
