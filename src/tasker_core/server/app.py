"""Put the server together: layers, routes, and what lives as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from tasker_core.db import Database, migrate, resolve_database
from tasker_core.engine.registration import register_directories
from tasker_core.relay import Relay
from tasker_core.server import metrics, problems
from tasker_core.server.backend import Backend
from tasker_core.server.dashboard.door import Door
from tasker_core.server.dashboard.rooms import SERVER_PAGES
from tasker_core.server.edge import Edge
from tasker_core.server.gate import Gate
from tasker_core.server.openapi import describe
from tasker_core.server.routes import (
    QUIET,
    actions,
    analytics,
    bulk,
    config,
    create,
    dlq,
    events,
    health,
    search,
    steps,
    tasks,
    views,
    whoami,
    workers,
)
from tasker_core.server.routes import templates as registered
from tasker_core.server.sweeper import keep_sweeping
from tasker_core.settings import Settings
from tasker_core.tracing import set_up as set_up_tracing

# in this order: /v1/tasks/bulk is no task
_TASKS = (create, search, bulk, actions, tasks, views)
_OTHERS = (events, steps, dlq, registered, workers, analytics, whoami)
ROOMS = [one.router for one in (*_TASKS, *_OTHERS)]


def create_app(
    settings: Settings,
    database: Database | None = None,
    templates: Sequence[Path | str] = (),
    *,
    strict_templates: bool = False,
) -> FastAPI:
    """Build the server as an ASGI app; it connects when its lifespan begins.

    Args:
        settings: How it runs.
        database: Where the data is; stays the caller's. None: what the settings say.
        templates: Directories whose templates are registered at start, beside the
            settings' own `template_path`. `app.state.backend.templates` tells what
            became of them.
        strict_templates: Refuse to start when one of them is refused.

    The settings decide whether callers must say who they are, here as on the command line:
    without `auth` the app serves its own machine only, unless `allow_unprotected` is set.

    Raises:
        InvalidSettings: The key that tokens are to be checked with cannot be used.

    The lifespan raises:
        SetupError: There is no database, or its schema is not this program's.
        TemplateError: With `strict_templates` only.
    """
    backend = Backend(settings)
    own = () if settings.template_path is None else (settings.template_path,)
    paths = [*own, *templates]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        app.state.tracer = set_up_tracing(settings.tracing, "tasker-server")
        async with running(backend, database, paths, strict=strict_templates):
            yield

    app = FastAPI(
        title="Tasker Web API",
        version="1.0.0",
        lifespan=lifespan,
        openapi_url="/api-docs/openapi.json",
        docs_url="/api-docs/ui",
        swagger_ui_oauth2_redirect_url=None,
        redoc_url=None,
        **QUIET,
    )
    app.state.backend = backend
    app.state.is_ours = True  # no route of it depends on anything that it does not show
    app.state.api_routes = []
    pages = SERVER_PAGES if settings.dashboard else ()
    for router in (*ROOMS, health.router, config.router, metrics.router, *pages):
        app.state.api_routes += router.routes
        app.include_router(router)
    if not pages:
        app.add_api_route("/", _to_docs, include_in_schema=False)
    problems.install(app)
    describe(app)
    # Layers, from the inside out. The gate is inside the edge, so that its replies have an
    # id, too, and outside the routes, so that it needs no body.
    app.add_middleware(Gate, backend=backend)
    if pages:
        app.add_middleware(Door)
    app.add_middleware(Edge)
    metrics.install(app)
    return app


@asynccontextmanager
async def running(
    backend: Backend, given: Database | None, paths: Sequence[Path | str], *, strict: bool
) -> AsyncIterator[None]:
    """Hold the pool, the sweeper and the relay for as long as the server runs.

    Args:
        given: Where the data is; stays the caller's. None: what the settings say.
        paths: Directories of templates to register.
        strict: Refuse to start when one of them is refused.
    """
    async with AsyncExitStack() as stack:
        database = given
        if database is None:
            database = await asyncio.to_thread(resolve_database, backend.settings)
            stack.push_async_callback(asyncio.to_thread, database.close)
        pool = await _pool(backend.settings, database)
        stack.push_async_callback(pool.close)
        stack.callback(setattr, backend, "pool", None)
        backend.pool, backend.draining = pool, False
        async with backend.connection() as conn:
            await migrate.check(conn)
            backend.templates = await register_directories(conn, paths, strict=strict)
        stack.push_async_callback(backend.live.close)
        stop = asyncio.Event()
        if backend.keys is not None:
            backend.keys.keep_fresh()
        sweeper = asyncio.create_task(keep_sweeping(backend, database, stop))
        stack.push_async_callback(asyncio.wait, [sweeper])
        stack.callback(stop.set)
        if backend.settings.events_url is not None:
            relay = _relay(backend.settings, backend.settings.events_url, database)
            await relay.start()
            stack.push_async_callback(relay.stop)
        yield


async def _pool(settings: Settings, database: Database) -> asyncpg.Pool[asyncpg.Record]:
    """Open the pool; what hangs in it ends by itself, and holds no task's lock for ever."""
    limit = str(round(1000 * settings.server_statement_seconds))
    return await database.pool(
        "tasker-server",
        max_size=settings.server_pool_size,
        resets=False,
        server_settings={
            "statement_timeout": limit,
            "idle_in_transaction_session_timeout": limit,
        },
    )


def _relay(settings: Settings, url: str, database: Database) -> Relay:
    from tasker_core.relay.broker import make_sink

    sink = make_sink(url, settings.events_topic)
    return Relay(database, sink, poll_seconds=settings.poll_seconds)


async def _to_docs() -> RedirectResponse:
    """Show whoever comes with a browser what there is."""
    return RedirectResponse("/api-docs/ui")
