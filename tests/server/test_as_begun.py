"""The reply to a creation is what a reader would have been shown, without reading."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.flows import DIAMOND, template
from support.gates import random_template
from tasker_core.engine.register import register_template

ASKED: list[dict[str, Any]] = [
    {},
    {"context": {"größe": [1.5, 1e300, -0.0, 10**15, None, True], "\u2028": {"": []}}},
    {"initiator": "ada", "source_system": "web", "reason": "an order", "tags": ["a", "é"]},
    {"priority": -100, "correlation_id": str(uuid4()), "parent_correlation_id": str(uuid4())},
    {"version": "1.0.0", "priority": None},
]


async def test_it_is_what_is_read(api: httpx.AsyncClient, conn: Any) -> None:
    """Byte for byte and with the same ETag, for templates and requests of every kind."""
    for seed in range(30):
        flow = random_template(Random(seed), 2 + seed % 12)
        await register_template(conn, flow, force=True)
        asked = {"name": flow.name, "namespace": flow.namespace, **ASKED[seed % len(ASKED)]}
        begun = await api.post("/v1/tasks", json={**asked, "idempotency_key": str(seed)})
        read = await api.get(begun.headers["Location"])
        assert begun.status_code == 201
        assert (begun.content, begun.headers["ETag"]) == (read.content, read.headers["ETag"])


@pytest.mark.parametrize("attempts", [0, 1, 7])
async def test_how_often_a_step_may_run(api: httpx.AsyncClient, conn: Any, attempts: int) -> None:
    """The steps say how often they may run, as the policy of the environment has it."""
    own = {"steps": [{"name": "b", "retry": {"max_attempts": 9}}]}
    flow = template(
        DIAMOND, retry={"max_attempts": attempts}, environments={"development": own, "test": own}
    )
    await register_template(conn, flow)
    begun = await api.post("/v1/tasks", json={"name": "flow", "namespace": "shop"})
    read = await api.get(begun.headers["Location"])
    assert begun.json() == read.json()
    assert begun.json()["steps"][1]["max_attempts"] in (attempts, 9)
