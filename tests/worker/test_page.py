"""A worker's own page."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from support.events import publishing
from support.flows import begin_one, template
from support.replies import refused
from support.workers import Bench
from tasker_core.engine.api_keys import create_api_key
from tasker_core.engine.register import register_template
from tasker_core.observe.listen import AddressUnavailable
from tasker_core.server.permissions import WORKER_PUBLIC_PATHS, WORKER_ROUTES


async def test_health_of_a_worker(bench: Bench, conn: Any) -> None:
    """Live, ready, and what it serves; what it has no handler for is named."""
    await begin_one(conn, template({"a": [], "b": ["a"]}, callables={"b": "shop.other"}))
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        live = (await client.get("/health/live")).json()
        ready = await client.get("/health/ready")
        detailed = (await client.get("/health/detailed")).json()
        await worker._upkeep.stop()  # it would say that the worker lives
        worker._upkeep.seen_at = time.monotonic() - 45
        silent = await client.get("/health/ready")

    assert (live["status"], live["worker_id"]) == ("alive", str(worker.worker_uuid))
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert detailed["status"] == "healthy"
    assert detailed["system_info"]["supported_namespaces"] == ["shop"]
    assert detailed["system_info"]["unserved_handlers"] == ["shop: shop.other"]
    assert (silent.status_code, silent.json()["status"]) == (503, "not_ready")
    assert re.search("for 4[5-9] seconds", silent.json()["checks"]["database"]["message"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/health", 200, None),
        ("GET", "/health/live", 200, None),
        ("GET", "/health/ready", 200, None),
        ("GET", "/health/detailed", 200, None),
        ("GET", "/metrics", 200, None),
        ("GET", "/metrics/worker", 200, None),
        ("GET", "/metrics/events", 200, None),
        ("GET", "/v1/templates", 200, None),
        ("GET", "/v1/templates?include_cache_stats=x", 400, "BAD_REQUEST"),
        ("GET", "/v1/templates/shop/flow/1.0.0", 200, None),
        ("GET", "/v1/templates/shop/flow/2.0.0", 404, "NOT_FOUND"),
        ("POST", "/v1/templates/shop/flow/1.0.0/validate", 200, None),
        ("POST", "/v1/templates/shop/nothing/1.0.0/validate", 404, "NOT_FOUND"),
        ("GET", "/v1/templates/shop/flow/1.0.0/validate", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/config", 404, "NOT_FOUND"),
        ("GET", "/v1/tasks", 404, "NOT_FOUND"),
        ("GET", "/api-docs/openapi.json", 200, None),
        ("GET", "/api-docs/ui", 200, None),
    ],
)
async def test_every_endpoint_answers_as_the_server_does(
    bench: Bench, conn: Any, method: str, path: str, status: int, code: str | None
) -> None:
    """Status and code; the request's id comes back, and what is wrong is a problem."""
    await register_template(conn, template({"a": []}))
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        reply = await client.request(method, path, headers={"X-Request-ID": "row"})

    assert reply.status_code == status
    assert reply.headers["X-Request-ID"] == "row"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    if code is not None:
        refused(reply, status, code)


async def test_what_a_worker_says_of_templates(bench: Bench, conn: Any) -> None:
    """Each callable is looked up; what is missing is named, with its step."""
    await register_template(conn, template({"a": []}))
    lacking = template({"a": [], "b": ["a"]}, name="other", callables={"b": "shop.nowhere.Gone"})
    await register_template(conn, lacking)
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        listed = (await client.get("/v1/templates?include_cache_stats=true")).json()
        none = (await client.get("/v1/templates?namespace=nobody")).json()
        shown = (await client.get("/v1/templates/shop/flow/1.0.0")).json()
        good = (await client.post("/v1/templates/shop/flow/1.0.0/validate")).json()
        bad = (await client.post("/v1/templates/shop/other/1.0.0/validate")).json()

    found = {one["name"]: one for one in listed["templates"]}
    assert listed["supported_namespaces"] == ["shop"]
    assert listed["template_count"] == listed["cache_stats"]["total_cached"] == 2
    assert (found["flow"]["handlers_resolved"], found["flow"]["missing_handlers"]) == (True, [])
    assert found["other"]["missing_handlers"] == ["shop.nowhere.Gone"]
    assert none["templates"] == []
    assert shown["template"]["template"]["name"] == "flow"
    assert shown["handler_metadata"]["namespace"] == "shop"
    assert (good["valid"], good["errors"]) == (True, [])
    assert good["step_handlers"] == [found_callable(shown, "a")]
    assert not bad["valid"]
    (error,) = bad["errors"]
    assert error.startswith("step b: ")
    assert "shop.nowhere.Gone" in error


def found_callable(shown: dict[str, Any], step: str) -> str:
    """Give what a template that was shown calls for a step."""
    steps = {one["name"]: one for one in shown["template"]["template"]["steps"]}
    return str(steps[step]["handler"]["callable"])


async def test_a_worker_asks_who_calls(bench: Bench, conn: Any) -> None:
    """With the same keys, and permissions of its own; health and metrics are for everybody."""
    await register_template(conn, template({"a": []}))
    reader, _ = await create_api_key(conn, "a", permissions=["templates:*"], actor="ada")
    looker, _ = await create_api_key(conn, "b", permissions=["worker:*"], actor="ada")
    else_, _ = await create_api_key(
        conn, "c", permissions=["worker:*"], namespaces=["other"], actor="ada"
    )
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0, auth=True, config_endpoint=True)
    assert worker.page is not None
    one = "/v1/templates/shop/flow/1.0.0"
    asked: list[tuple[str, str, str | None, int]] = [
        ("GET", "/metrics/events", None, 200),
        ("GET", "/v1/templates", None, 401),
        ("GET", "/v1/templates", reader, 403),
        ("GET", "/v1/templates", looker, 200),
        ("GET", one, looker, 200),
        ("GET", one, else_, 404),
        ("POST", f"{one}/validate", looker, 403),
        ("POST", f"{one}/validate", reader, 200),
        ("GET", "/config", reader, 403),
        ("GET", "/config", looker, 200),
    ]
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        for method, path, key, status in asked:
            headers = {} if key is None else {"X-API-Key": key}
            reply = await client.request(method, path, headers=headers)
            assert reply.status_code == status, (method, path, reply.text)
        config = reply.json()
        described = (await client.get("/api-docs/openapi.json")).json()
        listed = await client.get("/v1/templates", headers={"X-API-Key": else_})

    assert config["auth"]["enabled"] is True
    assert config["messaging"] == {"backend": "postgresql", "queues": ["shop"]}
    assert "postgresql://" not in str(config)
    assert listed.json()["templates"] == []
    declared = {
        f"{method.upper()} {path}": operation.get("x-required-permission")
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    }
    guarded = {route: wanted for route, wanted in declared.items() if wanted is not None}
    assert guarded == {route: words[0] for route, words in WORKER_ROUTES.items()}
    assert {r.partition(" ")[2] for r, w in declared.items() if w is None} <= WORKER_PUBLIC_PATHS


async def test_numbers_of_work_and_events(bench: Bench) -> None:
    """What was published, and what waits in the namespaces that are served."""
    fast = {"name": "a.done", "condition": "always", "delivery_mode": "fast"}
    flow = publishing(fast, "a.kept always")
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    await bench.run(flow)
    worker.announcer.close()
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        events = (await client.get("/metrics/events")).json()
        numbers = (await client.get("/metrics/worker")).json()["metrics"]

    assert (events["router"]["total_routed"], events["router"]["fast_routed"]) == (2, 1)
    assert events["router"]["durable_routed"] == 1
    assert events["in_process_bus"]["total_events_dispatched"] == 1
    assert events["in_process_bus"]["ffi_channel_drops"] == 0
    assert numbers["queue_depth_shop"]["value"] == 0
    assert numbers["uptime_seconds"]["metric_type"] == "gauge"


def test_a_worker_without_a_port_imports_no_server() -> None:
    """FastAPI and the page cost memory and time."""
    code = (
        "import sys, tasker_core.worker.loop; "
        "print([m for m in ('fastapi', 'starlette', 'uvicorn', 'tasker_core.server') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


async def test_a_stopped_worker_leaves_its_port(bench: Bench) -> None:
    """And a second one on the same port is refused, with the variable that would choose another."""
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    port = int(worker.page.url.rpartition(":")[2])
    with pytest.raises(AddressUnavailable, match="TASKER_WORKER_PORT"):
        await bench.worker({}, worker_port=port)
    await worker.stop()
    again = await bench.worker({"a": lambda _: {}}, worker_port=port)

    assert again.page is not None
    assert again.page.url == worker.page.url
