"""A worker's own page."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from support.flows import begin_one, template
from support.workers import Bench
from tasker_core.observe.listen import AddressUnavailable


async def test_health_of_a_worker(bench: Bench, conn: Any) -> None:
    """Live, ready, and what it serves; what it has no handler for is named."""
    await begin_one(conn, template({"a": [], "b": ["a"]}, callables={"b": "shop.other"}))
    worker = await bench.worker({"a": lambda _: {}}, worker_port=0)
    assert worker.page is not None
    async with httpx.AsyncClient(base_url=worker.page.url) as client:
        live = (await client.get("/health/live")).json()
        ready = await client.get("/health/ready")
        detailed = (await client.get("/health/detailed")).json()
        worker._upkeep.seen_at = time.monotonic() - 45
        silent = await client.get("/health/ready")

    assert (live["status"], live["worker_id"]) == ("alive", str(worker.worker_uuid))
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert detailed["status"] == "healthy"
    assert detailed["system_info"]["supported_namespaces"] == ["shop"]
    assert detailed["system_info"]["unserved_handlers"] == ["shop: shop.other"]
    assert (silent.status_code, silent.json()["status"]) == (503, "not_ready")
    assert "for 45 seconds" in silent.json()["checks"]["database"]["message"]


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
