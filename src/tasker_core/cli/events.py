"""`tasker-ctl events`: the outbox of durable events, and the relay to a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from tasker_core.cli.connect import confirm
from tasker_core.cli.db import DatabaseUrl, address, read_settings
from tasker_core.cli.output import Output, fields, table
from tasker_core.cli.processes import Stop, check_schema, ready, run

if TYPE_CHECKING:
    from tasker_core.db import Database
    from tasker_core.db.connect import Connection
    from tasker_core.settings import Settings

events_app = typer.Typer(no_args_is_help=True, add_completion=False)

T = TypeVar("T")

EventIds = Annotated[
    list[UUID] | None, typer.Argument(metavar="[EVENT]...", help="Ids of events that failed.")
]
All = Annotated[bool, typer.Option("--all", help="All that failed, in place of their ids.")]


@events_app.callback()
def events() -> None:
    """Relay durable events, and look after those that failed."""


@events_app.command()
def status(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """Show how many events wait, since when, and whether anybody relays them."""
    from tasker_core.engine.relay import read_outbox_state

    out: Output = ctx.obj
    state = asdict(_ask(read_settings(out, database_url=database_url), read_outbox_state))
    out.data(state, lambda: fields(state.items()))
    if state["waiting"] and not state["is_relayed"]:
        out.warn(
            "nobody relays them: run tasker-ctl events relay, set events_url for a server, or "
            "start a worker with a durable subscriber"
        )


@events_app.command("list")
def list_events(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    database_url: DatabaseUrl = None,
) -> None:
    """List the events that were put aside, the latest first."""
    from tasker_core.engine.relay import list_failed_events

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    found = _ask(settings, lambda conn: list_failed_events(conn, limit=limit))
    out.data(
        {"events": found},
        lambda: table(
            ("EVENT", "NAME", "TASK", "TRIES", "FAILED", "ERROR"),
            [
                (one.event_uuid, one.name, one.task_uuid, one.tries, one.failed_at, one.error)
                for one in found
            ],
        ),
    )
    if not found:
        out.note("no event has failed")


@events_app.command()
def retry(
    ctx: typer.Context,
    event_uuids: EventIds = None,
    all: All = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Send events that were put aside once more."""
    from tasker_core.engine.relay import retry_events

    out: Output = ctx.obj
    chosen = _chosen(event_uuids, all)
    settings = read_settings(out, database_url=database_url)
    retried = _ask(settings, lambda conn: retry_events(conn, chosen))
    out.data({"retried": retried}, lambda: f"{retried} to be sent once more")
    _warn_of_unknown(out, retried, chosen)


@events_app.command()
def drop(
    ctx: typer.Context,
    event_uuids: EventIds = None,
    all: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Forget events that were put aside; nobody gets them any more."""
    from tasker_core.engine.relay import drop_events

    out: Output = ctx.obj
    chosen = _chosen(event_uuids, all)
    settings = read_settings(out, database_url=database_url)
    if not yes:
        what = "all failed events" if chosen is None else f"{len(chosen)} of the failed events"
        confirm(f"Forget {what}?")
    dropped = _ask(settings, lambda conn: drop_events(conn, chosen))
    out.data({"dropped": dropped}, lambda: f"{dropped} forgotten")
    _warn_of_unknown(out, dropped, chosen)


@events_app.command()
def relay(
    ctx: typer.Context,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to: amqp://, kafka://, nats:// or redis://.",
            show_default="TASKER_EVENTS_URL",
        ),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Topic of an event.", show_default="{namespace}.domain_events"),
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Send durable events to a broker until a signal comes."""
    from tasker_core.relay import Relay
    from tasker_core.relay.broker import make_sink
    from tasker_core.settings import safe_url

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url, events_url=broker, events_topic=topic)
    url = settings.events_url
    if url is None:
        raise typer.BadParameter(
            "say where to: give a URL, or set TASKER_EVENTS_URL", param_hint="--broker"
        )
    sink = make_sink(url, settings.events_topic)

    async def live(database: Database, stop: Stop) -> None:
        await check_schema(database, False)
        relay = Relay(database, sink, poll_seconds=settings.poll_seconds)
        await relay.start()
        try:
            ready(
                out, broker=safe_url(url), topic=settings.events_topic, database=address(settings)
            )
            await stop.or_end_of(relay.wait_closed())
        finally:
            await relay.stop()

    run(out, settings, live)


def _chosen(event_uuids: list[UUID] | None, all: bool) -> list[UUID] | None:
    """Give the ids, or None for all; exactly one of both has to be said."""
    if bool(event_uuids) == all:
        raise typer.BadParameter("give ids of events, or --all", param_hint="EVENT")
    return None if all else event_uuids


def _warn_of_unknown(out: Output, done: int, chosen: list[UUID] | None) -> None:
    if chosen is not None and done < len(set(chosen)):
        out.warn(
            f"{len(set(chosen)) - done} of these are not among the failed: tasker-ctl events list"
        )


def _ask(settings: Settings, question: Callable[[Connection], Awaitable[T]]) -> T:
    async def ask() -> T:
        from tasker_core.db import migrate, resolve_database

        with await asyncio.to_thread(resolve_database, settings) as database:
            conn = await database.connect("tasker-ctl events")
            try:
                await migrate.check(conn)
                return await question(conn)
            finally:
                await conn.close()

    return asyncio.run(ask())
