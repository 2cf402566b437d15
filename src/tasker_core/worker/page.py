"""A worker's own page: health, metrics, and its templates. Only if `worker_port` is set.

It is a small server, with the layers of the server, and is imported with the first port: a
worker without one holds nothing of it.
What waits in the database is on the server's page: it is the same for everybody.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from fastapi import APIRouter, FastAPI
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.db.connect import Database
from tasker_core.errors import TaskerError
from tasker_core.observe import metrics
from tasker_core.observe.listen import Listener, bind, url_of
from tasker_core.observe.metrics import gauge, histogram
from tasker_core.server import metrics as requests
from tasker_core.server import problems
from tasker_core.server.backend import Backend
from tasker_core.server.edge import Edge
from tasker_core.server.gate import KEY_HEADER, Gate
from tasker_core.server.openapi import describe
from tasker_core.server.permissions import WORKER_PUBLIC_PATHS, WORKER_ROUTES
from tasker_core.server.pressure import Overloaded
from tasker_core.server.protocol import BoundedHttp
from tasker_core.server.routes import QUIET, answer
from tasker_core.server.routes import router as new_router
from tasker_core.settings import Settings
from tasker_core.wire.common import write_moment
from tasker_core.wire.worker import (
    WorkerAlive,
    WorkerConfig,
    WorkerEvents,
    WorkerHealth,
    WorkerNumbers,
)
from tasker_core.worker.page_templates import templates_router
from tasker_core.worker.tally import BOUNDS

if TYPE_CHECKING:
    from tasker_core.worker.loop import AsyncWorker

SILENT_SECONDS = 30.0  # the database has not heard of the worker for longer: something is wrong
READING_SECONDS = 5.0  # a reading of this age is still shown
MANY_FAIL, MOST_FAIL = 0.05, 0.15  # of the attempts
CONNECTIONS = 2  # of the page, while somebody asks
WORKER_TYPE = "command_processor"
VARIABLES = "TASKER_WORKER_HOST, TASKER_WORKER_PORT"


class Page:
    """Listens for as long as the worker is at work."""

    def __init__(
        self, worker: AsyncWorker, database: Database, settings: Settings, port: int
    ) -> None:
        self._worker, self._database, self._settings = worker, database, settings
        self._backend = Backend(settings)
        self._registry = metrics.new_registry()
        self._bound = bind(settings.worker_host, port, VARIABLES)
        self.url = url_of(settings.worker_host, self._bound.getsockname()[1])
        self.app = self._application()
        self._listener = Listener(self.app, self._bound, shutdown_seconds=1.0, http=BoundedHttp)

    async def start(self) -> None:
        """Return once requests are answered."""
        self._backend.pool = await self._database.pool(
            "tasker worker page", min_size=0, max_size=CONNECTIONS
        )
        if self._backend.keys is not None:
            self._backend.keys.keep_fresh()
        await self._listener.start()

    def close(self) -> None:
        """Give the address back, if the worker cannot start."""
        self._bound.close()

    async def stop(self) -> None:
        """Listen no more."""
        await self._listener.stop()
        pool, self._backend.pool = self._backend.pool, None
        if pool is not None:
            await pool.close()

    def _application(self) -> FastAPI:
        """Put the page together, with the layers of the server and in their order."""
        app = FastAPI(
            title="Tasker Worker API",
            version="1.0.0",
            openapi_url="/api-docs/openapi.json",
            docs_url="/api-docs/ui",
            swagger_ui_oauth2_redirect_url=None,
            redoc_url=None,
            **QUIET,
        )
        app.state.backend = self._backend
        own = self._routes()
        templates = templates_router(self._worker)
        app.state.api_routes = [*own.routes, *templates.routes]
        for router in (own, templates):
            app.include_router(router)
        problems.install(app)
        describe(app, WORKER_ROUTES, ())
        app.add_middleware(
            Gate, backend=self._backend, routes=WORKER_ROUTES, public=WORKER_PUBLIC_PATHS
        )
        app.add_middleware(Edge)
        requests.install(app)
        return app

    def _routes(self) -> APIRouter:
        router = new_router()
        text: dict[int | str, dict[str, Any]] = {
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
        }
        health: dict[int | str, dict[str, Any]] = {
            200: {"model": WorkerHealth},
            503: {"model": WorkerHealth},
        }
        shown: list[tuple[str, Any, str, dict[int | str, dict[str, Any]]]] = [
            ("/health", self._health, "getHealth", {200: {"model": WorkerAlive}}),
            ("/health/live", self._live, "getLiveness", {200: {"model": WorkerAlive}}),
            ("/health/ready", self._ready, "getReadiness", health),
            ("/health/detailed", self._detailed, "getDetailedHealth", {200: health[200]}),
            ("/metrics", self._metrics, "getMetrics", text),
            ("/metrics/worker", self._numbers, "getNumbers", {200: {"model": WorkerNumbers}}),
            ("/metrics/events", self._events, "getEvents", {200: {"model": WorkerEvents}}),
        ]
        if self._settings.config_endpoint:
            shown.append(("/config", self._config, "getConfig", {200: {"model": WorkerConfig}}))
        for path, endpoint, name, responses in shown:
            router.add_api_route(path, endpoint, operation_id=name, responses=responses)
        return router

    # --- health -----------------------------------------------------------------------

    async def _health(self, _: Request) -> Response:
        return self._answer(status="healthy")

    async def _live(self, _: Request) -> Response:
        return self._answer(status="alive")

    async def _ready(self, _: Request) -> Response:
        checks = self._checks()
        is_ready = all(check["status"] != "unhealthy" for check in checks.values())
        return self._answer(
            200 if is_ready else 503,
            status="ready" if is_ready else "not_ready",
            checks=checks,
            system_info=self._info(),
        )

    async def _detailed(self, _: Request) -> Response:
        checks = self._checks(all_=True)
        is_healthy = all(check["status"] == "healthy" for check in checks.values())
        return self._answer(
            status="healthy" if is_healthy else "degraded",
            checks=checks,
            system_info=self._info(),
            distributed_cache={"enabled": False, "provider": "none", "healthy": True},
        )

    def _checks(self, *, all_: bool = False) -> dict[str, dict[str, Any]]:
        """Look at everything that is known without asking the database.

        The names are those of a worker with queues: a command is a call that claims and
        finishes, and a queue is a namespace.
        """
        worker = self._worker
        silent = time.monotonic() - worker.seen_at
        found = {
            "database": _check(
                f"the database has not heard of this worker for {silent:.0f} seconds"
                if silent > SILENT_SECONDS
                else None
            ),
            "command_processor": _check(None if worker.is_working else "it claims no more steps"),
            "queue_processing": _check(
                None if worker.lanes else "it has no handler that any registered template asks for",
                "degraded",
            ),
        }
        if all_:
            dropped = worker.announcer.dropped
            found["event_system"] = _check(
                f"the events of {dropped} outcomes were dropped" if dropped else None, "degraded"
            )
            found["step_processing"] = self._look_at_failures()
            found["circuit_breakers"] = _check(None)  # there is none that could be open
        return found

    def _look_at_failures(self) -> dict[str, Any]:
        spaces = self._worker.tally.spaces.values()
        ended = sum(n for one in spaces for out, n in one.outcomes.items() if out != "checkpoint")
        failed = ended - sum(one.outcomes["complete"] for one in spaces)
        share = failed / ended if ended else 0.0
        message = f"{share:.0%} of the attempts since its start have failed"
        if share < MANY_FAIL:
            return _check(None)
        return _check(message, "degraded" if share < MOST_FAIL else "unhealthy")

    def _info(self) -> dict[str, Any]:
        worker = self._worker
        return {
            "version": version("tasker-py"),
            "environment": self._settings.environment,
            "uptime_seconds": round(self._uptime(), 3),
            "worker_type": WORKER_TYPE,
            "database_pool_size": CONNECTIONS,
            "command_processor_active": worker.is_working,
            "supported_namespaces": worker.namespaces,
            "concurrency": worker.concurrency,
            "steps_running": len(worker.runner.running),
            "steps_finished": worker.finished_count,
            "unserved_handlers": sorted(
                {f"{lane.namespace}: {lane.callable}" for lane in worker.unserved}
            ),
        }

    def _answer(self, code: int = 200, **facts: Any) -> Response:
        document = {
            "status": facts.pop("status", None),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "worker_id": str(self._worker.worker_uuid),
            **facts,
        }
        document = {key: value for key, value in document.items() if value is not None}
        return Response(orjson.dumps(document), code, media_type="application/json")

    def _uptime(self) -> float:
        return time.monotonic() - self._worker.started_at

    # --- metrics ----------------------------------------------------------------------

    async def _metrics(self, request: Request) -> Response:
        text, media_type = metrics.write(
            self._registry, self._collect(), request.headers.get("Accept", "")
        )
        return Response(text, headers={"Content-Type": media_type})

    async def _numbers(self, _: Request) -> Response:
        """Show counters and gauges as JSON."""
        shown = {
            sample.name: {
                "value": sample.value,
                "metric_type": family.type,
                "labels": sample.labels,
                "help": family.documentation,
            }
            for family in self._collect()
            if family.type != "histogram"
            for sample in family.samples
            if not (sample.labels and family.name == "tasker_attempts")
        }
        shown |= {
            "uptime_seconds": _number(self._uptime(), "Seconds since the worker began."),
            "database_pool_size": _number(CONNECTIONS, "Connections of this page, at most."),
        }
        with contextlib.suppress(TaskerError, Overloaded, TimeoutError, asyncpg.PostgresError):
            reading = await self._backend.watch.reading(max_age=READING_SECONDS)
            for space in reading.gauges.namespaces:
                if self._worker.looks_at(space.namespace):
                    waited = 0.0 if space.waited is None else space.waited.total_seconds()
                    shown[f"queue_depth_{space.namespace}"] = _number(
                        space.enqueued, "Steps of the namespace that are ready."
                    )
                    shown[f"queue_oldest_message_age_{space.namespace}"] = _number(
                        waited, "Seconds for which one of them has been ready."
                    )
        return self._answer(metrics=shown)

    async def _events(self, _: Request) -> Response:
        """Show how many events were published in this process."""
        announcer = self._worker.announcer
        by_mode, bus = announcer.told, _bus()
        return answer(
            WorkerEvents(
                router={
                    "total_routed": by_mode.total(),
                    "durable_routed": by_mode["durable"],
                    "fast_routed": by_mode["fast"],
                    "broadcast_routed": by_mode["broadcast"],
                    "fast_delivery_errors": bus["handler_errors"],
                    "routing_errors": announcer.dropped,
                },
                in_process_bus={
                    "total_events_dispatched": by_mode["fast"] + by_mode["broadcast"],
                    **{f"rust_{name}": count for name, count in bus.items()},
                    **dict.fromkeys(
                        ("ffi_channel_dispatches", "ffi_channel_drops", "ffi_subscriber_count"), 0
                    ),
                    **bus,
                },
                captured_at=datetime.now(UTC),
                worker_id=self._worker.worker_uuid,
            )
        )

    async def _config(self, _: Request) -> Response:
        """Show how the worker is set, without what is secret."""
        settings, keys = self._settings, self._backend.keys
        method = "jwks" if settings.jwks_url else "public_key"
        return answer(
            WorkerConfig(
                metadata={
                    "timestamp": write_moment(datetime.now(UTC)),
                    "environment": settings.environment,
                    "version": version("tasker-py"),
                },
                worker_id=self._worker.worker_uuid,
                worker_type=WORKER_TYPE,
                auth={
                    "enabled": settings.asks_who_calls,
                    "verification_method": "none" if keys is None else method,
                    "jwt_issuer": settings.jwt_issuer,
                    "jwt_audience": settings.jwt_audience,
                    "api_key_header": KEY_HEADER,
                    "strict_validation": settings.strict_permissions,
                },
                messaging={"backend": "postgresql", "queues": self._worker.namespaces},
            )
        )

    def _collect(self) -> Iterator[Metric]:
        worker, tally = self._worker, self._worker.tally
        spaces = sorted(tally.spaces.items())
        yield metrics.build_info()
        yield gauge("tasker_worker_info", ((str(worker.worker_uuid),), 1))
        yield gauge("tasker_worker_uptime_seconds", ((), self._uptime()))
        yield gauge("tasker_worker_concurrency", ((), worker.concurrency))
        yield gauge("tasker_worker_steps_running", ((), len(worker.runner.running)))
        yield histogram(
            "tasker_step_wait_seconds",
            BOUNDS,
            [((name,), own.waited.counts, own.waited.total) for name, own in spaces],
        )
        yield histogram(
            "tasker_step_seconds",
            BOUNDS,
            [((name,), own.took.counts, own.took.total) for name, own in spaces],
        )
        yield gauge(
            "tasker_attempts_total",
            *(((name, out), n) for name, own in spaces for out, n in own.outcomes.items()),
        )
        yield gauge("tasker_results_refused_total", ((), tally.refused))
        yield gauge("tasker_leases_lost_total", ((), tally.lost))
        yield gauge("tasker_attempts_taken_back_total", ((), tally.taken_back))


def _check(message: str | None, otherwise: str = "unhealthy") -> dict[str, Any]:
    return {
        "status": "healthy" if message is None else otherwise,
        "message": message,
        "duration_ms": 0.0,  # it is known without asking anybody
        "last_checked": write_moment(datetime.now(UTC)),
    }


def _number(value: float, told: str) -> dict[str, Any]:
    return {"value": value, "metric_type": "gauge", "labels": {}, "help": told}


def _bus() -> dict[str, int]:
    """Count what the process's own bus did; it is not made for that."""
    events = sys.modules.get("tasker_core.handlers.events.bus")
    bus = None if events is None else events.EventBus.instance()
    return {
        "handler_dispatches": 0 if bus is None else bus.delivered_count,
        "handler_errors": 0 if bus is None else bus.failed_count,
        "subscriber_patterns": 0 if bus is None else bus.pattern_count,
        "handler_count": 0 if bus is None else bus.subscriber_count,
    }
