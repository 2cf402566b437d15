"""Spans, from the request that creates a task to each attempt of its steps.

With OpenTelemetry, and only where it has been set up: by the application, whose provider is
then used, or by the setting `tracing`. Where nobody has, nothing of it is imported.

A task keeps the traceparent of the span that created it (W3C Trace Context), and whoever
runs a step takes that for the parent, on whatever machine: so all attempts of a task are in
the trace of the request, and are sampled if it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

from tasker_core.errors import TracingUnavailable

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.trace import Span, SpanContext, Tracer

Attributes: TypeAlias = "Mapping[str, str | int]"


def set_up(wanted: bool, service: str) -> Tracer | None:
    """Begin to trace, if it is wanted or the application does; None: nobody traces.

    Args:
        wanted: Send spans as the OTEL_ variables say, unless the application does by itself.
        service: The name of the process, unless OTEL_SERVICE_NAME gives it another.

    Raises:
        TracingUnavailable: It is wanted, and the SDK is not installed.
    """
    if wanted and tracer() is None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingUnavailable(str(error)) from None
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
        provider = TracerProvider(resource=Resource.create(named))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return tracer()


def tracer() -> Tracer | None:
    """Give the tracer of whatever provider this process has; None: it has none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return None
    found: Tracer = provider.get_tracer("tasker", version("tasker-py"))
    return found


def traceparent_of(span: Span) -> str | None:
    """Write down which span it is; None: it is none."""
    told: SpanContext = span.get_span_context()
    if not told.is_valid:
        return None
    return f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"


class Creation:
    """The span in which tasks are created, if anybody traces.

    It is not made the current one: the statement may be sent from another asyncio task.
    """

    def __init__(self, count: int, attributes: Attributes) -> None:
        own = tracer()
        self._span = None
        self.traceparent: str | None = None
        if own is not None:
            from opentelemetry.trace import SpanKind

            self._span = own.start_span(
                "tasker.task.create",
                kind=SpanKind.PRODUCER,
                attributes={**attributes, "tasker.task_count": count},
            )
            self.traceparent = traceparent_of(self._span)
        elif (trace := sys.modules.get("opentelemetry.trace")) is not None:
            self.traceparent = traceparent_of(trace.get_current_span())

    def __enter__(self) -> Creation:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._span is not None:
            _end(self._span, type(error).__name__ if error is not None else None)


class StepSpan:
    """The span of one attempt; handlers' own spans are its children."""

    def __init__(self, own: Tracer, traceparent: str | None, attributes: Attributes) -> None:
        from opentelemetry.trace import SpanKind

        self._span = own.start_span(
            "tasker.step.execute",
            context=_parent({"traceparent": traceparent} if traceparent else {}),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        )

    def enter(self) -> Token[Any]:
        """Make it the current span of this thread or asyncio task."""
        from opentelemetry import context, trace

        return context.attach(trace.set_span_in_context(self._span))

    @staticmethod
    def leave(entered: Token[Any]) -> None:
        """Make the one before the current one again."""
        from opentelemetry import context

        context.detach(entered)

    def end(self, outcome: str, problem: str | None, *, counts: bool) -> None:
        """End it.

        Args:
            outcome: What the attempt came to.
            problem: The type of the error, None if there is none: its words may be secret.
            counts: Whether the result was still wanted.
        """
        self._span.set_attribute("tasker.outcome", outcome if counts else "dropped")
        _end(self._span, problem)


class RequestSpan:
    """The span of one HTTP request, in the trace that the caller names."""

    def __init__(self, own: Tracer, method: str, headers: Mapping[str, str]) -> None:
        from opentelemetry import context, trace

        self._span = own.start_span(
            f"HTTP {method}",
            context=_parent(headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": method},
        )
        self._entered = context.attach(trace.set_span_in_context(self._span))

    @property
    def traceparent(self) -> str | None:
        """Which span it is, for the reply."""
        return traceparent_of(self._span)

    def end(self, method: str, route: str, status: int) -> None:
        """End it, now that the route is known."""
        from opentelemetry import context

        self._span.update_name(f"HTTP {method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        _end(self._span, str(status) if status >= 500 else None)
        context.detach(self._entered)


def has_current_span() -> bool:
    """Whether somebody else traces already what happens here."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and trace.get_current_span().get_span_context().is_valid


def _parent(headers: Mapping[str, str]) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers, Context())


def _end(span: Span, problem: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    if problem is not None:
        span.set_attribute("error.type", problem)
        span.set_status(Status(StatusCode.ERROR, problem))
    span.end()
