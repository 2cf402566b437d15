"""A browser, and tasks in every state."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from support.flows import CHAIN, ONE, Worker, begin_one, template
from tasker_core.engine import operate
from tasker_core.engine.dlq import add_entry

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {**BROWSER, "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """A browser that is on a page of the server's, which asks nobody."""
    api.headers.update(FORM)
    return api


@pytest.fixture
async def tasks(conn: Any, worker: Worker) -> dict[str, UUID]:
    """A task in each state, and one with a dead letter, by the state's name."""
    once = {"max_attempts": 1}
    found: dict[str, UUID] = {}

    async def begin(state: str, graph: Any = ONE, **more: Any) -> UUID:
        found[state] = await begin_one(conn, template(graph, name=f"t_{state}", **more))
        return found[state]

    await begin("complete")
    await worker.succeed(await worker.claim_one())
    await begin("blocked_by_failures", CHAIN, retry=once)
    await worker.succeed(await worker.claim_one())
    await worker.fail(await worker.claim_one(), retryable=False)
    await add_entry(conn, found["blocked_by_failures"], actor="ann", reason="look")
    await begin("waiting_for_retry", retry={"max_attempts": 3, "backoff_base_ms": 60_000})
    await worker.fail(await worker.claim_one())
    await operate.cancel_task(conn, await begin("cancelled"), actor="ann", reason="r")
    await operate.resolve_task(conn, await begin("resolved_manually"), actor="ann", reason="r")
    await begin("error", lifecycle={"max_duration_minutes": 1, "staleness_action": "error"})
    await worker.fail(await worker.claim_one(), retryable=False)
    await begin("in_progress")
    await worker.claim_one()
    await begin("steps_in_process", CHAIN)
    return found
