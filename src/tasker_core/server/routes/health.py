"""/health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Literal

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.db import migrate
from tasker_core.db.connect import Connection
from tasker_core.engine.inspect import WORKER_SEEN_WITHIN, list_starved_lanes
from tasker_core.engine.relay import read_outbox_state
from tasker_core.errors import TaskerError
from tasker_core.server.backend import Backend, backend_of
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.health import Check, HealthResponse, ReadinessResponse

router = new_router()

CHECK_SECONDS = 3.0
EVENTS_WAIT_AT_MOST = timedelta(seconds=60)

_Look = Callable[[Connection], Awaitable[str | None]]


@router.get("/health", operation_id="getHealth", responses={200: {"model": HealthResponse}})
async def health() -> Response:
    """Say that the process answers; nothing is looked at."""
    return answer(HealthResponse(status="healthy", timestamp=datetime.now(UTC)))


@router.get("/health/live", operation_id="getLiveness", responses={200: {"model": HealthResponse}})
async def live() -> Response:
    """Say that the process lives."""
    return answer(HealthResponse(status="alive", timestamp=datetime.now(UTC)))


@router.get(
    "/health/ready",
    operation_id="getReadiness",
    responses={200: {"model": ReadinessResponse}, 503: {"model": ReadinessResponse}},
)
async def ready(request: Request) -> Response:
    """Say whether the server can do its work, and what keeps it from it."""
    backend = backend_of(request)
    checks = await _look_at_all(backend)
    is_ready = not backend.draining and all(c.status != "unhealthy" for c in checks.values())
    return _answer(backend, checks, "ready" if is_ready else "not_ready")


@router.get(
    "/health/detailed",
    operation_id="getDetailedHealth",
    responses={200: {"model": ReadinessResponse}},
)
async def detailed(request: Request) -> Response:
    """Say how the server is; always 200."""
    backend = backend_of(request)
    checks = await _look_at_all(backend)
    is_healthy = all(check.status == "healthy" for check in checks.values())
    return _answer(backend, checks, "healthy" if is_healthy else "degraded")


@router.get("/live", deprecated=True, operation_id="getLivenessAlias", include_in_schema=False)
async def live_alias() -> Response:
    """Do as /health/live."""
    return _deprecated(await live(), "/health/live")


@router.get("/ready", deprecated=True, operation_id="getReadinessAlias", include_in_schema=False)
async def ready_alias(request: Request) -> Response:
    """Do as /health/ready."""
    return _deprecated(await ready(request), "/health/ready")


def _deprecated(reply: Response, successor: str) -> Response:
    reply.headers["Deprecation"] = "true"
    reply.headers["Link"] = f'<{successor}>; rel="successor-version"'
    return reply


def _answer(
    backend: Backend,
    checks: dict[str, Check],
    status: Literal["ready", "not_ready", "healthy", "degraded"],
) -> Response:
    pool = backend.pool
    info = {
        "version": version("tasker-py"),
        "environment": backend.settings.environment,
        "operational_state": "GracefulShutdown" if backend.draining else "Normal",
        "database_pool_size": pool.get_size() if pool is not None else 0,
        "database_pool_idle": pool.get_idle_size() if pool is not None else 0,
    }
    document = ReadinessResponse(
        status=status, timestamp=datetime.now(UTC), checks=checks, info=info
    )
    return answer(document, 503 if status == "not_ready" else 200)


async def _look_at_all(backend: Backend) -> dict[str, Check]:
    return {
        "database": await _look(backend, _database, "unhealthy"),
        "schema": await _look(backend, _schema, "unhealthy"),
        "workers": await _look(backend, _workers, "degraded"),
        "events": await _look(backend, _events, "degraded"),
    }


async def _look(
    backend: Backend, look: _Look, otherwise: Literal["degraded", "unhealthy"]
) -> Check:
    """Make one check; what the driver says stays out of the answer."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_SECONDS), backend.connection() as conn:
            message = await look(conn)
    except TimeoutError:
        message = f"no answer within {CHECK_SECONDS:g} seconds"
    except TaskerError:
        message = "the database cannot be used"
    except asyncpg.PostgresError:
        message = "the database refuses the question"
    return Check(
        status="healthy" if message is None else otherwise,
        message=message,
        duration_ms=round(1000 * (time.perf_counter() - begun), 3),
    )


async def _database(conn: Connection) -> str | None:
    await conn.fetchval("select 1")
    return None


async def _schema(conn: Connection) -> str | None:
    now = await migrate.status(conn)
    if now.current:
        return None
    return f"the schema is at version {now.found}, this program needs {now.wanted}"


async def _workers(conn: Connection) -> str | None:
    starved = await list_starved_lanes(conn, seen_within=WORKER_SEEN_WITHIN)
    return (
        "; ".join(
            f"{lane.step_count} ready steps of namespace {lane.namespace} wait for handler "
            f"{lane.callable}, which no live worker has"
            for lane in starved
        )
        or None
    )


async def _events(conn: Connection) -> str | None:
    state = await read_outbox_state(conn)
    found = []
    if state.waited is not None and state.waited > EVENTS_WAIT_AT_MOST:
        by_whom = "the relay does not get rid of them" if state.is_relayed else "nobody relays them"
        found.append(
            f"{state.waiting} durable events wait, the oldest for "
            f"{state.waited.total_seconds():.0f} seconds, and {by_whom}"
        )
    if state.failed:
        found.append(f"{state.failed} events were put aside: tasker-ctl events list")
    return "; ".join(found) or None
