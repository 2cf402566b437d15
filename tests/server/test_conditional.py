"""If-None-Match, Prefer: wait, and Idempotency-Key."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from support.flows import CHAIN, ONE, Worker, begin_one, template
from support.replies import refused
from support.workers import eventually
from tasker_core.engine.register import register_template
from tasker_core.server import conditional
from tasker_core.server.conditional import wait_of

FLOW = {"name": "flow", "namespace": "shop"}


async def finish(worker: Worker) -> None:
    """Finish every step as soon as there is one."""
    (claims,) = [await eventually(worker.claim)]
    while claims:
        await worker.succeed(*claims)
        claims = await worker.claim()


# --- If-None-Match ----------------------------------------------------------------------


async def test_a_task_that_has_not_changed_is_not_sent_again(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """304 without a body, until something is another thing."""
    task = await begin_one(conn, template(CHAIN))
    first = await api.get(f"/v1/tasks/{task}")
    etag = first.headers["ETag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        same = await api.get(f"/v1/tasks/{task}", headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    other = await api.get(f"/v1/tasks/{task}?include_steps=false", headers={"If-None-Match": etag})
    assert other.status_code == 200
    await worker.succeed(await worker.claim_one())
    changed = await api.get(f"/v1/tasks/{task}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["ETag"] == etag) == (200, False)


async def test_a_new_task_comes_with_its_etag(api: httpx.AsyncClient, conn: Any) -> None:
    """The same as when it is read."""
    await register_template(conn, template())
    created = await api.post("/v1/tasks", json=FLOW)
    read = await api.get(created.headers["Location"])

    assert created.headers["ETag"] == read.headers["ETag"]


# --- Prefer: wait -----------------------------------------------------------------------


async def test_a_creation_waits_for_the_end(
    api: httpx.AsyncClient, app: FastAPI, conn: Any, worker: Worker
) -> None:
    """201 with what came of it, as soon as it has ended; no connection is held meanwhile."""
    await register_template(conn, template(CHAIN))
    asked = asyncio.create_task(
        api.post("/v1/tasks", json=FLOW, headers={"Prefer": "respond-async, wait=20"})
    )
    pool = app.state.backend.pool
    await eventually(lambda: app.state.backend.live._topics)
    await eventually(lambda: pool.get_idle_size() == pool.get_size())
    await finish(worker)
    reply = await asked

    assert reply.status_code == 201
    assert reply.headers["Preference-Applied"] == "wait=20"
    assert (reply.json()["status"], reply.json()["results"]) == ("complete", {"c": {"by": "c"}})


async def test_who_waits_in_vain_hears_where_the_task_is(api: httpx.AsyncClient, conn: Any) -> None:
    """202 after the time, with its address; the task goes on."""
    await register_template(conn, template(CHAIN))
    begun = time.monotonic()
    reply = await api.post("/v1/tasks", json=FLOW, headers={"Prefer": "wait=1"})

    assert reply.status_code == 202
    assert 0.9 < time.monotonic() - begun < 10
    assert reply.headers["Location"] == f"/v1/tasks/{reply.json()['task_uuid']}"
    assert reply.json()["status"] == "steps_in_process"


async def test_a_task_that_needs_an_operator_is_not_waited_for(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """202 at once: nothing more happens by itself."""
    await register_template(conn, template(CHAIN))
    asked = asyncio.create_task(api.post("/v1/tasks", json=FLOW, headers={"Prefer": "wait=20"}))
    (claim,) = await eventually(worker.claim)
    await worker.fail(claim, retryable=False)
    async with asyncio.timeout(10):
        reply = await asked

    assert (reply.status_code, reply.json()["status"]) == (202, "blocked_by_failures")


async def test_a_request_that_is_broken_off_leaves_its_task(
    api: httpx.AsyncClient, app: FastAPI, conn: Any, worker: Worker
) -> None:
    """And nobody goes on looking for it."""
    await register_template(conn, template(ONE))
    asked = asyncio.create_task(api.post("/v1/tasks", json=FLOW, headers={"Prefer": "wait=20"}))
    live = app.state.backend.live
    await eventually(lambda: live._topics)
    asked.cancel()
    await asyncio.wait([asked])
    await eventually(lambda: not live._topics)
    await finish(worker)

    states = await conn.fetch("select state from tasker.tasks")
    assert [row["state"] for row in states] == ["complete"]


async def test_two_hundred_wait_on_a_pool_of_ten(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """All of them hear of the end of their own task."""
    await register_template(conn, template(ONE))
    asked = [
        asyncio.create_task(api.post("/v1/tasks", json=FLOW, headers={"Prefer": "wait=20"}))
        for _ in range(200)
    ]
    while not all(one.done() for one in asked):
        await worker.succeed(*await worker.claim())
        await asyncio.sleep(0.01)

    replies = [one.result() for one in asked]
    assert {(one.status_code, one.json()["status"]) for one in replies} == {(201, "complete")}


async def test_a_read_waits_for_the_end_or_for_a_change(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """With If-None-Match for the next event; without, for the end."""
    task = await begin_one(conn, template(CHAIN))
    path, prefer = f"/v1/tasks/{task}", {"Prefer": "wait=20"}
    claim = await worker.claim_one()
    etag = (await api.get(path)).headers["ETag"]
    changed = asyncio.create_task(api.get(path, headers={**prefer, "If-None-Match": etag}))
    ended = asyncio.create_task(api.get(f"{path}?include_results=true", headers=prefer))
    await worker.succeed(claim)
    assert (await changed).json()["completed_steps"] == 1
    assert not ended.done()
    await finish(worker)

    reply = await ended
    assert (reply.json()["status"], reply.json()["results"]) == ("complete", {"c": {"by": "c"}})
    again = await api.get(path, headers={**prefer, "If-None-Match": '"old"'})
    assert again.json()["status"] == "complete"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["wait=10"], 10),
        (["respond-async", "wait=5"], 5),
        (['handling=lenient, wait="7"; x=1'], 7),
        (["WAIT = 3"], 3),
        (["wait=600"], conditional.LONGEST_WAIT_SECONDS),
        (["wait=0"], 0),
        (["wait=-1"], None),
        (["wait=soon"], None),
        (["nowait=5"], None),
        (["respond-async"], None),
        ([], None),
    ],
)
def test_preferences_are_read(headers: list[str], seconds: int | None) -> None:
    """What makes no sense is passed over, as preferences are."""
    raw = [(b"prefer", one.encode()) for one in headers]
    assert wait_of(Request({"type": "http", "headers": raw})) == seconds


# --- Idempotency-Key --------------------------------------------------------------------


async def test_a_request_that_is_sent_again_is_answered_with_its_task(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """200 and a header that says so, however often; one task."""
    await register_template(conn, template())
    asked = {**FLOW, "context": {"id": 7, "ü": [1, None]}}
    headers = {"Idempotency-Key": "order 7"}
    first, *again = [await api.post("/v1/tasks", json=asked, headers=headers) for _ in range(3)]
    both = await asyncio.gather(
        *(api.post("/v1/tasks", json=FLOW, headers={"Idempotency-Key": "8"}) for _ in range(5))
    )

    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
    for one in again:
        assert (one.status_code, one.headers["Idempotent-Replayed"]) == (200, "true")
        assert (one.json()["task_uuid"], one.headers["Location"]) == (
            first.json()["task_uuid"],
            first.headers["Location"],
        )
    assert sorted(one.status_code for one in both) == [200, 200, 200, 200, 201]
    assert len({one.json()["task_uuid"] for one in both}) == 1


async def test_a_key_for_something_else_is_refused(api: httpx.AsyncClient, conn: Any) -> None:
    """422; and the key in the body says no to a duplicate, as it always did."""
    await register_template(conn, template())
    headers = {"Idempotency-Key": "7"}
    await api.post("/v1/tasks", json=FLOW, headers=headers)
    other = await api.post("/v1/tasks", json={**FLOW, "context": {"x": 1}}, headers=headers)
    refused(other, 422, "VALIDATION_ERROR")
    refused(await api.post("/v1/tasks", json={**FLOW, "idempotency_key": "7"}), 409, "CONFLICT")
    mixed = {**FLOW, "idempotency_key": "8"}
    refused(await api.post("/v1/tasks", json=mixed, headers=headers), 400, "BAD_REQUEST")
    long = {"Idempotency-Key": "x" * 256}
    refused(await api.post("/v1/tasks", json=FLOW, headers=long), 400, "BAD_REQUEST")


async def test_a_key_of_a_task_that_has_left_is_a_conflict(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """There is nothing to answer with."""
    await register_template(conn, template())
    headers = {"Idempotency-Key": "7"}
    created = await api.post("/v1/tasks", json=FLOW, headers=headers)
    await conn.execute(
        "insert into tasker.kept_identities select namespace, identity_hash from tasker.tasks"
    )
    await conn.execute("delete from tasker.tasks")
    assert created.status_code == 201
    refused(await api.post("/v1/tasks", json=FLOW, headers=headers), 409, "CONFLICT")
