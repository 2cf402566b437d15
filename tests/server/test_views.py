"""A task from one side or the other, and who is at work."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from support.flows import CHAIN, DIAMOND, Worker, begin_one, template
from support.workers import Bench
from tasker_core.engine.dlq import add_entry
from tasker_core.engine.inspect import get_task, list_steps
from tasker_core.engine.operate import reset_step
from tasker_core.server.picture import dot, mermaid


@pytest.fixture
async def failed(conn: Any, worker: Worker) -> Any:
    """A chain whose second step has failed for good."""
    task = await begin_one(
        conn, template(CHAIN, callables={"b": "bank.b"}), initiator="web", context={"id": 7}
    )
    await worker.succeed(await worker.claim_one())
    await worker.fail(await worker.claim_one(), retryable=False)
    return task


async def test_a_summary_has_all_that_a_page_shows(
    api: httpx.AsyncClient, conn: Any, failed: Any
) -> None:
    """The task, its template's steps, where they stand and why, the dead letter, the links."""
    await add_entry(conn, failed, actor="ann", reason="look")
    document = (await api.get(f"/v1/tasks/{failed}/summary")).json()

    task, steps = document["task"], {step["name"]: step for step in document["steps"]}
    assert (task["status"], task["failed_steps"], task["recommended_action"]) == (
        "blocked_by_failures",
        1,
        "handle_failures",
    )
    assert "context" not in task
    assert [
        (one["name"], one["handler"], one["dependencies"]) for one in document["template"]["steps"]
    ] == [("a", "a", []), ("b", "bank.b", ["a"]), ("c", "c", ["b"])]
    assert steps["b"]["error"] == {
        "message": "no",
        "error_type": "handler_error",
        "retryable": False,
        "status_code": None,
    }
    assert (steps["a"]["error"], steps["c"]["dependencies"]) == (None, ["b"])
    assert document["dlq"] == {
        "in_dlq": True,
        "dlq_reason": "manual_dlq",
        "resolution_status": "pending",
    }
    for name in ("task", "steps", "summary", "graph", "dlq"):
        assert (await api.get(document["links"][name])).status_code == 200


async def test_a_graph_is_drawn_in_three_ways(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """By parameter or by Accept; as JSON, nodes and the edges between them."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.succeed(await worker.claim_one())
    path = f"/v1/tasks/{task}/graph"
    graph = (await api.get(path)).json()
    names = {node["step_uuid"]: node["name"] for node in graph["nodes"]}

    assert {(names[e["parent"]], names[e["child"]]) for e in graph["edges"]} == {
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
    }
    assert [(n["name"], n["state"]) for n in graph["nodes"]][:2] == [
        ("a", "complete"),
        ("b", "enqueued"),
    ]
    drawn = await api.get(path, params={"format": "mermaid"})
    assert drawn.headers["content-type"].startswith("text/vnd.mermaid")
    assert '    s1["a"]:::complete\n' in drawn.text
    assert "    s3 --> s4\n" in drawn.text
    accepted = await api.get(path, headers={"Accept": "text/vnd.mermaid"})
    assert accepted.text == drawn.text
    drawn = await api.get(path, headers={"Accept": "text/vnd.graphviz, */*;q=0.1"})
    assert drawn.text.startswith('digraph "flow" {')
    assert "    s1 -> s2;\n" in drawn.text


async def test_names_cannot_break_a_drawing(conn: Any) -> None:
    """Quotes in the name of a step stay inside of its label."""
    task = await begin_one(conn, template())
    await conn.execute("update tasker.steps set name = 'a \"b\" #1'")
    steps = await list_steps(conn, task)

    assert 's1["a #quot;b#quot; #35;1"]' in mermaid(steps)
    assert 'label="a \\"b\\" #1"' in dot(await get_task(conn, task), steps)


async def test_an_audit_says_who_did_what(
    api: httpx.AsyncClient, conn: Any, worker: Worker, failed: Any
) -> None:
    """The newest first, back to the creation."""
    await reset_step(conn, failed, UUID(int=failed.int | 2), actor="ann", reason="ok")
    told = (await api.get(f"/v1/tasks/{failed}/audit")).json()

    assert [
        (one["kind"], one.get("step_name"), one["to_state"], one.get("actor")) for one in told[::-1]
    ] == [
        ("created", None, "steps_in_process", "web"),
        ("worker_result", "a", "complete", str(worker.uuid)),
        ("worker_result", "b", "error", str(worker.uuid)),
        ("task_change", None, "blocked_by_failures", None),
        ("operator_action", "b", "pending", "ann"),
        ("task_change", None, "steps_in_process", None),
    ]
    assert told[0]["recorded_at"] >= told[-1]["recorded_at"]


async def test_a_context_has_inputs_and_outputs(api: httpx.AsyncClient, failed: Any) -> None:
    """Results of what is complete, and everything together."""
    document = (await api.get(f"/v1/tasks/{failed}/context")).json()

    assert document == {
        "inputs": {"id": 7},
        "outputs": {"a": {"by": "a"}},
        "merged": {"id": 7, "by": "a"},
    }


async def test_workers_say_what_they_can_do(
    api: httpx.AsyncClient, clean_database: str, conn: Any
) -> None:
    """While they live, and for a day after."""
    await begin_one(conn, template(namespace="bank"))
    bench = Bench(clean_database, conn)
    try:
        await bench.worker({"a": lambda context: None})
        document = (await api.get("/v1/workers")).json()
    finally:
        await bench.close()

    (worker,) = document["workers"]
    assert (document["total_count"], document["alive_count"]) == (1, 1)
    assert (worker["is_alive"], worker["namespaces"], worker["handlers"]) == (True, ["bank"], ["a"])


async def test_old_addresses_of_health_say_where_it_is(api: httpx.AsyncClient) -> None:
    """They answer, and tell that they are old."""
    for old, new in (("/live", "/health/live"), ("/ready", "/health/ready")):
        reply = await api.get(old)
        assert (reply.status_code, reply.headers["Deprecation"]) == (200, "true")
        assert reply.headers["Link"] == f'<{new}>; rel="successor-version"'
