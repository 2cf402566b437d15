"""Templates, analytics, dead letters, configuration and health."""

from __future__ import annotations

from typing import Any

import httpx
from grpc import StatusCode

from support.flows import CHAIN, ONE, Worker, begin_one, template
from support.rpc import RpcClient, refusal
from tasker_core.engine import dlq
from tasker_core.engine.register import register_template
from tasker_core.server.run import Server

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


async def test_templates_are_listed_and_read(conn: Any, rpc: RpcClient) -> None:
    """Without a version, the newest."""
    steps = [{"name": "a", "handler": {"callable": "a"}, "result_schema": SCHEMA}]
    for version in ("1.0.0", "1.1.0"):
        await register_template(conn, template(version=version, steps=steps, input_schema=SCHEMA))

    listed = await rpc.call("TemplateService/ListTemplates", namespace="shop")
    newest = await rpc.call("TemplateService/GetTemplate", namespace="shop", name="flow")
    named = await rpc.call(
        "TemplateService/GetTemplate",
        namespace="shop",
        name="flow",
        version="1.0.0",
        include_configuration=True,
    )

    assert [one["version"] for one in listed["templates"]] == ["1.1.0", "1.0.0"]
    assert listed["namespaces"] == [{"name": "shop", "template_count": 2}]
    assert newest["template"]["version"] == "1.1.0"
    assert newest["template"]["input_schema"] == SCHEMA
    assert newest["template"]["steps"][0]["result_schema"] == SCHEMA
    assert named["template"]["configuration"]["version"] == "1.0.0"
    error = await refusal(rpc.call("TemplateService/GetTemplate", namespace="shop", name="none"))
    assert error.code() is StatusCode.NOT_FOUND


async def test_analytics_measure_what_was_done(conn: Any, rpc: RpcClient, worker: Worker) -> None:
    """What is not there to be measured is not set."""
    await begin_one(conn, template(ONE))
    nothing = await rpc.call("AnalyticsService/GetPerformanceMetrics", hours=1)
    await worker.succeed(await worker.claim_one())

    found = await rpc.call("AnalyticsService/GetPerformanceMetrics", namespace="shop")
    slow = await rpc.call("AnalyticsService/GetBottleneckAnalysis", min_executions=1, limit=3)

    assert "average_task_duration_seconds" not in nothing
    assert nothing["window_hours"] == 1
    assert found["completed_tasks"] == "1"
    assert found["tasks_by_state"] == {"complete": "1"}
    assert found["average_task_duration_seconds"] >= 0
    assert [one["step_name"] for one in slow["slow_steps"]] == ["a"]
    assert slow["resource_utilization"]["system_health"]["complete_tasks"] == "1"


async def test_dead_letters_are_looked_into(conn: Any, rpc: RpcClient) -> None:
    """Listed, read, counted, resolved."""
    task = str(await begin_one(conn, template(CHAIN)))
    await dlq.add_entry(conn, await _task(conn), actor="ada", reason="odd", metadata=None)

    listed = await rpc.call(
        "DlqService/ListEntries", resolution_status="DLQ_RESOLUTION_STATUS_PENDING", limit=5
    )
    entry = (await rpc.call("DlqService/GetEntryByTask", task_uuid=task))["entry"]
    queue = await rpc.call("DlqService/GetInvestigationQueue")
    stale = await rpc.call("DlqService/GetStalenessMonitoring", limit=1)
    updated = await rpc.call(
        "DlqService/UpdateInvestigation",
        dlq_entry_uuid=entry["dlq_entry_uuid"],
        resolution_status="DLQ_RESOLUTION_STATUS_MANUALLY_RESOLVED",
        resolution_notes="called them",
        resolved_by="ada",
        metadata={"ticket": 7},
    )
    stats = await rpc.call("DlqService/GetStats")

    assert listed == {"entries": [entry], "total": "1"}
    assert entry["dlq_reason"] == "DLQ_REASON_MANUAL_DLQ"
    assert entry["task_snapshot"]["task"]
    assert queue["entries"][0]["dlq_entry_uuid"] == entry["dlq_entry_uuid"]
    assert stale["tasks"][0]["health_status"] == "STALENESS_HEALTH_STATUS_HEALTHY"
    assert updated["entry"]["resolution_status"] == "DLQ_RESOLUTION_STATUS_MANUALLY_RESOLVED"
    assert updated["entry"]["metadata"]["ticket"] == 7
    assert stats["stats"][0]["manually_resolved"] == "1"
    nobody = rpc.call("DlqService/GetEntryByTask", task_uuid=entry["dlq_entry_uuid"][:-4] + "0000")
    assert (await refusal(nobody)).code() is StatusCode.NOT_FOUND


async def test_the_configuration_has_no_secrets(server: Server, rpc: RpcClient) -> None:
    """The same as over HTTP."""
    found = await rpc.call("ConfigService/GetConfig")
    async with httpx.AsyncClient(base_url=server.url) as client:
        shown = (await client.get("/config")).json()

    assert found["settings"] == shown["settings"]
    assert found["settings"]["max_context_bytes"] == 100_000
    assert found["settings"]["jwt_public_key"] is None


async def test_health_is_told(server: Server, rpc: RpcClient) -> None:
    """A server that stops is not ready, which is UNAVAILABLE."""
    health = await rpc.call("HealthService/CheckHealth")
    alive = await rpc.call("HealthService/CheckLiveness")
    ready = await rpc.call("HealthService/CheckReadiness")
    server.app.state.backend.draining = True
    detailed = await rpc.call("HealthService/CheckDetailedHealth")
    error = await refusal(rpc.call("HealthService/CheckReadiness"))

    assert (health["status"], alive["status"], ready["status"]) == ("healthy", "alive", "ready")
    assert ready["checks"]["database"]["status"] == "healthy"
    assert detailed["info"]["operational_state"] == "GracefulShutdown"
    assert error.code() is StatusCode.UNAVAILABLE


async def _task(conn: Any) -> Any:
    return await conn.fetchval("select task_uuid from tasker.tasks")
