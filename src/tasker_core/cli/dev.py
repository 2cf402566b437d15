"""`tasker-ctl dev`: database, server and worker in one process, for the one who writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli import handlers as handler_packages
from tasker_core.cli import whereabouts
from tasker_core.cli.db import DatabaseUrl, address, read_settings
from tasker_core.cli.output import Output
from tasker_core.cli.processes import (
    Concurrency,
    Host,
    Port,
    Stop,
    check_schema,
    grpc_of,
    make_server,
    ready,
    run,
)

if TYPE_CHECKING:
    from tasker_core.cli.reload import TemplateFiles
    from tasker_core.db import Database
    from tasker_core.worker.loop import AsyncWorker

dev_app = typer.Typer(add_completion=False)

DRAIN_SECONDS = 5.0
LOOK_SECONDS = 1.0


@dev_app.command()
def dev(
    ctx: typer.Context,
    handlers: Annotated[
        list[str] | None,
        typer.Option(
            "--handlers",
            metavar="PKG",
            help="Package of handlers; may be repeated.",
            show_default="handlers, *.handlers",
        ),
    ] = None,
    templates: Annotated[
        list[Path] | None,
        typer.Option(
            "--templates",
            metavar="DIR",
            exists=True,
            help="Task templates; may be repeated.",
            show_default="TASKER_TEMPLATE_PATH, templates, config/tasks …, else the templates here",
        ),
    ] = None,
    host: Host = None,
    port: Port = None,
    concurrency: Concurrency = None,
    database_url: DatabaseUrl = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Let changed files take effect.")
    ] = True,
) -> None:
    """Run everything here: database, server, worker, and reload of what changes.

    Without DATABASE_URL, the database is an embedded PostgreSQL in .tasker.
    """
    out: Output = ctx.obj
    settings = read_settings(
        out,
        database_url=database_url,
        server_host=host,
        server_port=port,
        worker_concurrency=concurrency,
    )
    here = Path.cwd()
    packages = handlers or handler_packages.detect_packages(here)
    registry = handler_packages.load(out, packages, strict=False)
    directories = templates or _detect_templates(settings.template_path)

    async def live(database: Database, stop: Stop) -> None:
        from tasker_core.cli.reload import HandlerCode, TemplateFiles, watch_code, watch_templates
        from tasker_core.worker.loop import AsyncWorker

        await check_schema(database, upgrade=True)
        files = TemplateFiles(out, directories, database)
        template_count = await files.register()
        async with AsyncExitStack() as stack:
            # A template that is refused was told already; the server need not look again.
            quiet = settings.model_copy(update={"template_path": None})
            server = make_server(quiet, database, (), strict=False)
            await stack.enter_async_context(server)
            worker = AsyncWorker(database, settings, registry)
            await worker.start()
            stack.push_async_callback(worker.stop, drain_seconds=DRAIN_SECONDS)
            beside = {"the look for missing handlers": _tell_unserved(worker, files, out)}
            if reload:
                code = HandlerCode(out, packages, here, registry)
                beside["the watch on handlers"] = watch_code(code, worker, out)
                beside["the watch on templates"] = watch_templates(files, out)
            stack.push_async_callback(_end, [_begin(*one, out) for one in beside.items()])
            if not stack.enter_context(whereabouts.published(server.url)):
                out.note(f"other commands find this server with TASKER_URL={server.url}")
            ready(
                out,
                url=server.url,
                dashboard=f"{server.url}/" if settings.dashboard else None,
                **grpc_of(server),
                database=address(settings),
                handlers=registry.handler_count(),
                templates=template_count,
            )
            _tell_missing(out, packages, directories)
            await stop.or_end_of(worker.wait_closed())

    run(out, settings, live)


def _detect_templates(configured: Path | None) -> list[Path]:
    from tasker_core.templates.load import find_template_directory

    found = find_template_directory(configured)
    here = Path.cwd()
    if found is None:  # templates beside the handlers, as they are generated
        return [
            Path(file.name)
            for file in sorted([*here.glob("*.yaml"), *here.glob("*.yml")])
            if {"name:", "steps:"} <= {line.split(" ")[0] for line in _lines(file)}
        ]
    return [found.relative_to(here) if found.is_relative_to(here) else found]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _tell_missing(out: Output, packages: list[str], directories: list[Path]) -> None:
    if not packages:
        out.warn("no handlers here: name their package with --handlers PKG")
    if not directories:
        out.warn("no task templates here: name their directory with --templates DIR")


def _begin(name: str, work: Coroutine[Any, Any, None], out: Output) -> asyncio.Task[None]:
    """Let something run beside; should it fail, say so: everything else goes on."""

    def on_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            out.warn(f"{name} has ended: {task.exception()!r}; start dev again")

    task = asyncio.create_task(work)
    task.add_done_callback(on_end)
    return task


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _tell_unserved(worker: AsyncWorker, files: TemplateFiles, out: Output) -> None:
    """Say which handlers are missing, and when they are there, whenever that changes.

    A lane that no template names any more is told only while a step waits for it.
    """
    told: set[str] = set()
    while True:
        unserved = {f"{lane.namespace}: {lane.callable}": lane for lane in worker.unserved}
        missing = {
            name
            for name, lane in unserved.items()
            if lane.is_awaited or (lane.namespace, lane.callable) in files.callables
        }
        for name in sorted(missing - told):
            out.warn(f"no handler for {name}; its steps wait")
        for name in sorted(told - unserved.keys()):
            out.note(f"there is a handler for {name} now; its steps go on")
        told = missing
        await asyncio.sleep(LOOK_SECONDS)
