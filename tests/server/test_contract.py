"""Every endpoint, and what it answers: exact status and code, one row each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from support.flows import CHAIN, Worker, begin_one, template
from support.replies import refused
from tasker_core.engine.operate import cancel_task
from tasker_core.engine.register import register_template

NOBODY = "01920000-0000-7000-8000-000000000000"
ACTION = {"action_type": "reset_for_retry", "reason": "r", "reset_by": "ann"}
COMPLETE = {
    "action_type": "complete_manually",
    "reason": "r",
    "completed_by": "ann",
    "completion_data": {"result": {"x": 1}},
}

# {task}: one that has begun, {ended}: one that was cancelled, {failed}: blocked, with step {bad}
ROWS: list[tuple[str, str, Any, int, str | None]] = [
    # O1
    ("POST", "/v1/tasks", {"name": "flow", "namespace": "shop"}, 201, None),
    ("POST", "/v1/tasks", {"name": "strict", "namespace": "shop"}, 409, "CONFLICT"),
    ("POST", "/v1/tasks", {"name": "keyed", "namespace": "shop"}, 400, "BAD_REQUEST"),
    ("POST", "/v1/tasks", {"name": "nothing"}, 404, "NOT_FOUND"),
    (
        "POST",
        "/v1/tasks",
        {"name": "flow", "namespace": "shop", "version": "9"},
        404,
        "NOT_FOUND",
    ),
    ("POST", "/v1/tasks", {"name": ""}, 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks", {}, 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks", {"name": "flow", "priority": 101}, 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks", {"name": "flow", "reason": "r" * 501}, 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks", [], 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks", b"{", 400, "JSON_ERROR"),
    # bulk
    ("POST", "/v1/tasks/bulk", {"tasks": [{"name": "flow", "namespace": "shop"}]}, 201, None),
    ("POST", "/v1/tasks/bulk", {"tasks": [{"name": "nothing"}]}, 207, None),
    ("POST", "/v1/tasks/bulk", {"tasks": []}, 422, "VALIDATION_ERROR"),
    ("POST", "/v1/tasks/bulk", {"tasks": [{}], "atomic": True}, 422, "VALIDATION_ERROR"),
    # O2
    ("GET", "/v1/tasks", None, 200, None),
    ("GET", "/v1/tasks?page=0", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?per_page=0", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?per_page=101", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?status=happy", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?status=completed,pending", None, 200, None),
    ("GET", "/v1/tasks?limit=201", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?cursor=x", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?limit=5&page=1", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?sort=name", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?created_after=soon", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?context=[1]", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/tasks?context={{", None, 400, "BAD_REQUEST"),
    # O3, O4
    ("GET", "/v1/tasks/{task}", None, 200, None),
    ("GET", f"/v1/tasks/{NOBODY}", None, 404, "NOT_FOUND"),
    ("GET", "/v1/tasks/x", None, 400, "INVALID_UUID"),
    ("DELETE", "/v1/tasks/{task}", None, 200, None),
    ("DELETE", "/v1/tasks/{ended}", None, 200, None),
    ("DELETE", f"/v1/tasks/{NOBODY}", None, 404, "NOT_FOUND"),
    ("DELETE", "/v1/tasks/x", None, 400, "INVALID_UUID"),
    ("POST", "/v1/tasks/{task}/cancel", {"reason": "no"}, 200, None),
    ("POST", "/v1/tasks/{failed}/retry", {"reason": "again"}, 200, None),
    ("POST", "/v1/tasks/{task}/retry", {"reason": "again"}, 409, "CONFLICT"),
    ("POST", "/v1/tasks/{failed}/retry", {}, 422, "VALIDATION_ERROR"),
    # O5 and the other sides
    *(
        row
        for view in ("summary", "graph", "audit", "context", "transitions", "why")
        for row in (
            ("GET", f"/v1/tasks/{{task}}/{view}", None, 200, None),
            ("GET", f"/v1/tasks/{NOBODY}/{view}", None, 404, "NOT_FOUND"),
            ("GET", f"/v1/tasks/x/{view}", None, 400, "INVALID_UUID"),
        )
    ),
    ("GET", "/v1/tasks/{task}/graph?format=png", None, 400, "BAD_REQUEST"),
    # O6 to O9
    ("GET", "/v1/tasks/{task}/workflow_steps", None, 200, None),
    ("GET", f"/v1/tasks/{NOBODY}/workflow_steps", None, 404, "NOT_FOUND"),
    ("GET", "/v1/tasks/{failed}/workflow_steps/{bad}", None, 200, None),
    ("GET", "/v1/tasks/{task}/workflow_steps/{bad}", None, 404, "NOT_FOUND"),
    ("GET", "/v1/tasks/{task}/workflow_steps/x", None, 400, "INVALID_UUID"),
    ("PATCH", "/v1/tasks/{failed}/workflow_steps/{bad}", ACTION, 200, None),
    ("PATCH", "/v1/tasks/{failed}/workflow_steps/{bad}", COMPLETE, 200, None),
    ("PATCH", "/v1/tasks/{task}/workflow_steps/{bad}", ACTION, 404, "NOT_FOUND"),
    ("PATCH", "/v1/tasks/{task}/workflow_steps/{open}", ACTION, 409, "CONFLICT"),
    ("PATCH", "/v1/tasks/{failed}/workflow_steps/{bad}", {}, 422, "VALIDATION_ERROR"),
    ("GET", "/v1/tasks/{failed}/workflow_steps/{bad}/audit", None, 200, None),
    ("GET", "/v1/tasks/{task}/workflow_steps/{bad}/audit", None, 404, "NOT_FOUND"),
    # O10, O11
    ("GET", "/v1/templates", None, 200, None),
    ("GET", "/v1/templates?namespace=nobody", None, 200, None),
    ("GET", "/v1/templates/shop/flow", None, 200, None),
    ("GET", "/v1/templates/shop/nothing", None, 404, "NOT_FOUND"),
    ("GET", "/v1/templates/shop/flow/1.0.0", None, 200, None),
    ("GET", "/v1/templates/shop/flow/2.0.0", None, 404, "NOT_FOUND"),
    ("GET", "/v1/templates/shop/flow/1.0.0/input-schema", None, 200, None),
    ("GET", "/v1/templates/shop/flow/2.0.0/input-schema", None, 404, "NOT_FOUND"),
    ("POST", "/v1/templates/validate", b"name: x", 200, None),
    ("POST", "/v1/templates/validate", b"\xff", 400, "BAD_REQUEST"),
    # O12, O13
    ("GET", "/v1/analytics/performance", None, 200, None),
    ("GET", "/v1/analytics/performance?hours=0", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/analytics/bottlenecks?limit=5&min_executions=1", None, 200, None),
    ("GET", "/v1/analytics/bottlenecks?limit=0", None, 400, "BAD_REQUEST"),
    # O14 to O19
    ("GET", "/v1/dlq?resolution_status=Pending", None, 200, None),
    ("GET", "/v1/dlq?limit=201", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq?cursor=x", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq?cursor=W10=&offset=1", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq?offset=-1", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq?resolution_status=lost", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq/investigation-queue?limit=0", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq/staleness?limit=0", None, 400, "BAD_REQUEST"),
    ("GET", "/v1/dlq/task/x", None, 400, "INVALID_UUID"),
    ("PATCH", "/v1/dlq/entry/x", {"reopen": True}, 400, "INVALID_UUID"),
    ("GET", "/v1/dlq/task/{task}", None, 404, "NOT_FOUND"),
    ("PATCH", f"/v1/dlq/entry/{NOBODY}", {"resolution_notes": "n"}, 404, "NOT_FOUND"),
    ("PATCH", f"/v1/dlq/entry/{NOBODY}", {}, 422, "VALIDATION_ERROR"),
    ("GET", "/v1/dlq/stats", None, 200, None),
    ("GET", "/v1/dlq/investigation-queue", None, 200, None),
    ("GET", "/v1/dlq/staleness", None, 200, None),
    # the rest
    ("GET", "/v1/workers", None, 200, None),
    ("GET", "/v1/whoami", None, 200, None),
    ("GET", "/config", None, 404, "NOT_FOUND"),
    ("GET", "/health", None, 200, None),
    ("GET", "/health/live", None, 200, None),
    ("GET", "/health/ready", None, 200, None),
    ("GET", "/health/detailed", None, 200, None),
    ("GET", "/metrics", None, 200, None),
    ("GET", "/live", None, 200, None),
    ("GET", "/ready", None, 200, None),
    ("GET", "/api-docs/openapi.json", None, 200, None),
    ("GET", "/api-docs/ui", None, 200, None),
    ("GET", "/v1/nothing", None, 404, "NOT_FOUND"),
    ("PUT", "/v1/tasks", {}, 405, "METHOD_NOT_ALLOWED"),
    ("POST", "/v1/workers", {}, 405, "METHOD_NOT_ALLOWED"),
]


@pytest.fixture
async def places(conn: Any, worker: Worker) -> dict[str, UUID]:
    """Something to ask for."""
    await register_template(conn, template(name="keyed", identity_strategy="caller_provided"))
    strict = template(name="strict", identity_strategy="strict")
    ended = await begin_one(conn, strict)
    await cancel_task(conn, ended, actor="ann", reason="no")
    failed = await begin_one(conn, template(CHAIN, name="other"))
    await worker.fail(await worker.claim_one(), retryable=False)
    task = await begin_one(conn, template(CHAIN))
    return {
        "task": task,
        "open": UUID(int=task.int | 1),
        "ended": ended,
        "failed": failed,
        "bad": UUID(int=failed.int | 1),
    }


async def test_every_endpoint_answers_as_it_is_written(
    app: FastAPI, api: httpx.AsyncClient, conn: Any, worker: Worker, places: dict[str, UUID]
) -> None:
    """Status and code of every row; every reply has the request's id; problems are problems."""
    wrong = []
    for method, path, body, status, code in ROWS:
        content = body if isinstance(body, bytes) else None
        headers = {"X-Request-ID": "row-1"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        fresh = dict(places)
        if "{failed}" in path and method != "GET":
            failed = await begin_one(conn, template(CHAIN, name="other"))
            claims = {one.task_uuid: one for one in await worker.claim()}
            await worker.fail(claims.pop(failed), retryable=False)
            await worker.give_back(*claims.values())
            fresh |= {"failed": failed, "bad": UUID(int=failed.int | 1)}
        if "{task}" in path and method != "GET":
            fresh["task"] = await begin_one(conn, template(CHAIN))
            fresh["open"] = UUID(int=fresh["task"].int | 1)
        reply = await api.request(
            method,
            path.format(**fresh),
            content=content,
            json=None if content is not None else body,
            headers=headers,
        )
        found = reply.json().get("code") if reply.status_code >= 400 else None
        if (reply.status_code, found) != (status, code):
            wrong.append((method, path, body, reply.status_code, found, reply.text[:200]))
            continue
        assert reply.headers["X-Request-ID"] == "row-1"
        if code is not None:
            refused(reply, status, code)
    assert wrong == []


async def test_no_endpoint_is_without_a_row(app: FastAPI) -> None:
    """What is added to the API is added here."""
    asked = {
        (method, tuple(path.partition("?")[0].strip("/").split("/"))) for method, path, *_ in ROWS
    }
    streams = {"/v1/events", "/v1/tasks/{task_uuid}/events"}  # test_events.py
    manual = {("post", "/v1/dlq"), ("post", "/v1/tasks/actions")}  # test_dlq.py, test_actions.py

    def is_asked(method: str, path: str) -> bool:
        parts = path.strip("/").split("/")
        return any(
            verb == method.upper()
            and len(words) == len(parts)
            and all(p == w or p.startswith("{") for p, w in zip(parts, words, strict=True))
            for verb, words in asked
        )

    missing = [
        (method, path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if path not in streams and (method, path) not in manual and not is_asked(method, path)
    ]
    assert missing == []
