"""`tasker-ctl server run` and `worker run`: begin, say so in one line, end on a signal.

The first Ctrl-C or SIGTERM lets running work end; the second does not wait.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.db import DatabaseUrl, address, read_settings
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from tasker_core.db import Database
    from tasker_core.server.run import Server
    from tasker_core.settings import Settings

server_app = typer.Typer(no_args_is_help=True, add_completion=False)
worker_app = typer.Typer(no_args_is_help=True, add_completion=False)

Templates = Annotated[
    list[Path] | None,
    typer.Option(
        "--templates",
        metavar="DIR",
        exists=True,
        help="Task templates to register; may be repeated.",
        show_default="TASKER_TEMPLATE_PATH",
    ),
]
Upgrade = Annotated[
    bool,
    typer.Option("--upgrade", help="Bring the schema up to date first, as `db upgrade` does."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8080"),
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="How many steps run at a time.", show_default="20")
]


GrpcPort = Annotated[
    int | None,
    typer.Option(
        "--grpc-port",
        min=0,
        max=65535,
        help="Port for gRPC, beside HTTP; 0 takes a free one.",
        show_default="TASKER_GRPC_PORT",
    ),
]


@server_app.callback()
def server() -> None:
    """Run the HTTP server."""


@worker_app.callback()
def worker() -> None:
    """Run a worker."""


@server_app.command("run")
def run_server(
    ctx: typer.Context,
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    templates: Templates = None,
    database_url: DatabaseUrl = None,
    upgrade: Upgrade = False,
) -> None:
    """Serve the API until a signal comes: over HTTP, and over gRPC if it has a port."""
    out: Output = ctx.obj
    settings = read_settings(
        out, database_url=database_url, server_host=host, server_port=port, grpc_port=grpc_port
    )
    warn_if_unprotected(out, settings)

    async def live(database: Database, stop: Stop) -> None:
        await check_schema(database, upgrade)
        server = make_server(settings, database, templates or (), strict=True)
        async with server:
            ready(out, url=server.url, **grpc_of(server), database=address(settings))
            await stop.asked.wait()

    run(out, settings, live)


@worker_app.command("run")
def run_worker(
    ctx: typer.Context,
    handlers: Annotated[
        list[str],
        typer.Option("--handlers", metavar="PKG", help="Package of handlers; may be repeated."),
    ],
    templates: Templates = None,
    concurrency: Concurrency = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of its health and metrics; 0 takes a free one.",
            show_default="TASKER_WORKER_PORT",
        ),
    ] = None,
    namespaces: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Serve only this one; may be repeated."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to start if any handler module fails.")
    ] = False,
    database_url: DatabaseUrl = None,
    upgrade: Upgrade = False,
) -> None:
    """Run steps until a signal comes."""
    from tasker_core.cli import handlers as handler_packages

    out: Output = ctx.obj
    settings = read_settings(
        out,
        database_url=database_url,
        worker_concurrency=concurrency,
        worker_port=port,
        namespaces=tuple(namespaces) if namespaces else None,
    )
    registry = handler_packages.load(out, handlers, strict=strict)
    directories = templates or [path for path in (settings.template_path,) if path is not None]

    async def live(database: Database, stop: Stop) -> None:
        from tasker_core.worker.loop import AsyncWorker
        from tasker_core.worker.worker import prepare_database

        await check_schema(database, upgrade)
        await prepare_database(database, settings, directories, strict=True)
        worker = AsyncWorker(database, settings, registry)
        await worker.start()
        try:
            ready(
                out,
                worker=worker.worker_uuid,
                url=worker.page.url if worker.page is not None else None,
                database=address(settings),
                handlers=registry.handler_count(),
            )
            for lane in worker.unserved:
                out.note(f"no handler here for {lane.namespace}: {lane.callable}")
            await stop.or_end_of(worker.wait_closed())
        finally:
            await worker.stop()

    run(out, settings, live)


# --- shared with dev.py ---------------------------------------------------------------------


class Stop:
    """The wish of a person or of the system that this process ends."""

    def __init__(self, out: Output) -> None:
        self.asked = asyncio.Event()
        self.interrupted = False  # by Ctrl-C; SIGTERM and SIGHUP are the ordinary end
        self._out = out
        self._main: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Take the signals of this process; call it in the task that is to be cut off."""
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # HUP: the window is closed
            loop.add_signal_handler(number, self._on_signal, number)

    async def or_end_of(self, work: Awaitable[None]) -> None:
        """Wait for the wish; or for the end of the work, raising what ended it."""
        waiting = asyncio.ensure_future(self.asked.wait())
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            waiting.cancel()
            working.cancel()

    def _on_signal(self, number: int) -> None:
        self.interrupted = number == signal.SIGINT
        if self.asked.is_set():
            assert self._main is not None
            self._main.cancel()
            return
        self._out.note("stopping: running steps may end; once more leaves at once")
        self.asked.set()


def collect_less_often() -> None:
    """Let the garbage collector look for cycles every 5,000 objects, and at new ones only.

    A call brings a hundred steps, which live until the next one: with Python's own 700 it
    looks several times a call and finds nothing.
    """
    gc.freeze()
    gc.set_threshold(5_000, 20)


def run(
    out: Output, settings: Settings, live: Callable[[Database, Stop], Coroutine[Any, Any, None]]
) -> None:
    """Find the database, live until a signal comes, and leave with the right exit code."""
    from tasker_core.db import resolve_database
    from tasker_core.worker.worker import run_loop

    stop = Stop(out)

    async def listen_and_live() -> None:
        stop.listen()
        await live(database, stop)

    collect_less_often()
    with resolve_database(settings) as database:
        try:
            run_loop(listen_and_live())
        except asyncio.CancelledError:
            out.warn("left at once; what was running is taken up again when its lease is over")
    if stop.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


async def check_schema(database: Database, upgrade: bool) -> None:
    """Refuse another schema than this program's, or bring it up to date.

    The embedded database is always brought up to date: nobody else would do it.

    Raises:
        SchemaOutOfDate, SchemaTooNew: It is a database of your own, and not of this version.
    """
    from tasker_core.db import migrate

    conn = await database.connect("tasker-ctl")
    try:
        if upgrade or database.embedded is not None:
            await migrate.upgrade(conn)
        await migrate.check(conn)
    finally:
        await conn.close()


def make_server(
    settings: Settings, database: Database, templates: Sequence[Path], *, strict: bool
) -> Server:
    """Build the server that the settings ask for; it listens once it is started."""
    from tasker_core.server.app import create_app
    from tasker_core.server.run import Server

    return Server(
        create_app(settings, database, templates, strict_templates=strict),
        host=settings.server_host,
        port=settings.server_port,
        shutdown_seconds=settings.shutdown_seconds,
    )


def grpc_of(server: Server) -> dict[str, str]:
    """Say where a started server answers over gRPC, if it does."""
    return {} if server.rpc is None else {"grpc": server.rpc.address}


def warn_if_unprotected(out: Output, settings: Settings) -> None:
    """Say that anybody who reaches the server may do everything, if it is so."""
    if settings.asks_who_calls:
        return
    who = "whoever reaches it" if settings.allow_unprotected else "every user of this machine"
    out.warn(
        f"warning: the server asks nobody who they are; {who} may do everything. "
        f"Set TASKER_AUTH=true and make a key: tasker-ctl auth create-key"
    )


def ready(out: Output, **facts: Any) -> None:
    """Say in one line that everything runs, and where."""
    from rich.text import Text

    shown = "  ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    out.event({"event": "ready", **facts}, Text(f"ready  {shown}"))
