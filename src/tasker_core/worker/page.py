"""A worker's own page: health, and metrics of its steps. Only if `worker_port` is set.

What waits in the database is on the server's page: it is the same for everybody.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasker_core.observe import metrics
from tasker_core.observe.listen import Listener, bind, url_of
from tasker_core.observe.metrics import gauge, histogram
from tasker_core.settings import Settings
from tasker_core.worker.tally import BOUNDS

if TYPE_CHECKING:
    from tasker_core.worker.loop import AsyncWorker

SILENT_SECONDS = 30.0  # the database has not heard of the worker for longer: something is wrong
VARIABLES = "TASKER_WORKER_HOST, TASKER_WORKER_PORT"


class Page:
    """Listens for as long as the worker is at work."""

    def __init__(self, worker: AsyncWorker, settings: Settings, port: int) -> None:
        self._worker = worker
        self._environment = settings.environment
        self._registry = metrics.new_registry()
        self._bound = bind(settings.worker_host, port, VARIABLES)
        self.url = url_of(settings.worker_host, self._bound.getsockname()[1])
        app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/health/detailed", self._detailed),
                Route("/metrics", self._metrics),
                Route("/metrics/worker", self._numbers),
            ]
        )
        self._listener = Listener(app, self._bound, shutdown_seconds=1.0)

    async def start(self) -> None:
        """Return once requests are answered."""
        await self._listener.start()

    def close(self) -> None:
        """Give the address back, if the worker cannot start."""
        self._bound.close()

    async def stop(self) -> None:
        """Listen no more."""
        await self._listener.stop()

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
        checks = self._checks()
        is_healthy = all(check["status"] == "healthy" for check in checks.values())
        return self._answer(
            status="healthy" if is_healthy else "degraded", checks=checks, system_info=self._info()
        )

    def _checks(self) -> dict[str, dict[str, Any]]:
        worker = self._worker
        silent = time.monotonic() - worker.seen_at
        return {
            "database": _check(
                f"the database has not heard of this worker for {silent:.0f} seconds"
                if silent > SILENT_SECONDS
                else None
            ),
            "work": _check(None if worker.is_working else "it claims no more steps"),
            "handlers": _check(
                None if worker.lanes else "it has no handler that any registered template asks for",
                "degraded",
            ),
        }

    def _info(self) -> dict[str, Any]:
        worker = self._worker
        return {
            "version": version("tasker-py"),
            "environment": self._environment,
            "uptime_seconds": round(self._uptime(), 3),
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
        return self._answer(metrics=shown)

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
    return {"status": "healthy" if message is None else otherwise, "message": message}
