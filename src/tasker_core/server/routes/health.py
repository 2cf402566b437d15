"""/health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.errors import TaskerError
from tasker_core.observe import checks
from tasker_core.server.auth import caller_of
from tasker_core.server.backend import Backend, backend_of
from tasker_core.server.jwks import Keys
from tasker_core.server.pressure import Overloaded
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.health import Check, HealthResponse, ReadinessResponse

router = new_router()

CHECK_SECONDS = 3.0
POOL_DEGRADED = 0.8
TELLING = ("workers", "transactions", "load")  # they name namespaces, handlers, sessions

_Grade = Literal["healthy", "degraded", "unhealthy"]


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
    found = await _look_at_all(request)
    is_ready = not backend.draining and all(c.status != "unhealthy" for c in found.values())
    return _answer(backend, found, "ready" if is_ready else "not_ready")


@router.get(
    "/health/detailed",
    operation_id="getDetailedHealth",
    responses={200: {"model": ReadinessResponse}},
)
async def detailed(request: Request) -> Response:
    """Say how the server is; always 200."""
    backend = backend_of(request)
    found = await _look_at_all(request)
    is_healthy = all(check.status == "healthy" for check in found.values())
    return _answer(backend, found, "healthy" if is_healthy else "degraded")


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
    found: dict[str, Check],
    status: Literal["ready", "not_ready", "healthy", "degraded"],
) -> Response:
    pool = backend.pool
    info = {
        "version": version("tasker-py"),
        "environment": backend.settings.environment,
        "operational_state": "GracefulShutdown" if backend.draining else "Normal",
        "database_pool_size": pool.get_size() if pool is not None else 0,
        "database_pool_idle": pool.get_idle_size() if pool is not None else 0,
        "requests_waiting": backend.waiting,
    }
    document = ReadinessResponse(
        status=status, timestamp=datetime.now(UTC), checks=found, info=info
    )
    return answer(document, 503 if status == "not_ready" else 200)


async def _look_at_all(request: Request) -> dict[str, Check]:
    """Look at everything; one reading of the database answers most.

    What names namespaces, handlers or sessions is for callers that are known.
    """
    backend = backend_of(request)
    pool = _pool(backend)  # before the looks take a connection themselves
    found = {"database": await _look(backend, _database), "schema": await _look(backend, _schema)}

    async def read(backend: Backend) -> None:
        reading = await backend.watch.reading()
        for name, look in checks.OF_READING.items():
            message = look(reading)
            found[name] = _check(message, checks.GRADES[name], 0.0)

    reading = await _look(backend, read)
    for name in checks.OF_READING:
        grade = checks.GRADES[name]
        known = found.get(name) or _check(reading.message, grade, 0.0)
        found[name] = known.model_copy(update={"duration_ms": reading.duration_ms})
    found |= {"pool": pool, "load": _load(backend)}
    if backend.keys is not None:
        found["auth"] = _look_at_keys(backend.keys)
    caller = caller_of(request)
    is_known = caller.method != "none" and caller.namespaces is None
    if backend.settings.asks_who_calls and not is_known:
        for name in TELLING:
            found[name] = found[name].model_copy(update={"message": None})
    return found


def _look_at_keys(keys: Keys) -> Check:
    keys.keep_fresh()
    is_usable = keys.is_usable()
    return Check(
        status="healthy" if is_usable else "degraded",
        message=None if is_usable else "the identity provider's keys could not be read yet",
        duration_ms=0.0,
    )


async def _look(backend: Backend, look: Callable[[Backend], Awaitable[str | None]]) -> Check:
    """Make one check; what the driver says stays out of the answer."""
    begun = time.perf_counter()
    otherwise: _Grade = "unhealthy"
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            message = await look(backend)
    except (TimeoutError, Overloaded):
        message = f"no answer within {CHECK_SECONDS:g} seconds"
        if backend.is_full:  # busy is no reason to leave the work to fewer servers
            message, otherwise = "no connection was free", "degraded"
    except TaskerError:
        message = "the database cannot be used"
    except asyncpg.PostgresError:
        message = "the database refuses the question"
    return _check(message, otherwise, 1000 * (time.perf_counter() - begun))


def _check(message: str | None, otherwise: _Grade, ms: float) -> Check:
    status = "healthy" if message is None else otherwise
    return Check(status=status, message=message, duration_ms=round(ms, 3))


async def _database(backend: Backend) -> str | None:
    async with backend.connection() as conn:
        await conn.fetchval("select 1")
    return None


async def _schema(backend: Backend) -> str | None:
    async with backend.connection() as conn:
        return await checks.schema(conn)


def _pool(backend: Backend) -> Check:
    """Whether requests find a connection; a full pool is told, and is no reason to go away."""
    pool, most = backend.pool, backend.settings.server_pool_size
    used = pool.get_size() - pool.get_idle_size() if pool is not None else 0
    message = f"{used} of {most} connections are in use, and {backend.waiting} requests wait"
    return _check(message if used > POOL_DEGRADED * most else None, "degraded", 0.0)


def _load(backend: Backend) -> Check:
    """Whether tasks of some namespace are refused at the moment."""
    full = backend.pressure.full_namespaces()
    message = f"no more tasks are taken for {', '.join(full)}: too many steps are enqueued"
    return _check(message if full else None, "degraded", 0.0)
