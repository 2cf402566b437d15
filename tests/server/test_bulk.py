"""/v1/tasks/bulk: begin thousands of tasks in one request."""

from __future__ import annotations

from typing import Any

import httpx

from support.flows import ONE, begin_one, template
from support.replies import refused, wrong
from tasker_core.engine.register import register_template

FLOW = {"name": "flow", "namespace": "shop"}
SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}


async def count(conn: Any) -> int:
    return await conn.fetchval("select count(*) from tasker.tasks")


async def test_thousands_of_tasks_begin_in_one_request(
    api: httpx.AsyncClient, app: Any, conn: Any
) -> None:
    """In their order, each with its id."""
    await register_template(conn, template())
    tasks = [{**FLOW, "priority": n % 5} for n in range(2000)]
    reply = await api.post("/v1/tasks/bulk", json={"tasks": tasks})

    items = reply.json()["items"]
    assert (reply.status_code, reply.json()["created_count"]) == (201, 2000)
    assert [item["index"] for item in items] == list(range(2000))
    assert len({item["task_uuid"] for item in items}) == 2000
    rows = await conn.fetch("select task_uuid, priority from tasker.tasks order by task_uuid")
    found = {str(row["task_uuid"]): row["priority"] for row in rows}
    assert [found[item["task_uuid"]] for item in items] == [task["priority"] for task in tasks]


async def test_each_is_created_for_itself(api: httpx.AsyncClient, conn: Any) -> None:
    """What is wrong with one is said of it, and stops no other."""
    strict = template(ONE, name="strict", identity_strategy="strict", input_schema=SCHEMA)
    await begin_one(conn, strict, context={"id": 1})
    own = {"name": "strict", "namespace": "shop"}
    tasks = [
        {**own, "context": {"id": 2}},
        {**own, "context": {"id": 1}},
        {**own, "context": {"id": 2}},
        {**own, "context": {"id": "x"}},
        {**own, "priority": "high"},
        {"name": "nothing"},
        "no object",
        {**own, "context": {"id": 3}},
    ]
    reply = await api.post("/v1/tasks/bulk", json={"tasks": tasks})
    document = reply.json()

    assert reply.status_code == 207
    assert (document["created_count"], document["refused_count"]) == (2, 6)
    assert [(item["status"], item["code"]) for item in document["items"]] == [
        (201, None),
        (409, "CONFLICT"),
        (409, "CONFLICT"),
        (422, "VALIDATION_ERROR"),
        (422, "VALIDATION_ERROR"),
        (404, "NOT_FOUND"),
        (422, "VALIDATION_ERROR"),
        (201, None),
    ]
    assert document["items"][3]["errors"][0]["pointer"] == "/context/id"
    assert document["items"][4]["errors"][0]["pointer"] == "/priority"
    assert await count(conn) == 3


async def test_all_or_none(api: httpx.AsyncClient, conn: Any) -> None:
    """One that is refused refuses all; every reason has its place in the request."""
    strict = template(ONE, name="strict", identity_strategy="strict", input_schema=SCHEMA)
    await begin_one(conn, strict, context={"id": 1})
    own = {"name": "strict", "namespace": "shop"}
    good, taken, bad = ({**own, "context": {"id": n}} for n in (2, 1, "x"))
    tasks = [good, taken, bad]
    reply = await api.post("/v1/tasks/bulk", json={"tasks": tasks, "atomic": True})

    refused(reply, 409, "CONFLICT")
    assert wrong(reply) == [("/tasks/1", "conflict"), ("/tasks/2/context/id", "type")]
    shape = {"tasks": [good, {"priority": 1}], "atomic": True}
    reply = await api.post("/v1/tasks/bulk", json=shape)
    refused(reply, 422, "VALIDATION_ERROR")
    assert wrong(reply) == [("/tasks/1/name", "missing")]
    assert await count(conn) == 1
    reply = await api.post("/v1/tasks/bulk", json={"tasks": [good], "atomic": True})
    assert (reply.status_code, await count(conn)) == (201, 2)


async def test_too_many_are_refused(api: httpx.AsyncClient) -> None:
    """Before any is looked at."""
    reply = await api.post("/v1/tasks/bulk", json={"tasks": [0] * 10_001})
    refused(reply, 422, "VALIDATION_ERROR")
    assert wrong(reply) == [("/tasks", "too_long")]
