"""/v1/dlq: dead letters, and the report of tasks that do not move."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support.flows import CHAIN, begin, begin_one, template
from support.replies import refused, wrong

REASON = {"reason": "odd", "entered_by": "ann"}


@pytest.fixture
async def task(conn: Any) -> UUID:
    """A task of three steps."""
    return await begin_one(conn, template(CHAIN))


@pytest.fixture
async def entry(api: httpx.AsyncClient, task: UUID) -> str:
    """The path of its dead letter."""
    made = await api.post("/v1/dlq", json={"task_uuid": str(task), **REASON})
    assert made.status_code == 201
    return f"/v1/dlq/entry/{made.json()['dlq_entry_uuid']}"


async def test_an_entry_is_made_and_read(api: httpx.AsyncClient, task: UUID) -> None:
    """Every member is there; moments and enums are spelt as everywhere."""
    made = await api.post(
        "/v1/dlq", json={"task_uuid": str(task), **REASON, "metadata": {"ticket": 7}}
    )
    found = (await api.get(f"/v1/dlq/task/{task}")).json()

    assert (made.status_code, made.headers["location"]) == (201, f"/v1/dlq/task/{task}")
    assert made.json() == found
    assert UUID(found.pop("dlq_entry_uuid")).version == 7
    assert found["dlq_timestamp"].endswith("Z")
    assert found.pop("dlq_timestamp") == found.pop("created_at") == found.pop("updated_at")
    snapshot = found.pop("task_snapshot")
    assert found == {
        "task_uuid": str(task),
        "original_state": "steps_in_process",
        "dlq_reason": "manual_dlq",
        "resolution_status": "pending",
        "resolution_timestamp": None,
        "resolution_notes": None,
        "resolved_by": None,
        "metadata": {"ticket": 7, "reason": "odd", "entered_by": "ann"},
        "task_state": "steps_in_process",
    }
    assert set(snapshot) == {"taken_at", "task", "step_counts", "steps", "transitions"}


async def test_a_second_entry_is_refused_with_the_first(
    api: httpx.AsyncClient, task: UUID, entry: str
) -> None:
    """409, and which one is pending."""
    again = await api.post("/v1/dlq", json={"task_uuid": str(task), **REASON})
    assert refused(again, 409, "CONFLICT")["dlq_entry_uuid"] == entry.rsplit("/", 1)[1]


async def test_an_entry_is_resolved_once_in_either_spelling(
    api: httpx.AsyncClient, task: UUID, entry: str
) -> None:
    """Whoever calls is who resolved it; the task is not changed."""
    done = await api.patch(
        entry, json={"resolution_status": "ManuallyResolved", "resolution_notes": "fixed"}
    )
    assert done.status_code == 200
    told = done.json()
    assert (told["success"], told["message"]) == (True, "the dead letter is manually_resolved")
    shown = told["entry"]
    assert (shown["resolution_status"], shown["resolved_by"]) == ("manually_resolved", "api")
    assert (shown["resolution_notes"], shown["resolution_timestamp"]) == (
        "fixed",
        shown["updated_at"],
    )
    again = await api.patch(entry, json={"resolution_status": "cancelled"})
    assert refused(again, 409, "CONFLICT")["current_state"] == "manually_resolved"
    assert (await api.get(f"/v1/tasks/{task}")).json()["status"] == "steps_in_process"

    opened = (await api.patch(entry, json={"reopen": True})).json()["entry"]
    assert (opened["resolution_status"], opened["resolution_timestamp"]) == ("pending", None)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, []),
        ({"resolution_notes": None}, []),
        ({"resolution_status": "done"}, [("/resolution_status", "enum")]),
        ({"resolution_status": "cancelled", "reopen": True}, [("/resolution_status", "bounds")]),
        ({"resolved_by": ""}, [("/resolved_by", "too_short")]),
    ],
)
async def test_what_cannot_be_understood_is_refused(
    api: httpx.AsyncClient, entry: str, body: dict[str, Any], pointers: list[tuple[str, str]]
) -> None:
    """422, with the place."""
    reply = await api.patch(entry, json=body)
    refused(reply, 422, "VALIDATION_ERROR")
    assert wrong(reply) == pointers
    reply = await api.patch(entry, json={"metadata": {"a": "\x00"}})
    refused(reply, 422, "VALIDATION_ERROR")


async def test_what_is_not_there_is_404(api: httpx.AsyncClient, task: UUID) -> None:
    """An entry, a task without one, a task that is to be put aside."""
    nobody = str(uuid4())
    refused(await api.patch(f"/v1/dlq/entry/{nobody}", json={"reopen": True}), 404, "NOT_FOUND")
    reply = await api.get(f"/v1/dlq/task/{task}")
    assert refused(reply, 404, "NOT_FOUND")["detail"].startswith(f"{task} is no dead letter")
    refused(await api.post("/v1/dlq", json={"task_uuid": nobody, **REASON}), 404, "NOT_FOUND")
    refused(await api.get("/v1/dlq/task/x"), 400, "INVALID_UUID")


async def test_entries_are_listed_in_pages(api: httpx.AsyncClient, conn: Any) -> None:
    """The body is an array; headers tell of the rest; every filter counts."""
    tasks = await begin(conn, template(), 3)
    for one in tasks:
        await api.post("/v1/dlq", json={"task_uuid": str(one), **REASON})
    page = await api.get("/v1/dlq?limit=1&offset=1&resolution_status=Pending&namespace=shop")

    assert [entry["task_uuid"] for entry in page.json()] == [str(tasks[1])]
    assert page.headers["x-total-count"] == "3"
    query = "resolution_status=pending&namespace=shop&limit=1"
    assert page.headers["link"] == (
        f'</v1/dlq?{query}&offset=0>; rel="prev", </v1/dlq?{query}&offset=2>; rel="next"'
    )
    everything = await api.get("/v1/dlq?dlq_reason=manual_dlq&resolution_status=")
    assert len(everything.json()) == 3
    assert "link" not in everything.headers
    assert (await api.get(f"/v1/dlq?task_uuid={uuid4()}")).json() == []
    for bad in ("limit=0", "limit=201", "offset=-1", "resolution_status=x", "dlq_reason=x"):
        refused(await api.get(f"/v1/dlq?{bad}"), 400, "BAD_REQUEST")


async def test_all_entries_of_a_task(api: httpx.AsyncClient, task: UUID, entry: str) -> None:
    """The youngest first."""
    await api.patch(entry, json={"resolution_status": "cancelled"})
    second = (await api.post("/v1/dlq", json={"task_uuid": str(task), **REASON})).json()
    listed = (await api.get(f"/v1/dlq/task/{task}?all=true")).json()
    assert [one["resolution_status"] for one in listed] == ["pending", "cancelled"]
    assert (await api.get(f"/v1/dlq/task/{task}")).json() == listed[0] == second


async def test_the_views_of_many(api: httpx.AsyncClient, task: UUID, entry: str) -> None:
    """Counts by reason, the queue, and who does not move."""
    (stats,) = (await api.get("/v1/dlq/stats")).json()
    assert (stats["dlq_reason"], stats["total_entries"], stats["pending"]) == ("manual_dlq", 1, 1)
    assert (stats["permanent_failures"], stats["avg_resolution_time_minutes"]) == (0, None)
    (urgent,) = (await api.get("/v1/dlq/investigation-queue")).json()
    assert (urgent["task_uuid"], urgent["task_name"]) == (str(task), "flow")
    assert (urgent["priority_score"], urgent["task_state"]) == (10, "steps_in_process")
    (shown,) = (await api.get("/v1/dlq/staleness?limit=5")).json()
    assert (shown["task_uuid"], shown["health_status"]) == (str(task), "healthy")
    assert (shown["staleness_threshold_minutes"], shown["missing_handlers"]) == (60, ["a"])
    refused(await api.get("/v1/dlq/staleness?limit=0"), 400, "BAD_REQUEST")


async def test_by_cursor_none_is_left_out(api: httpx.AsyncClient, conn: Any) -> None:
    """However many are put aside meanwhile; a cursor is bound to its filters."""
    for task in await begin(conn, template(), 5):
        await api.post("/v1/dlq", json={"task_uuid": str(task), **REASON})
    every = [one["dlq_entry_uuid"] for one in (await api.get("/v1/dlq")).json()]
    reply = await api.get("/v1/dlq?limit=2&resolution_status=pending")
    seen = [one["dlq_entry_uuid"] for one in reply.json()]
    first = reply.headers["x-next-cursor"]
    (younger,) = await begin(conn, template(), 1)
    await api.post("/v1/dlq", json={"task_uuid": str(younger), **REASON})
    asked = {"limit": 2, "resolution_status": "pending", "cursor": first}
    reply = await api.get("/v1/dlq", params=asked)
    seen += [one["dlq_entry_uuid"] for one in reply.json()]
    last = await api.get(reply.headers["link"].partition(">")[0][1:])
    seen += [one["dlq_entry_uuid"] for one in last.json()]

    assert seen == every
    assert "x-next-cursor" not in last.headers
    assert "link" not in last.headers
    refused(await api.get("/v1/dlq", params={"cursor": first}), 400, "BAD_REQUEST")
