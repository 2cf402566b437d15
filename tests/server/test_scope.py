"""A caller that is limited to namespaces: sees and touches only what is in these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support.credentials import bearer
from support.flows import CHAIN, begin_one, template
from support.replies import refused
from tasker_core.engine.ids import step_uuid
from tasker_core.server.app import create_app
from tasker_core.server.permissions import WILDCARDS
from tasker_core.settings import Settings

SHOP = bearer(*WILDCARDS, worker_namespaces=["shop"])
BOTH = bearer(*WILDCARDS, worker_namespaces=["shop", "bank"])
ALL = bearer(*WILDCARDS)


@dataclass(frozen=True)
class Place:
    """A task in a namespace, with a dead letter."""

    task: UUID
    entry: str


@pytest.fixture
async def shop(conn: Any, guarded: httpx.AsyncClient) -> Place:
    """What the limited caller sees."""
    return await place(conn, guarded, "shop")


@pytest.fixture
async def bank(conn: Any, guarded: httpx.AsyncClient) -> Place:
    """What they do not."""
    return await place(conn, guarded, "bank")


async def place(conn: Any, client: httpx.AsyncClient, namespace: str) -> Place:
    task = await begin_one(conn, template(CHAIN, namespace=namespace))
    body = {"task_uuid": str(task), "reason": "odd"}
    made = await client.post("/v1/dlq", json=body, headers=ALL)
    return Place(task, made.json()["dlq_entry_uuid"])


def filled(path: str, task: UUID, entry: object, namespace: str) -> str:
    """Fill a path's parameters."""
    return (
        path.replace("{task_uuid}", str(task))
        .replace("{step_uuid}", str(step_uuid(task, 1)))
        .replace("{dlq_entry_uuid}", str(entry))
        .replace("{namespace}", namespace)
        .replace("{name}", "flow")
        .replace("{version}", "1.0.0")
    )


_APP = create_app(Settings(database_url="postgresql://nowhere/none"))
BY_ID = sorted(
    f"{method} {route.path}"
    for route in _APP.state.api_routes
    for method in route.methods
    if "{" in route.path
)


@pytest.mark.parametrize("route", BY_ID)
async def test_what_is_foreign_looks_as_if_it_did_not_exist(
    guarded: httpx.AsyncClient, shop: Place, bank: Place, route: str
) -> None:
    """The very same answer, word for word, so that ids cannot be found out by trying."""
    method, path = route.split(" ")
    body = {"content": b"{}", "headers": {**SHOP, "Content-Type": "application/json"}}
    nobody, nothing = UUID("01a20be2-6b91-7818-bec8-e18f00400000"), uuid4()
    foreign = await guarded.request(method, filled(path, bank.task, bank.entry, "bank"), **body)
    unknown = await guarded.request(method, filled(path, nobody, nothing, "none"), **body)

    assert _words(foreign, bank, "bank") == _words(unknown, Place(nobody, str(nothing)), "none")
    refused(foreign, 404, "NOT_FOUND")
    if not path.endswith("/events"):  # which goes on as long as the task
        own = await guarded.request(method, filled(path, shop.task, shop.entry, "shop"), **body)
        assert own.status_code in (200, 415, 422)  # of a page, which wants a form
    untouched = await guarded.get(f"/v1/tasks/{bank.task}", headers=ALL)
    assert untouched.json()["status"] == "steps_in_process"


def _words(reply: httpx.Response, place: Place, namespace: str) -> str:
    detail = str(reply.json()["detail"])
    for found in (str(step_uuid(place.task, 1)), str(place.task), place.entry, f"{namespace}/"):
        detail = detail.replace(found, "…")
    return detail


async def test_lists_have_what_is_seen_only(
    guarded: httpx.AsyncClient, shop: Place, bank: Place
) -> None:
    """Items, totals, counts and namespaces; a filter beside it intersects."""
    for headers, seen in [(SHOP, [shop]), (BOTH, [shop, bank]), (ALL, [shop, bank])]:
        ids = {str(one.task) for one in seen}

        async def get(path: str, headers: dict[str, str] = headers) -> Any:
            reply = await guarded.get(path, headers=headers)
            assert reply.status_code == 200, reply.text
            return reply.json()

        tasks = await get("/v1/tasks")
        assert {one["task_uuid"] for one in tasks["tasks"]} == ids
        assert tasks["pagination"]["total_count"] == len(ids)
        for path in ("/v1/dlq", "/v1/dlq/investigation-queue", "/v1/dlq/staleness"):
            assert {one["task_uuid"] for one in await get(path)} == ids, path
        assert sum(one["total_entries"] for one in await get("/v1/dlq/stats")) == len(ids)
        templates = await get("/v1/templates")
        assert templates["total_count"] == len(templates["namespaces"]) == len(ids)
        assert (await get("/v1/analytics/performance"))["total_tasks"] == len(ids)
        busy = await get("/v1/analytics/bottlenecks?min_executions=1")
        assert busy["resource_utilization"]["system_health"]["total_tasks"] == len(ids)
        is_seen = len(seen) > 1
        assert len((await get("/v1/tasks?namespace=bank"))["tasks"]) == is_seen
        assert len(await get("/v1/dlq?namespace=bank")) == is_seen
        assert len((await get("/v1/templates?namespace=bank"))["templates"]) == is_seen
        assert (await get("/v1/analytics/performance?namespace=bank"))["total_tasks"] == is_seen


async def test_nothing_is_made_in_a_foreign_namespace(
    guarded: httpx.AsyncClient, shop: Place, bank: Place
) -> None:
    """403 for a task, whether or not there is such a template; 404 for a dead letter."""
    for name in ("flow", "nothing"):
        body = {"name": name, "namespace": "bank"}
        reply = await guarded.post("/v1/tasks", json=body, headers=SHOP)
        assert "namespace 'bank'" in refused(reply, 403, "AUTHORIZATION_FAILED")["detail"]
    made = await guarded.post("/v1/tasks", json={"name": "flow", "namespace": "shop"}, headers=SHOP)
    assert made.status_code == 201
    letters = []
    for task in (bank.task, UUID("01a20be2-6b91-7818-bec8-e18f00400000")):
        body = {"task_uuid": str(task), "reason": "r"}
        reply = await guarded.post("/v1/dlq", json=body, headers=SHOP)
        letters.append(refused(reply, 404, "NOT_FOUND")["detail"].replace(str(task), "…"))
    assert letters[0] == letters[1]


async def test_many_tasks_at_once_are_those_that_are_seen(
    guarded: httpx.AsyncClient, shop: Place, bank: Place
) -> None:
    """Named ones of others are not found; a search does not reach them, whatever it asks for."""
    ids = [str(bank.task), str(shop.task)]
    for where in ({"task_uuids": ids}, {"task_uuids": ids, "where": {"name": "flow"}}):
        body = {"action": "cancel", "reason": "r", "dry_run": True, **where}
        items = (await guarded.post("/v1/tasks/actions", json=body, headers=SHOP)).json()["items"]
        assert [one["outcome"] for one in items] == ["not_found", "done"]
        assert {items[0][name] for name in ("status", "namespace", "name")} == {None}
    for criteria in ({"name": "flow"}, {"namespace": "bank"}):
        body = {"action": "cancel", "reason": "r", "where": criteria}
        reply = (await guarded.post("/v1/tasks/actions", json=body, headers=SHOP)).json()
        expected = [] if "namespace" in criteria else [str(shop.task)]
        assert [one["task_uuid"] for one in reply["items"]] == expected
    untouched = await guarded.get(f"/v1/tasks/{bank.task}", headers=ALL)
    assert untouched.json()["status"] == "steps_in_process"


async def test_of_many_new_tasks_the_foreign_ones_are_refused(
    guarded: httpx.AsyncClient, shop: Place, bank: Place
) -> None:
    """Each for itself; all of them, if it is all or none."""
    tasks = [{"name": "flow", "namespace": one} for one in ("bank", "shop")]
    body: dict[str, Any] = {"tasks": tasks}
    items = (await guarded.post("/v1/tasks/bulk", json=body, headers=SHOP)).json()["items"]
    assert [one["status"] for one in items] == [403, 201]
    assert items[0]["code"] == "AUTHORIZATION_FAILED"
    reply = await guarded.post("/v1/tasks/bulk", json={**body, "atomic": True}, headers=SHOP)
    refused(reply, 403, "AUTHORIZATION_FAILED")
    listed = (await guarded.get("/v1/tasks", headers=ALL)).json()["tasks"]
    assert sorted(one["namespace"] for one in listed) == ["bank", "shop", "shop"]


async def test_workers_are_told_as_far_as_they_serve_what_is_seen(
    guarded: httpx.AsyncClient, conn: Any
) -> None:
    """Neither their other namespaces and handlers, nor those that serve only others."""
    lanes = [
        await conn.fetchval(
            "insert into tasker.lanes (namespace, callable, method, resolver) "
            "values ($1, $1 || '.do', '', '') returning lane",
            namespace,
        )
        for namespace in ("shop", "bank")
    ]
    for served in (lanes, lanes[1:]):
        await conn.execute(
            "insert into tasker.workers values "
            "(gen_random_uuid(), 'here', 1, '1', 1, tasker.now(), tasker.now(), $1)",
            served,
        )
    await conn.execute(
        "insert into tasker.leases select gen_random_uuid(), 1, lane, 0, 1, worker_uuid, "
        "tasker.now(), tasker.now(), tasker.now() from tasker.workers, unnest(lanes) as lane "
        "where cardinality(lanes) = 2"
    )

    seen = (await guarded.get("/v1/workers", headers=SHOP)).json()
    assert seen["total_count"] == seen["alive_count"] == 1
    assert seen["workers"][0]["namespaces"] == ["shop"]
    assert seen["workers"][0]["handlers"] == ["shop.do"]
    assert seen["workers"][0]["running_steps"] == 1
    whole = (await guarded.get("/v1/workers", headers=ALL)).json()
    assert sorted(one["running_steps"] for one in whole["workers"]) == [0, 2]


@pytest.mark.parametrize(
    ("action", "needed"),
    [("cancel", "tasks:cancel"), ("resolve", "steps:resolve"), ("reset", "steps:resolve")],
)
async def test_each_action_on_many_has_its_permission(
    guarded: httpx.AsyncClient, shop: Place, action: str, needed: str
) -> None:
    """The body says which; the other one of the two does not do."""
    other = ({"tasks:cancel", "steps:resolve"} - {needed}).pop()
    body = {"action": action, "reason": "r", "task_uuids": [str(shop.task)], "dry_run": True}

    reply = await guarded.post("/v1/tasks/actions", json=body, headers=bearer(other))
    assert needed in refused(reply, 403, "AUTHORIZATION_FAILED")["detail"]
    reply = await guarded.post("/v1/tasks/actions", json=body, headers=bearer(needed))
    assert reply.status_code == 200
