"""POST /v1/tasks/actions: many tasks at once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.flows import Worker, begin, state, template
from support.replies import refused
from tasker_core.states import TaskState

BLOCKED = TaskState.BLOCKED_BY_FAILURES


@pytest.fixture
async def failed(conn: Any, worker: Worker) -> list[str]:
    """Three tasks whose only step has failed for good, the oldest first."""
    tasks = await begin(conn, template(retry={"max_attempts": 1}), 3)
    await worker.fail(*await worker.claim())
    return [str(task) for task in sorted(tasks)]


async def act(api: httpx.AsyncClient, action: str, **body: Any) -> Any:
    """Ask for an action, and give the answer."""
    reply = await api.post("/v1/tasks/actions", json={"action": action, "reason": "r", **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_named_tasks_are_reset(api: httpx.AsyncClient, failed: list[str]) -> None:
    """Each has its answer; actor and reason are in its history."""
    nobody = str(uuid4())

    done = await act(api, "reset", task_uuids=[failed[0], nobody], actor="ann", reason="mended")

    assert done["items"][0] == {
        "task_uuid": failed[0],
        "outcome": "done",
        "status": "steps_in_process",
        "detail": None,
        "namespace": "shop",
        "name": "flow",
        "version": "1.0.0",
    }
    assert (done["items"][1]["outcome"], done["items"][1]["status"]) == ("not_found", None)
    assert done["counts"] == {"done": 1, "not_found": 1}
    assert (done["dry_run"], done["next_cursor"]) == (False, None)
    moves = (await api.get(f"/v1/tasks/{failed[0]}/transitions")).json()
    (move,) = [one for one in moves if one["actor"]]
    assert (move["action"], move["actor"], move["reason"]) == ("reset", "ann", "mended")


async def test_a_search_is_acted_on_page_by_page(
    api: httpx.AsyncClient, failed: list[str], conn: Any
) -> None:
    """First as a dry run, which changes nothing; then until there is no cursor any more."""
    where = {"failed_step": "a", "error_type": "handler_error", "namespace": "shop"}
    told = await act(api, "resolve", where=where, dry_run=True)
    assert [one["task_uuid"] for one in told["items"]] == failed
    assert await conn.fetchval("select count(*) from tasker.tasks where state = $1", BLOCKED) == 3

    first = await act(api, "resolve", where=where, limit=2)
    second = await act(api, "resolve", where=where, limit=2, cursor=first["next_cursor"])

    assert [one["task_uuid"] for one in first["items"] + second["items"]] == failed
    assert {one["status"] for one in first["items"]} == {"resolved_manually"}
    assert second["next_cursor"] is None


async def test_named_tasks_that_do_not_fit_are_left_alone(
    api: httpx.AsyncClient, failed: list[str], conn: Any
) -> None:
    """So that what was looked at is what is acted on."""
    await act(api, "reset", task_uuids=failed[:1])

    done = await act(
        api, "cancel", task_uuids=failed, where={"status": ["blocked_by_failures", "error"]}
    )

    assert done["counts"] == {"skipped": 1, "done": 2}
    assert str(await state(conn, failed[0])) == "steps_in_process"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"where": {}}, "/where"),
        ({"where": {"status": []}}, "/where"),
        ({"where": {"failed_stepp": "a"}}, "/where/failed_stepp"),
        ({"where": {"status": ["failed"]}}, "/where/status/0"),
        ({"where": {"created_after": "soon"}}, "/where/created_after"),
        ({"task_uuids": []}, "/task_uuids"),
        ({"task_uuids": ["x"]}, "/task_uuids/0"),
        ({"task_uuids": [str(uuid4())], "dryrun": True}, "/dryrun"),
        ({"task_uuids": [str(uuid4())], "dry_run": "no"}, "/dry_run"),
        ({"task_uuids": [str(uuid4())], "cursor": str(uuid4())}, ""),
        ({"where": {"name": "flow"}, "limit": 1001}, "/limit"),
        ({"where": {"name": "flow"}, "reason": ""}, "/reason"),
        ({"where": {"name": "flow"}, "action": "delete"}, "/action"),
    ],
)
async def test_what_is_not_understood_changes_nothing(
    api: httpx.AsyncClient, failed: list[str], conn: Any, body: Any, pointer: str
) -> None:
    """Least of all a slip of the pen that would widen a search or undo a dry run."""
    reply = await api.post("/v1/tasks/actions", json={"action": "cancel", "reason": "r", **body})

    problem = refused(reply, 422, "VALIDATION_ERROR")
    assert [one["pointer"] for one in problem["errors"]] == [pointer]
    assert await conn.fetchval("select count(*) from tasker.tasks where state = $1", BLOCKED) == 3
