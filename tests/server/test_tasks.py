"""/v1/tasks: create, list, read and cancel tasks."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from support.flows import CHAIN, DIAMOND, Worker, begin, begin_one, by_name, step_id, template
from support.replies import refused, wrong
from tasker_core.engine.register import register_template
from tasker_core.states import TaskState

SCHEMA = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "integer"}}},
    "required": ["order_id"],
}

COUNTERS = (
    "pending_steps",
    "enqueued_steps",
    "in_progress_steps",
    "waiting_for_retry_steps",
    "completed_steps",
    "failed_steps",
    "cancelled_steps",
)

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


# --- create -----------------------------------------------------------------------------


async def test_create_answers_201_with_the_task(api: httpx.AsyncClient, conn: Any) -> None:
    """A new task comes back whole: its fields, its counters, its steps, and where it is."""
    await register_template(conn, template(DIAMOND))
    correlation = str(uuid4())
    reply = await api.post(
        "/v1/tasks",
        json={
            "name": "flow",
            "namespace": "shop",
            "version": "1.0.0",
            "context": {"order_id": 7, "größe": [1.5, None]},
            "initiator": "checkout",
            "source_system": "web",
            "reason": "an order",
            "tags": ["big", "new"],
            "priority": 5,
            "correlation_id": correlation,
        },
    )

    task = reply.json()
    assert reply.status_code == 201
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["location"] == f"/v1/tasks/{task['task_uuid']}"
    assert {key: task[key] for key in ("name", "namespace", "version", "status")} == {
        "name": "flow",
        "namespace": "shop",
        "version": "1.0.0",
        "status": "steps_in_process",
    }
    assert task["context"] == {"order_id": 7, "größe": [1.5, None]}
    assert (task["initiator"], task["source_system"], task["reason"]) == (
        "checkout",
        "web",
        "an order",
    )
    assert (task["tags"], task["priority"]) == (["big", "new"], 5)
    assert (task["correlation_id"], task["parent_correlation_id"]) == (correlation, None)
    assert (task["total_steps"], task["enqueued_steps"], task["pending_steps"]) == (4, 1, 3)
    assert sum(task[counter] for counter in COUNTERS) == 4
    assert (task["execution_status"], task["recommended_action"]) == (
        "has_ready_steps",
        "execute_ready_steps",
    )
    assert (task["completion_percentage"], task["health_status"]) == (0.0, "healthy")
    assert [step["name"] for step in task["steps"]] == ["a", "b", "c", "d"]
    assert task["completed_at"] is None


async def test_only_the_name_is_mandatory(api: httpx.AsyncClient, conn: Any) -> None:
    """What is left out has the documented defaults, and the newest version is taken."""
    for version in ("1.9.0", "1.10.0"):
        await register_template(conn, template(namespace="default", version=version))
    task = (await api.post("/v1/tasks", json={"name": "flow"})).json()

    assert (task["namespace"], task["version"], task["context"]) == ("default", "1.10.0", {})
    assert (task["initiator"], task["source_system"]) == ("api", "api")
    assert (task["reason"], task["tags"], task["priority"]) == ("Task requested", [], 0)


async def test_moments_have_a_zone_and_microseconds(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """Every moment is RFC 3339 with six digits and Z."""
    task_uuid = await begin_one(conn, template())
    await worker.succeed(await worker.claim_one())
    task = (await api.get(f"/v1/tasks/{task_uuid}")).json()

    for moment in (task["created_at"], task["updated_at"], task["completed_at"]):
        assert re.fullmatch(MOMENT, moment)
    assert re.fullmatch(MOMENT, task["steps"][0]["last_attempted_at"])


async def test_a_context_that_does_not_fit_is_told_place_by_place(
    api: httpx.AsyncClient, conn: asyncpg.Connection
) -> None:
    """Each violation has its pointer into the body, and nothing is written."""
    await register_template(conn, template(input_schema=SCHEMA))
    reply = await api.post(
        "/v1/tasks", json={"name": "flow", "namespace": "shop", "context": {"items": [1, "two"]}}
    )

    refused(reply, 422, "VALIDATION_ERROR")
    assert sorted(pointer for pointer, _ in wrong(reply)) == [
        "/context/items/1",
        "/context/order_id",
    ]
    assert await conn.fetchval("select count(*) from tasker.tasks") == 0


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "n" * 256}, "/name"),
        ({"name": 5}, "/name"),
        ({"name": "nul\x00"}, "/name"),
        ({"namespace": ""}, "/namespace"),
        ({"version": "v" * 51}, "/version"),
        ({"context": [1]}, "/context"),
        ({"context": None}, "/context"),
        ({"context": "text"}, "/context"),
        ({"initiator": ""}, "/initiator"),
        ({"source_system": "s" * 256}, "/source_system"),
        ({"reason": "r" * 501}, "/reason"),
        ({"tags": "one"}, "/tags"),
        ({"tags": ["ok", ""]}, "/tags/1"),
        ({"tags": ["ok", 5]}, "/tags/1"),
        ({"priority": 101}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"priority": 1.5}, "/priority"),
        ({"correlation_id": "no"}, "/correlation_id"),
        ({"idempotency_key": ""}, "/idempotency_key"),
        ({"options": 3}, "/options"),
    ],
)
async def test_a_field_out_of_bounds_is_refused(
    api: httpx.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    """422, with the pointer of the field, before anything is looked up."""
    reply = await api.post("/v1/tasks", json={"name": "flow", **fields})

    refused(reply, 422, "VALIDATION_ERROR")
    assert [one for one, _ in wrong(reply)] == [pointer]


async def test_several_wrong_fields_are_told_at_once(api: httpx.AsyncClient) -> None:
    """One reply lists them all; a missing name is one of them."""
    reply = await api.post("/v1/tasks", json={"priority": 200, "tags": 1})

    assert wrong(reply) == [
        ("/name", "missing"),
        ("/tags", "list_type"),
        ("/priority", "less_than_equal"),
    ]


@pytest.mark.parametrize(
    ("context", "pointer"),
    [
        ('{"a": ["\\u0000"]}', "/context/a/0"),
        ('{"a/b": 1e400}', "/context/a~1b"),
        ('{"a": 123456789012345678901234567890}', "/context/a"),
        ('{"a": ' + "[" * 120 + "]" * 120 + "}", "/context/a" + "/0" * 99),
    ],
)
async def test_a_context_that_cannot_be_stored_is_refused(
    api: httpx.AsyncClient, conn: Any, context: str, pointer: str
) -> None:
    """NUL, infinity, too large an integer, too deep: 422 with the path to it."""
    await register_template(conn, template())
    reply = await api.post(
        "/v1/tasks",
        content=f'{{"name": "flow", "namespace": "shop", "context": {context}}}',
        headers={"content-type": "application/json"},
    )

    refused(reply, 422, "VALIDATION_ERROR")
    assert wrong(reply) == [(pointer, "storable")]


async def test_a_context_above_the_limit_is_refused(api: httpx.AsyncClient, conn: Any) -> None:
    """422 names the limit, although the body as a whole may be a little larger."""
    await register_template(conn, template())
    body = {"name": "flow", "namespace": "shop", "context": {"text": "x" * 100_001}}
    reply = await api.post("/v1/tasks", json=body)

    document = refused(reply, 422, "VALIDATION_ERROR")
    assert "100,000" in document["detail"]


async def test_an_unknown_template_is_404(api: httpx.AsyncClient, conn: Any) -> None:
    """By name, or by version; the message says what there is."""
    await register_template(conn, template())
    for fields in ({"name": "flaw"}, {"name": "flow", "version": "2.0.0"}):
        reply = await api.post("/v1/tasks", json={"namespace": "shop", **fields})
        document = refused(reply, 404, "NOT_FOUND")
        assert "shop/flow 1.0.0" in document["detail"]


async def test_the_same_task_twice_is_409(api: httpx.AsyncClient, conn: Any) -> None:
    """The order of keys is no difference, and the first task's id stays its owner's."""
    await register_template(conn, template(identity_strategy="strict"))
    body: dict[str, Any] = {"name": "flow", "namespace": "shop"}
    first = await api.post("/v1/tasks", json={**body, "context": {"a": 1, "b": 2}})
    second = await api.post("/v1/tasks", json={**body, "context": {"b": 2, "a": 1}})
    other = await api.post("/v1/tasks", json={**body, "context": {"a": 2}})

    assert (first.status_code, other.status_code) == (201, 201)
    document = refused(second, 409, "CONFLICT")
    assert "identity" in document["detail"]
    assert first.json()["task_uuid"] not in second.text


async def test_a_missing_idempotency_key_is_400(api: httpx.AsyncClient, conn: Any) -> None:
    """A template that leaves identity to the caller wants to be told it."""
    await register_template(conn, template(identity_strategy="caller_provided"))
    body = {"name": "flow", "namespace": "shop"}

    refused(await api.post("/v1/tasks", json=body), 400, "BAD_REQUEST")
    assert (await api.post("/v1/tasks", json={**body, "idempotency_key": "k"})).status_code == 201
    refused(await api.post("/v1/tasks", json={**body, "idempotency_key": "k"}), 409, "CONFLICT")


async def test_members_that_nobody_knows_are_ignored(api: httpx.AsyncClient, conn: Any) -> None:
    """So are those that have no effect here."""
    await register_template(conn, template())
    body = {
        "name": "flow",
        "namespace": "shop",
        "colour": "red",
        "options": {"a": 1},
        "requested_at": "2026-01-01T00:00:00",
    }

    assert (await api.post("/v1/tasks", json=body)).status_code == 201


# --- read -------------------------------------------------------------------------------


async def test_get_counts_steps_in_every_state(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """The counters, the status of the whole, and each step's standing agree."""
    task_uuid = await begin_one(conn, template(DIAMOND, retry={"max_attempts": 2}))
    await worker.run("a")
    claims = by_name(await worker.claim())
    await worker.fail(claims["b"])
    task = (await api.get(f"/v1/tasks/{task_uuid}")).json()

    assert {counter: task[counter] for counter in COUNTERS} == {
        "pending_steps": 1,
        "enqueued_steps": 0,
        "in_progress_steps": 1,
        "waiting_for_retry_steps": 1,
        "completed_steps": 1,
        "failed_steps": 0,
        "cancelled_steps": 0,
    }
    assert (task["execution_status"], task["recommended_action"]) == (
        "processing",
        "wait_for_completion",
    )
    assert task["completion_percentage"] == 25.0
    a, b, c, d = task["steps"]
    assert (a["current_state"], a["attempts"], a["retry_eligible"]) == ("complete", 1, False)
    assert (b["current_state"], b["attempts"], b["max_attempts"]) == ("waiting_for_retry", 1, 2)
    assert b["retry_eligible"]
    assert b["last_failure_at"] is not None
    assert b["next_retry_at"] > b["last_failure_at"]
    assert (c["current_state"], c["attempts"], c["last_failure_at"]) == ("in_progress", 1, None)
    assert (d["dependencies_satisfied"], d["total_parents"], d["completed_parents"]) == (
        False,
        2,
        0,
    )
    assert not d["ready_for_execution"]


async def test_a_blocked_task_says_so(api: httpx.AsyncClient, conn: Any, worker: Worker) -> None:
    """A failed step outweighs everything else."""
    task_uuid = await begin_one(conn, template(CHAIN))
    await worker.fail(await worker.claim_one(), retryable=False)
    task = (await api.get(f"/v1/tasks/{task_uuid}")).json()

    assert task["status"] == "blocked_by_failures"
    assert (task["execution_status"], task["recommended_action"], task["health_status"]) == (
        "blocked_by_failures",
        "handle_failures",
        "blocked",
    )
    assert (task["failed_steps"], task["completed_at"]) == (1, None)


async def test_a_complete_task_wants_nothing(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """All steps done: 100 percent, a time of completion, and no advice."""
    task_uuid = await begin_one(conn, template())
    await worker.succeed(await worker.claim_one())
    task = (await api.get(f"/v1/tasks/{task_uuid}")).json()

    assert (task["status"], task["execution_status"]) == ("complete", "all_complete")
    assert (task["recommended_action"], task["completion_percentage"]) == ("none", 100.0)
    assert task["completed_at"] is not None


async def test_get_without_steps(api: httpx.AsyncClient, conn: Any) -> None:
    """Who only polls need not read ten thousand steps."""
    task_uuid = await begin_one(conn, template(CHAIN))
    task = (await api.get(f"/v1/tasks/{task_uuid}?include_steps=false")).json()

    assert (task["steps"], task["total_steps"]) == ([], 3)


async def test_an_unknown_task_is_404(api: httpx.AsyncClient) -> None:
    """For every route below a task."""
    unknown = f"/v1/tasks/{uuid4()}"
    for path in ("", "/workflow_steps", "/transitions", "/why", f"/workflow_steps/{uuid4()}"):
        refused(await api.get(unknown + path), 404, "NOT_FOUND")
    refused(await api.delete(unknown), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["", "/workflow_steps", "/transitions", "/why", "/workflow_steps/1"]
)
async def test_a_bad_uuid_is_400(api: httpx.AsyncClient, path: str) -> None:
    """The message repeats the offending text."""
    document = refused(await api.get(f"/v1/tasks/not-one{path}"), 400, "INVALID_UUID")
    assert "'not-one'" in document["detail"]


async def test_transitions_tell_the_whole_story(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """Those of the steps and of the task, in the order of time, with names."""
    task_uuid = await begin_one(conn, template())
    await worker.succeed(await worker.claim_one())
    moves = (await api.get(f"/v1/tasks/{task_uuid}/transitions")).json()

    assert [(m["step_name"], m["from_state"], m["to_state"], m["action"]) for m in moves] == [
        ("a", "pending", "enqueued", None),
        ("a", "enqueued", "in_progress", None),
        ("a", "in_progress", "complete", None),
        (None, "steps_in_process", "complete", "advance"),
    ]
    assert moves[0]["step_uuid"] == str(await step_id(conn, task_uuid, "a"))
    assert {m["task_uuid"] for m in moves} == {str(task_uuid)}


async def test_why_tells_a_cause_for_each_step(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """With the same in a sentence."""
    task_uuid = await begin_one(conn, template(CHAIN))
    await worker.fail(await worker.claim_one(), retryable=False)
    causes = (await api.get(f"/v1/tasks/{task_uuid}/why")).json()

    assert [(one["name"], one["state"], one["cause"]) for one in causes] == [
        ("a", "error", "failed"),
        ("b", "pending", "waits_for_parents"),
        ("c", "pending", "waits_for_parents"),
    ]
    assert causes[0]["step_uuid"] == str(await step_id(conn, task_uuid, "a"))
    assert causes[0]["explanation"] == "failed for good after 1 attempt: handler_error: no"
    error = {"error_type": "handler_error", "message": "no"}
    assert causes[1]["detail"] == {
        "count": 1,
        "steps": [{"name": "a", "state": "error", "error": error}],
    }
    assert causes[2]["detail"] == {"count": 1, "steps": [{"name": "b", "state": "pending"}]}


# --- list -------------------------------------------------------------------------------


async def test_list_gives_pages_of_the_youngest_first(api: httpx.AsyncClient, conn: Any) -> None:
    """Three tasks on pages of two."""
    tasks = [str(uuid) for uuid in sorted(await begin(conn, template(), 3), reverse=True)]
    first = (await api.get("/v1/tasks?per_page=2")).json()
    second = (await api.get("/v1/tasks?per_page=2&page=2")).json()
    beyond = (await api.get("/v1/tasks?per_page=2&page=9")).json()

    assert [task["task_uuid"] for task in first["tasks"]] == tasks[:2]
    assert [task["task_uuid"] for task in second["tasks"]] == tasks[2:]
    assert first["pagination"] == {
        "page": 1,
        "per_page": 2,
        "total_count": 3,
        "total_pages": 2,
        "has_next": True,
        "has_previous": False,
        "next_cursor": first["pagination"]["next_cursor"],
    }
    assert (second["pagination"]["has_next"], second["pagination"]["has_previous"]) == (False, True)
    assert (beyond["tasks"], beyond["pagination"]["total_count"]) == ([], 3)
    assert first["tasks"][0]["steps"] == []


async def test_an_empty_list_is_no_error(api: httpx.AsyncClient) -> None:
    """200 with no tasks and no pages."""
    document = (await api.get("/v1/tasks")).json()

    assert document["tasks"] == []
    assert document["pagination"] == {
        "page": 1,
        "per_page": 25,
        "total_count": 0,
        "total_pages": 0,
        "has_next": False,
        "has_previous": False,
        "next_cursor": None,
    }


async def test_list_filters(api: httpx.AsyncClient, conn: Any, worker: Worker) -> None:
    """Each filter alone leaves the tasks that it names."""
    correlation = uuid4()
    done = await begin_one(conn, template(name="done", namespace="one"), initiator="ann")
    await worker.succeed(await worker.claim_one())
    failed = await begin_one(
        conn,
        template(name="failed", version="2.0.0"),
        source_system="erp",
        correlation_id=correlation,
    )
    await worker.fail(await worker.claim_one(), retryable=False)

    async def found(query: str) -> list[str]:
        reply = await api.get(f"/v1/tasks?{query}")
        assert reply.status_code == 200
        return [task["task_uuid"] for task in reply.json()["tasks"]]

    assert await found("namespace=one") == [str(done)]
    assert await found("name=failed") == [str(failed)]
    assert await found("version=2.0.0") == [str(failed)]
    assert await found("initiator=ann") == [str(done)]
    assert await found("source_system=erp") == [str(failed)]
    assert await found(f"correlation_id={correlation}") == [str(failed)]
    assert await found("status=complete") == [str(done)]
    assert await found("status=completed") == [str(done)]
    assert await found("status=blocked_by_failures,%20error") == [str(failed)]
    assert await found("status=pending") == []
    assert await found("status=initializing") == []
    assert await found("active=true") == [str(failed)]
    assert await found("active=true&status=complete") == []
    assert await found("namespace=one&status=cancelled") == []
    assert await found("status=&namespace=&active=false") == [str(failed), str(done)]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("page=0", "/page"),
        ("page=-1", "/page"),
        ("page=two", "/page"),
        ("page=99999999999999999999", "/page"),
        ("per_page=0", "/per_page"),
        ("per_page=101", "/per_page"),
        ("status=done", "/status"),
        ("status=complete,,error", "/status"),
        ("active=perhaps", "/active"),
        ("correlation_id=7", "/correlation_id"),
        ("namespace=%00", "/namespace"),
    ],
)
async def test_a_bad_query_is_400(api: httpx.AsyncClient, query: str, pointer: str) -> None:
    """The reply names the parameter."""
    reply = await api.get(f"/v1/tasks?{query}")

    refused(reply, 400, "BAD_REQUEST")
    assert [one for one, _ in wrong(reply)] == [pointer]


# --- cancel -----------------------------------------------------------------------------


async def test_cancel_ends_a_task_and_may_be_repeated(api: httpx.AsyncClient, conn: Any) -> None:
    """The reason is kept; the second time changes nothing."""
    task_uuid = await begin_one(conn, template(CHAIN))
    first = await api.delete(f"/v1/tasks/{task_uuid}?reason=no%20stock")
    again = await api.delete(f"/v1/tasks/{task_uuid}")

    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    assert (first.json()["cancelled_steps"], first.json()["recommended_action"]) == (3, "none")
    assert (again.status_code, again.json()) == (200, first.json())
    moves = (await api.get(f"/v1/tasks/{task_uuid}/transitions")).json()
    (ended,) = [m for m in moves if m["step_uuid"] is None]
    assert (ended["action"], ended["actor"], ended["reason"]) == ("cancel", "api", "no stock")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": "no stock"}'])
async def test_cancel_has_an_alias(api: httpx.AsyncClient, conn: Any, body: bytes) -> None:
    """POST …/cancel, with or without a reason."""
    task_uuid = await begin_one(conn, template())
    reply = await api.post(
        f"/v1/tasks/{task_uuid}/cancel",
        content=body,
        headers={"content-type": "application/json"} if body else {},
    )

    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")


async def test_a_task_that_ended_otherwise_cannot_be_cancelled(
    api: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """409 with the state in which it is."""
    task_uuid = await begin_one(conn, template())
    await worker.succeed(await worker.claim_one())
    document = refused(await api.delete(f"/v1/tasks/{task_uuid}"), 409, "CONFLICT")

    assert document["current_state"] == TaskState.COMPLETE


async def test_a_reason_must_be_a_text(api: httpx.AsyncClient, conn: Any) -> None:
    """In the body as in the query."""
    task_uuid = await begin_one(conn, template())
    in_body = await api.post(f"/v1/tasks/{task_uuid}/cancel", json={"reason": 5})
    in_query = await api.delete(f"/v1/tasks/{task_uuid}?reason={'r' * 501}")

    refused(in_body, 422, "VALIDATION_ERROR")
    refused(in_query, 400, "BAD_REQUEST")
