"""Every metric: there, right, and listed."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from support.flows import NO_REST, Worker, begin, begin_one, template
from support.workers import Bench
from tasker_core.engine.gauges import Gauges, LaneGauge
from tasker_core.engine.relay import OutboxState
from tasker_core.errors import PermanentError, RetryableError
from tasker_core.observe.metrics import (
    _BOTH,
    _SERVER,
    _WORKER,
    CATALOGUE,
    MOST_NAMESPACES,
    OTHERS,
    of_database,
)

ROOT = Path(__file__).parent.parent.parent

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: httpx.AsyncClient, url: str = "/metrics") -> Samples:
    """Read the samples of a page."""
    reply = await client.get(url)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Give one sample's value."""
    return samples[name, frozenset(labels.items())]


def families(samples: Samples) -> set[str]:
    """Name the metrics that have samples, without what the operating system says."""
    names = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name, _ in samples}
    return {name for name in names if name.startswith("tasker_")}


async def test_the_server_tells_what_waits(
    api: httpx.AsyncClient, conn: asyncpg.Connection, hand: Worker
) -> None:
    """By namespace and state, with ages, starved handlers, and nothing that the list lacks."""
    await begin(conn, template(namespace="shop"), count=3)
    await hand.claim(1)
    retry = template(namespace="bills", retry={"max_attempts": 3, "backoff_base_ms": 60_000})
    await begin_one(conn, retry)
    bills = Worker(conn, lanes=[await conn.fetchval("select max(lane) from tasker.lanes")])
    await bills.fail(await bills.claim_one())
    await conn.execute("update tasker.ready set enqueued_at = now() - interval '90 seconds'")
    await conn.execute("update tasker.leases set ends_at = now() - interval '40 seconds'")
    found = await scrape(api)

    assert value(found, "tasker_steps", namespace="shop", state="enqueued") == 2
    assert value(found, "tasker_steps", namespace="shop", state="in_progress") == 1
    assert value(found, "tasker_steps", namespace="bills", state="waiting_for_retry") == 1
    assert 90 <= value(found, "tasker_oldest_enqueued_seconds", namespace="shop") < 150
    assert value(found, "tasker_starved_steps", namespace="shop") == 2
    assert value(found, "tasker_starved_steps", namespace="bills") == 0
    assert 40 <= value(found, "tasker_sweep_lag_seconds") < 100
    assert value(found, "tasker_database_up") == 1
    assert families(found) <= CATALOGUE.keys()


async def test_requests_are_counted_by_the_template_of_their_route(api: httpx.AsyncClient) -> None:
    """No id and no path of the caller's becomes a label."""
    await api.get("/v1/tasks/01890000-0000-7000-8000-000000000000")
    await api.get("/v1/tasks/nonsense")
    await api.get("/wp-login.php")
    await api.request("BREW", "/health")
    found = await scrape(api)

    route = {"method": "GET", "route": "/v1/tasks/{task_uuid}"}
    assert value(found, "tasker_http_requests_total", **route, status="404") == 1
    assert value(found, "tasker_http_requests_total", **route, status="400") == 1
    assert value(found, "tasker_http_request_seconds_count", **route) == 2
    labels = {"method": "GET", "route": "(none)", "status": "404"}
    assert value(found, "tasker_http_requests_total", **labels) == 1
    assert {dict(labels)["method"] for name, labels in found if "http_requests_total" in name} == {
        "GET",
        "(other)",
    }


async def test_without_a_database_the_rest_is_told(api: httpx.AsyncClient, app: FastAPI) -> None:
    """A scrape never fails; it says that the database could not be asked."""
    await app.state.backend.pool.close()
    found = await scrape(api)

    assert value(found, "tasker_database_up") == 0
    assert "tasker_steps" not in families(found)


async def test_openmetrics_for_who_asks(api: httpx.AsyncClient) -> None:
    """By Accept."""
    reply = await api.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


async def test_a_worker_tells_what_its_attempts_came_to(bench: Bench) -> None:
    """Counts, waits and durations by namespace, with what the server tells: the whole list."""

    def flaky(context: Any) -> Any:
        if context.retry_count == 0:
            raise RetryableError("not yet")
        return {}

    def broken(_: Any) -> Any:
        raise PermanentError("never")

    worker = await bench.worker({"a": flaky, "b": broken}, worker_port=0)
    state, _ = await bench.run(
        template({"a": [], "b": ["a"]}, retry={"max_attempts": 2, **NO_REST})
    )
    assert worker.page is not None
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        found = await scrape(client)
        numbers = (await client.get("/metrics/worker")).json()

    assert state == "blocked_by_failures"
    for outcome, count in (("complete", 1), ("retryable_failure", 1), ("permanent_failure", 1)):
        named = {"namespace": "shop", "outcome": outcome}
        assert value(found, "tasker_attempts_total", **named) == count
    for name in ("tasker_step_wait_seconds", "tasker_step_seconds"):
        assert value(found, f"{name}_count", namespace="shop") == 3
        assert value(found, f"{name}_bucket", namespace="shop", le="+Inf") == 3
        assert 0 <= value(found, f"{name}_sum", namespace="shop") < 60
    assert families(found) == _WORKER.keys() | _BOTH.keys()
    assert numbers["worker_id"] == str(worker.worker_uuid)
    assert numbers["metrics"]["tasker_worker_concurrency"]["value"] == 10


async def test_a_worker_without_a_port_counts_no_steps(bench: Bench) -> None:
    """Nobody would read it."""
    worker = await bench.worker({"a": lambda _: {}})
    await bench.run(template())

    assert (worker.page, worker.tally.spaces) == (None, {})


async def test_the_server_shows_its_whole_list(api: httpx.AsyncClient) -> None:
    """Also when nothing has happened yet: a graph over nothing is not an error."""
    await api.get("/health")
    found = await api.get("/metrics")

    told = set(re.findall(r"^# TYPE (\S+)", found.text, re.MULTILINE))
    assert {name for name in told if name.startswith("tasker_")} - {
        "tasker_http_requests_created",
        "tasker_http_request_seconds_created",
        "tasker_grpc_calls_created",
        "tasker_grpc_call_seconds_created",
    } == _SERVER.keys() | _BOTH.keys()


def test_no_more_series_than_a_bounded_number_of_namespaces() -> None:
    """The fullest have their own; what the others have is added up."""
    lanes = [
        LaneGauge(f"n{n:03}", "h", n, 0, 0, timedelta(seconds=n), True)
        for n in range(MOST_NAMESPACES + 10)
    ]
    outbox = OutboxState(0, None, None, 0, False)
    shown = {
        metric.name: metric for metric in of_database(Gauges(lanes, 0, 0, timedelta(), 0, outbox))
    }
    enqueued = {
        sample.labels["namespace"]: sample.value
        for sample in shown["tasker_steps"].samples
        if sample.labels["state"] == "enqueued"
    }

    assert len(enqueued) == MOST_NAMESPACES + 1
    assert enqueued[OTHERS] == sum(range(10))


def test_the_page_lists_every_metric() -> None:
    """docs/reference/metrics.md: name, kind, labels and words are those of the program."""
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(tasker_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)

    assert [(name, kind, labels, text) for name, kind, labels, text in rows] == [
        (name, family.kind, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for name, family in {**_BOTH, **_SERVER, **_WORKER}.items()
    ]


def test_the_dashboard_uses_metrics_that_exist() -> None:
    """Names and labels, in every panel, and every metric of steps is shown somewhere."""
    board = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    used = set()
    for expression in asked:
        for name in re.findall(r"\btasker_\w+", expression):
            bare = re.sub(r"_(bucket|sum|count)$", "", name)
            used.add(name if name in CATALOGUE else bare)
        known = {label for name in used for label in CATALOGUE[name].labels} | {"le", "instance"}
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(re.split(r",\s*", labels)) <= known, expression

    assert used <= CATALOGUE.keys()
    assert len(used) >= 15


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_follow_the_custom(name: str) -> None:
    """Counters end in _total, and what is measured in seconds says so."""
    family = CATALOGUE[name]

    assert name.endswith("_total") == (family.kind == "counter")
    assert family.kind != "histogram" or name.endswith("_seconds")
    assert not {"task_uuid", "step_uuid", "correlation_id", "path"} & set(family.labels)
