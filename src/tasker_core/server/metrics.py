"""/metrics, and the layer that counts, logs and traces requests.

The layer is the outermost one, so that it sees every reply. A route is named by its
template; what fits none is `(none)`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasker_core.errors import TaskerError
from tasker_core.observe import metrics
from tasker_core.observe.metrics import gauge
from tasker_core.observe.visible import visible
from tasker_core.server.auth import ANYBODY, Caller
from tasker_core.server.backend import Backend, backend_of
from tasker_core.server.pressure import Overloaded
from tasker_core.server.routes import router as new_router
from tasker_core.tracing import RequestSpan, has_current_span

router = new_router()

READING_SECONDS = 5.0  # a reading of this age is still shown
QUIET_ROUTES = ("/health", "/metrics")  # asked all the time: logged with -vv only
NO_ROUTE = "(none)"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = structlog.get_logger("tasker.server")


@router.get(
    "/metrics",
    operation_id="getMetrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def show(request: Request) -> Response:
    """Show the metrics, as Prometheus reads them; what waits in the database is 5 seconds old."""
    backend = backend_of(request)
    found = [metrics.build_info(), *_of_server(backend), *await _of_database(backend)]
    text, media_type = metrics.write(
        request.app.state.requests.registry, found, request.headers.get("Accept", "")
    )
    return Response(text, headers={"Content-Type": media_type})


async def _of_database(backend: Backend) -> list[Metric]:
    try:
        reading = await backend.watch.reading(max_age=READING_SECONDS)
    except (TaskerError, Overloaded, TimeoutError, asyncpg.PostgresError):
        return list(metrics.of_database(None))
    return list(metrics.of_database(reading.gauges, reading.held))


def _of_server(backend: Backend) -> Iterator[Metric]:
    pool = backend.pool
    size, idle = (pool.get_size(), pool.get_idle_size()) if pool is not None else (0, 0)
    yield gauge("tasker_pool_connections", (("used",), size - idle), (("idle",), idle))
    yield gauge("tasker_pool_size_max", ((), backend.settings.server_pool_size))
    yield gauge("tasker_pool_waiting", ((), backend.waiting))
    refused = backend.pressure.refused
    yield gauge("tasker_tasks_refused_total", *(((why,), n) for why, n in refused.items()))
    yield gauge("tasker_attempts_taken_back_total", ((), backend.taken_back))


class Requests:
    """Counts of the requests of one app, and of its calls over gRPC."""

    def __init__(self) -> None:
        self.registry = metrics.new_registry()
        self.total = self._make(Counter, "tasker_http_requests_total")
        self.seconds = self._make(Histogram, "tasker_http_request_seconds")
        self.in_flight = self._make(Gauge, "tasker_http_requests_in_flight")
        self.calls = self._make(Counter, "tasker_grpc_calls_total")
        self.call_seconds = self._make(Histogram, "tasker_grpc_call_seconds")

    def _make(self, kind: type[Any], name: str) -> Any:
        family = metrics.CATALOGUE[name]
        return kind(name, family.help, family.labels, registry=self.registry)


def install(app: FastAPI) -> None:
    """Put the layer around the app."""
    app.state.requests = Requests()
    app.state.tracer = None  # until the app runs
    app.add_middleware(Observed, requests=app.state.requests)


class Observed:
    """Counts every request, times it, and writes its line to the log."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        span = self._begin_span(scope)
        begun = time.perf_counter()
        status = 500  # of a reply that never began
        size = 0

        async def noting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                if span is not None and span.traceparent:
                    message.setdefault("headers", []).append(
                        (b"traceparent", span.traceparent.encode())
                    )
            else:
                size += len(message.get("body", b""))
            await send(message)

        with self._requests.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, noting)
            finally:
                self._note(scope, status, size, time.perf_counter() - begun)
                if span is not None:
                    span.end(scope["method"], route_of(scope), status)

    def _begin_span(self, scope: Scope) -> RequestSpan | None:
        """Begin a span, unless nobody traces, or the application around this app does."""
        tracer = scope["app"].state.tracer if "app" in scope else None
        if tracer is None or has_current_span():
            return None
        wanted = (b"traceparent", b"tracestate")
        headers = {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in wanted}
        return RequestSpan(tracer, scope["method"], headers)

    def _note(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        if "tasker.rpc" in scope:  # the call that it is part of is counted itself
            return
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        route = route_of(scope)
        self._requests.total.labels(method, route, str(status)).inc()
        self._requests.seconds.labels(method, route).observe(seconds)
        if not structlog.is_configured():  # a line a request is for those who chose where it goes
            return
        log = _log.debug if route.startswith(QUIET_ROUTES) else _log.info
        state = scope.get("state", {})
        caller: Caller = state.get("caller", ANYBODY)
        log(
            "request",
            method=method,
            route=route,
            path=visible(scope["path"]),
            status=status,
            duration_ms=round(1000 * seconds, 3),
            bytes=size,
            request_id=state.get("request_id"),
            subject=None if caller.method == "none" else caller.name,
            key_id=caller.key_id,
        )


def route_of(scope: Scope) -> str:
    """Name the route that served a request, by its template."""
    return getattr(scope.get("route"), "path", NO_ROUTE)
