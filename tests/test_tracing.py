"""Spans, from the request that creates a task to each attempt of its steps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from support.flows import NO_REST, Worker, begin_one, template
from support.workers import Bench
from tasker_core.engine.register import register_template
from tasker_core.errors import PermanentError, RetryableError
from tasker_core.server.app import create_app
from tasker_core.settings import Settings
from tasker_core.tracing import tracer

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The application has set up OpenTelemetry; here is what it gets."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
async def bench(clean_database: str, conn: asyncpg.Connection) -> AsyncIterator[Bench]:
    """Tasks and workers on the test's database."""
    bench = Bench(clean_database, conn)
    yield bench
    await bench.close()


@pytest.fixture
async def api(clean_database: str, spans: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    """Asks a server that traces."""
    app = create_app(Settings(database_url=clean_database, sweep_seconds=3600))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tasker") as client,
    ):
        yield client


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Give the ended spans of a name, in the order in which they began."""
    found = [span for span in exporter.get_finished_spans() if span.name == name]
    return sorted(found, key=lambda span: span.start_time or 0)


def parent_of(span: ReadableSpan) -> int | None:
    """Give the id of its parent."""
    return span.parent.span_id if span.parent is not None else None


async def test_one_trace_from_the_request_to_the_handlers_own_spans(
    api: httpx.AsyncClient, spans: InMemorySpanExporter, bench: Bench
) -> None:
    """The caller's trace: request, creation, each attempt, and what the handlers trace inside."""
    own = trace.get_tracer("application")

    async def on_loop(_: Any) -> Any:
        with own.start_as_current_span("charge card"):
            return {}

    def in_thread(context: Any) -> Any:
        with own.start_as_current_span("send mail"):
            if context.retry_count == 0:
                raise RetryableError("secret words", error_type="MailError")
            return {}

    flow = template({"a": [], "b": ["a"]}, retry={"max_attempts": 2, **NO_REST})
    await register_template(bench.conn, flow)
    reply = await api.post(
        "/v1/tasks", json={"name": "flow", "namespace": "shop"}, headers={"traceparent": CALLER}
    )
    worker = await bench.worker({"a": on_loop, "b": in_thread})
    await bench.settled(reply.json()["task_uuid"])
    await worker.stop()

    (request,) = named(spans, "HTTP POST /v1/tasks")
    (creation,) = named(spans, "tasker.task.create")
    steps = named(spans, "tasker.step.execute")
    (charge,), mails = named(spans, "charge card"), named(spans, "send mail")
    assert {span.context.trace_id for span in spans.get_finished_spans()} == {
        int("0af7651916cd43dd8448eb211c80319c", 16)
    }
    assert parent_of(request) == int("b7ad6b7169203331", 16)
    assert parent_of(creation) == request.context.span_id
    assert [parent_of(step) for step in steps] == [creation.context.span_id] * 3
    assert parent_of(charge) == steps[0].context.span_id
    assert [parent_of(mail) for mail in mails] == [step.context.span_id for step in steps[1:]]
    told = [(s.attributes["tasker.step_name"], s.attributes["tasker.outcome"]) for s in steps]
    assert told == [("a", "complete"), ("b", "failed"), ("b", "complete")]
    assert steps[0].attributes["tasker.task_uuid"] == reply.json()["task_uuid"]
    assert [step.status.is_ok for step in steps] == [True, False, True]
    assert "secret" not in str([dict(step.attributes or {}) for step in steps])
    assert request.attributes["http.route"] == "/v1/tasks"
    assert reply.headers["traceparent"].split("-")[1:3] == [
        "0af7651916cd43dd8448eb211c80319c",
        f"{request.context.span_id:016x}",
    ]


async def test_a_task_that_is_not_sampled_is_not_sampled_anywhere(
    monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    """The decision travels with the task; no worker takes it anew."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(ParentBased(TraceIdRatioBased(0.0)), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    task_uuid = await bench.begin(template())
    stored = await bench.conn.fetchval("select traceparent from tasker.tasks")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", other := TracerProvider(shutdown_on_exit=False))
    other.add_span_processor(SimpleSpanProcessor(exporter))
    worker = await bench.worker({"a": lambda _: {}})
    await bench.settled(task_uuid)
    await worker.stop()

    assert not int(stored.rpartition("-")[2], 16) & 1
    assert exporter.get_finished_spans() == ()


async def test_what_a_handler_returns_to_be_awaited_is_in_its_span(
    spans: InMemorySpanExporter, bench: Bench
) -> None:
    """It begins in a thread and goes on on the loop."""
    seen = []

    async def rest() -> dict[str, Any]:
        seen.append(trace.get_current_span().get_span_context().span_id)
        return {}

    worker = await bench.worker({"a": lambda _: rest()})
    await bench.run(template())
    await worker.stop()

    assert seen == [step.context.span_id for step in named(spans, "tasker.step.execute")]


async def test_a_failure_for_good_and_a_timeout_are_errors(
    spans: InMemorySpanExporter, bench: Bench
) -> None:
    """By the type of the error."""

    def broken(_: Any) -> Any:
        raise PermanentError("no")

    worker = await bench.worker({"a": broken})
    await bench.run(template())
    await worker.stop()
    (step,) = named(spans, "tasker.step.execute")

    assert not step.status.is_ok
    assert step.attributes["error.type"]


async def test_without_tracing_nothing_is_stored(conn: asyncpg.Connection) -> None:
    """And claims carry none."""
    assert tracer() is None
    await begin_one(conn, template())
    claim = await Worker(conn).claim_one()

    assert claim.traceparent is None
    assert await conn.fetchval("select traceparent from tasker.tasks") is None


async def test_an_applications_span_is_the_parent_without_a_worker_here(
    spans: InMemorySpanExporter, conn: asyncpg.Connection
) -> None:
    """A task that an application creates under a span of its own belongs to that trace."""
    with trace.get_tracer("application").start_as_current_span("checkout") as checkout:
        await begin_one(conn, template())
    claim = await Worker(conn).claim_one()

    assert claim.traceparent is not None
    assert claim.traceparent.split("-")[1] == f"{checkout.get_span_context().trace_id:032x}"


def test_nobody_pays_for_what_is_not_used() -> None:
    """A worker's modules, and those that create tasks, do not import OpenTelemetry."""
    lines = [
        "import sys",
        "import tasker_core.worker.loop, tasker_core.engine.create, tasker_core.tracing",
        "assert not tasker_core.tracing.set_up(False, 'x')",
        "print([name for name in sys.modules if name.startswith('opentelemetry')])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.fixture(autouse=True)
def _nobody_traces_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    assert tracer() is None
