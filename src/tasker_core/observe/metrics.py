"""Every metric there is, and the text that Prometheus reads.

`CATALOGUE` is the list; a metric that is not in it cannot be shown, and
docs/reference/metrics.md has the same. No label has a value that grows with the number of
tasks: ids are for logs and traces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics

from tasker_core.engine.gauges import Gauges, LaneGauge, LongTransaction, NamespaceGauge, total

MOST_NAMESPACES = 50  # that have series of their own; the others are one together
OTHERS = "(others)"

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: what it measures, and what tells its series apart."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


_BOTH = {
    "tasker_build_info": Family("gauge", "1; the label is the program's version.", ("version",)),
    "tasker_attempts_taken_back_total": Family(
        "counter", "Attempts whose worker let its lease run out, by whose sweep found them."
    ),
}
_SERVER = {
    "tasker_http_requests_total": Family(
        "counter",
        "Requests answered, by the template of their route.",
        ("method", "route", "status"),
    ),
    "tasker_http_request_seconds": Family(
        "histogram", "From a request to the end of its reply.", ("method", "route")
    ),
    "tasker_http_requests_in_flight": Family("gauge", "Requests being answered."),
    "tasker_grpc_calls_total": Family(
        "counter", "Calls answered over gRPC, by their method.", ("method", "code")
    ),
    "tasker_grpc_call_seconds": Family(
        "histogram", "From a call to its status; of streams, too.", ("method",)
    ),
    "tasker_tasks_refused_total": Family(
        "counter", "Requests refused for load: queue_depth or pool.", ("reason",)
    ),
    "tasker_pool_connections": Family(
        "gauge", "Connections of the server's pool: used, idle.", ("state",)
    ),
    "tasker_pool_size_max": Family("gauge", "How many there may be."),
    "tasker_pool_waiting": Family("gauge", "Requests that wait for one of them."),
    "tasker_database_up": Family("gauge", "Whether the rest could be measured: 1 or 0."),
    "tasker_steps": Family(
        "gauge",
        "Steps that are enqueued, in_progress or waiting_for_retry, up to 100,000 a handler.",
        ("namespace", "state"),
    ),
    "tasker_oldest_enqueued_seconds": Family(
        "gauge", "How long the step has waited that has been enqueued for longest.", ("namespace",)
    ),
    "tasker_starved_steps": Family(
        "gauge", "Enqueued steps for handlers that no live worker has.", ("namespace",)
    ),
    "tasker_workers": Family("gauge", "Workers heard of in the last minute."),
    "tasker_worker_slots": Family("gauge", "How many steps they run at a time."),
    "tasker_sweep_lag_seconds": Family(
        "gauge", "How long an expired lease, a due retry or a due look at a task has waited."
    ),
    "tasker_dead_letters": Family("gauge", "Dead letters that are pending."),
    "tasker_outbox_events": Family("gauge", "Durable events that wait, up to 10,000."),
    "tasker_outbox_oldest_seconds": Family("gauge", "How long the first of them has waited."),
    "tasker_outbox_failed_events": Family("gauge", "Durable events that were put aside."),
    "tasker_longest_transaction_seconds": Family(
        "gauge", "Age of the oldest transaction that holds back vacuum; 0 below ten seconds."
    ),
}
_WORKER = {
    "tasker_worker_info": Family(
        "gauge", "1; the label is the worker's id in the database.", ("worker_id",)
    ),
    "tasker_worker_uptime_seconds": Family("gauge", "How long the worker has been at work."),
    "tasker_worker_concurrency": Family("gauge", "How many steps it runs at a time."),
    "tasker_worker_steps_running": Family("gauge", "Steps on loan to it."),
    "tasker_step_wait_seconds": Family(
        "histogram", "From ready to claimed, by the database's clock.", ("namespace",)
    ),
    "tasker_step_seconds": Family(
        "histogram", "From claimed to the result, before it is recorded.", ("namespace",)
    ),
    "tasker_attempts_total": Family(
        "counter",
        "Attempts by what they came to: complete, retryable_failure, permanent_failure, "
        "checkpoint.",
        ("namespace", "outcome"),
    ),
    "tasker_results_refused_total": Family("counter", "Results that came too late."),
    "tasker_leases_lost_total": Family(
        "counter", "Leases that were gone while the handler still ran."
    ),
}
CATALOGUE: Mapping[str, Family] = {**_BOTH, **_SERVER, **_WORKER}

_MAKERS: dict[str, type[Any]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def gauge(name: str, *samples: tuple[Sequence[str], float]) -> Metric:
    """Show a gauge or a counter of the catalogue: the values of its labels, and its own."""
    family = CATALOGUE[name]
    made: Metric = _MAKERS[family.kind](name, family.help, labels=family.labels)
    for labels, value in samples:
        made.add_metric(labels, value)  # type: ignore[attr-defined] # both kinds have it
    return made


def histogram(
    name: str, bounds: Sequence[float], samples: Iterable[tuple[Sequence[str], list[int], float]]
) -> Metric:
    """Show a histogram of the catalogue: labels, how many in each bucket, and the sum."""
    family = CATALOGUE[name]
    made = HistogramMetricFamily(name, family.help, labels=family.labels)
    for labels, counts, in_all in samples:
        so_far, buckets = 0, []
        for bound, count in zip([*map(str, bounds), "+Inf"], counts, strict=True):
            so_far += count
            buckets.append((bound, float(so_far)))
        made.add_metric(labels, buckets, in_all)
    return made


def build_info() -> Metric:
    """Show the program's version."""
    return gauge("tasker_build_info", ((version("tasker-py"),), 1))


def of_database(gauges: Gauges | None, held: Sequence[LongTransaction] = ()) -> Iterator[Metric]:
    """Show what was measured in the database; None: it could not be."""
    yield gauge("tasker_database_up", ((), float(gauges is not None)))
    if gauges is None:
        return
    spaces = _bounded(gauges)
    yield gauge(
        "tasker_steps",
        *(
            ((space.namespace, state), getattr(space, state))
            for space in spaces
            for state in ("enqueued", "in_progress", "waiting_for_retry")
        ),
    )
    yield gauge(
        "tasker_oldest_enqueued_seconds",
        *(
            ((space.namespace,), space.waited.total_seconds() if space.waited else 0.0)
            for space in spaces
        ),
    )
    yield gauge("tasker_starved_steps", *(((space.namespace,), space.starved) for space in spaces))
    outbox = gauges.outbox
    for name, value in (
        ("tasker_workers", gauges.workers),
        ("tasker_worker_slots", gauges.slots),
        ("tasker_sweep_lag_seconds", gauges.overdue.total_seconds()),
        ("tasker_dead_letters", gauges.dead_letters),
        ("tasker_outbox_events", outbox.waiting),
        ("tasker_outbox_oldest_seconds", outbox.waited.total_seconds() if outbox.waited else 0),
        ("tasker_outbox_failed_events", outbox.failed),
        ("tasker_longest_transaction_seconds", held[0].age.total_seconds() if held else 0),
    ):
        yield gauge(name, ((), float(value)))


def _bounded(gauges: Gauges) -> list[NamespaceGauge]:
    """Give the namespaces in which most waits, and the others as one."""
    spaces = gauges.namespaces
    if len(spaces) <= MOST_NAMESPACES:
        return spaces
    spaces.sort(key=lambda space: space.enqueued + space.in_progress, reverse=True)
    named = {space.namespace for space in spaces[:MOST_NAMESPACES]}
    others: list[LaneGauge] = [lane for lane in gauges.lanes if lane.namespace not in named]
    return [*spaces[:MOST_NAMESPACES], total(OTHERS, others)]


class _Given:
    """A collector of what is given to it."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def new_registry() -> CollectorRegistry:
    """Make a registry with what the operating system says of this process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    return registry


def write(
    registry: CollectorRegistry, metrics: Iterable[Metric], accept: str = ""
) -> tuple[bytes, str]:
    """Write what the registry has and these metrics besides; give the text and its media type."""
    given = _Given(metrics)
    registry.register(given)
    try:
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), PLAIN
    finally:
        registry.unregister(given)
