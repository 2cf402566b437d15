"""/v1/analytics: how tasks and steps do, and where the time goes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support.flows import CHAIN, Worker, begin, template
from support.replies import refused, wrong
from tasker_core.server.routes import analytics

PERFORMANCE, BOTTLENECKS = "/v1/analytics/performance", "/v1/analytics/bottlenecks"


@pytest.fixture
async def history(conn: Any, worker: Worker) -> None:
    """Ten tasks of one step: one is blocked, nine are complete."""
    await begin(conn, template(name="wide", retry={"max_attempts": 1}), 10)
    first, *others = await worker.claim()
    await worker.fail(first)
    await worker.succeed(*others)


@pytest.mark.usefixtures("history")
async def test_performance_has_every_figure(api: httpx.AsyncClient) -> None:
    """Rates in per cent, ratios from 0 to 1, rates by the hour."""
    found = (await api.get(PERFORMANCE)).json()

    assert found["window_hours"] == 24
    assert found["analysis_period_start"] < found["calculated_at"]
    counted = ("total_tasks", "active_tasks", "completed_tasks", "failed_tasks")
    assert [found[name] for name in counted] == [10, 1, 9, 1]
    assert found["tasks_by_state"] == {"complete": 9, "blocked_by_failures": 1}
    assert (found["completion_rate"], found["error_rate"]) == (90.0, 10.0)
    assert (found["completion_ratio"], found["error_ratio"]) == (0.9, 0.1)
    assert found["system_health_score"] == 0.9
    assert (found["tasks_per_hour"], found["steps_per_hour"]) == (9 / 24, 9 / 24)
    assert (found["execution_count"], found["error_count"], found["retry_count"]) == (10, 1, 0)
    for what in ("task_duration", "step_duration", "queue_wait"):
        assert all(found[f"{how}_{what}_seconds"] >= 0 for how in ("average", "p50", "p95"))


@pytest.mark.usefixtures("history")
async def test_bottlenecks_show_steps_tasks_and_states(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """As many as are wanted; every state is counted."""
    await begin(conn, template(CHAIN), 5)
    for _ in CHAIN:
        await worker.succeed(*await worker.claim())

    found = (await api.get(f"{BOTTLENECKS}?limit=2")).json()
    none = (await api.get(f"{BOTTLENECKS}?min_executions=11&namespace=shop")).json()
    elsewhere = (await api.get(f"{BOTTLENECKS}?namespace=elsewhere")).json()

    assert [len(found["slow_steps"]), len(found["slow_tasks"])] == [2, 2]
    (wide,) = [one for one in found["slow_tasks"] if one["task_name"] == "wide"]
    assert (wide["namespace_name"], wide["version"]) == ("shop", "1.0.0")
    assert (wide["execution_count"], wide["error_count"], wide["error_rate"]) == (10, 1, 0.1)
    assert wide["average_step_count"] == 1.0
    assert wide["last_executed_at"].endswith("Z")
    step = found["slow_steps"][0]
    assert step["max_duration_seconds"] >= step["p95_duration_seconds"]
    assert step["p95_queue_wait_seconds"] >= 0
    health = found["resource_utilization"]["system_health"]
    assert len(health) == 12 + 10 + 2
    assert (health["total_tasks"], health["total_steps"]) == (15, 25)
    assert (health["complete_tasks"], health["error_steps"], health["enqueued_steps"]) == (14, 1, 0)
    assert 0 <= found["resource_utilization"]["database_pool_utilization"] <= 1
    assert found["recommendations"] == []
    assert (none["slow_steps"], none["slow_tasks"]) == ([], [])
    assert elsewhere["resource_utilization"]["system_health"]["total_tasks"] == 0


async def test_recommendations_name_what_to_look_at(
    api: httpx.AsyncClient, conn: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that fails most, even if it is not shown, the slowest, and a busy pool."""
    await begin(conn, template(callables={"a": "slow"}, name="slow"), 5)
    claims = await worker.claim()
    await conn.execute("update tasker.leases set claimed_at = claimed_at - interval '31 seconds'")
    await worker.succeed(*claims)
    await begin(conn, template(name="bad", retry={"max_attempts": 1}), 5)
    await worker.fail(*await worker.claim())
    monkeypatch.setattr(analytics, "_utilization", lambda pool: 0.9)

    found = (await api.get(f"{BOTTLENECKS}?limit=1")).json()

    assert [one["task_name"] for one in found["slow_steps"]] == ["slow"]
    failing, busy, slow = found["recommendations"]
    assert failing.startswith("5 of 5 executions of step a of shop/bad 1.0.0 failed")
    assert busy.startswith("90% of this server's database connections")
    assert slow.startswith("step a of shop/slow 1.0.0 takes 31.0 seconds")


async def test_an_empty_database_is_well(api: httpx.AsyncClient) -> None:
    """Nothing to measure is null; nothing is slow."""
    measured = (await api.get(f"{PERFORMANCE}?hours=8760")).json()
    found = (await api.get(BOTTLENECKS)).json()

    assert (measured["total_tasks"], measured["system_health_score"]) == (0, 1.0)
    assert measured["average_task_duration_seconds"] is None
    assert (found["slow_steps"], found["slow_tasks"], found["recommendations"]) == ([], [], [])


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        (f"{PERFORMANCE}?hours=0", "/hours"),
        (f"{PERFORMANCE}?hours=8761", "/hours"),
        (f"{PERFORMANCE}?hours=day", "/hours"),
        (f"{BOTTLENECKS}?limit=0", "/limit"),
        (f"{BOTTLENECKS}?limit=101", "/limit"),
        (f"{BOTTLENECKS}?min_executions=0", "/min_executions"),
        (f"{BOTTLENECKS}?hours=0", "/hours"),
        (f"{BOTTLENECKS}?namespace=%00", "/namespace"),
    ],
)
async def test_bounds_are_checked(api: httpx.AsyncClient, path: str, pointer: str) -> None:
    """The reply names the parameter, as everywhere."""
    reply = await api.get(path)

    refused(reply, 400, "BAD_REQUEST")
    assert [one for one, _ in wrong(reply)] == [pointer]
