"""GET /v1/tasks by cursor, by sort and by every filter."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.flows import begin, begin_one, template
from support.replies import refused


def ids(document: Any) -> list[str]:
    return [task["task_uuid"] for task in document["tasks"]]


async def test_a_cursor_goes_through_all_whatever_comes_meanwhile(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """By the link of each reply; the total is counted only if it is asked for."""
    tasks = sorted(map(str, await begin(conn, template(), 7)), reverse=True)
    url, found, pages = "/v1/tasks?limit=3&namespace=shop", [], []
    while url:
        reply = await api.get(url)
        found += ids(reply.json())
        pages.append(reply.json()["pagination"])
        await begin(conn, template(), 2)
        link = reply.headers.get("Link", "")
        url = link.partition(">")[0].lstrip("<")

    assert found == tasks
    assert [page["has_next"] for page in pages] == [True, True, False]
    assert [page["has_previous"] for page in pages] == [False, True, True]
    assert {(page["page"], page["total_count"], page["per_page"]) for page in pages} == {
        (None, None, 3)
    }
    counted = (await api.get("/v1/tasks?limit=3&include_total=true")).json()["pagination"]
    assert (counted["total_count"], counted["total_pages"]) == (13, 5)


async def test_pages_with_numbers_name_a_cursor_too(api: httpx.AsyncClient, conn: Any) -> None:
    """So that a reader may change over."""
    tasks = sorted(map(str, await begin(conn, template(), 4)), reverse=True)
    first = (await api.get("/v1/tasks?per_page=2")).json()
    rest = (await api.get(f"/v1/tasks?cursor={first['pagination']['next_cursor']}")).json()

    assert ids(first) + ids(rest) == tasks


async def test_a_cursor_belongs_to_its_filters_and_its_order(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """With others it is refused."""
    await begin(conn, template(), 3)
    cursor = (await api.get("/v1/tasks?limit=1&sort=priority")).json()["pagination"]["next_cursor"]

    assert (await api.get(f"/v1/tasks?cursor={cursor}&sort=priority")).status_code == 200
    for other in ("", "&sort=-priority", "&sort=priority&namespace=shop", "&sort=priority&page=1"):
        refused(await api.get(f"/v1/tasks?cursor={cursor}{other}"), 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("sort", "places"),
    [
        ("created_at", [0, 1, 2]),
        ("-created_at", [2, 1, 0]),
        ("priority", [1, 0, 2]),
        ("-priority", [2, 0, 1]),
    ],
)
async def test_tasks_are_sorted(
    api: httpx.AsyncClient, conn: Any, sort: str, places: list[int]
) -> None:
    """Forwards and backwards."""
    tasks = [await begin_one(conn, template(), priority=n) for n in (0, -5, 5)]

    assert ids((await api.get(f"/v1/tasks?sort={sort}")).json()) == [str(tasks[n]) for n in places]


async def test_every_filter_is_understood(api: httpx.AsyncClient, conn: Any) -> None:
    """And leaves the one that fits."""
    parent = uuid4()
    await begin_one(conn, template(name="other"), tags=["a"])
    task = await begin_one(
        conn,
        template(name="buy_more"),
        tags=["a", "b"],
        parent_correlation_id=parent,
        context={"order": {"id": 7, "tags": ["x", "y"]}},
    )
    for query in (
        {"name": "buy_more"},
        {"q": "buy"},
        {"tag": ["a", "b"]},
        {"parent_correlation_id": str(parent)},
        {"context": '{"order": {"id": 7}}'},
        {"context": '{"order": {"tags": ["y"]}}'},
        {"created_after": "2020-01-01T00:00:00Z", "q": "b"},
        {"created_before": "2100-01-01", "tag": "b"},
    ):
        assert ids((await api.get("/v1/tasks", params=query)).json()) == [str(task)], query
    assert (
        ids((await api.get("/v1/tasks", params={"context": '{"order": {"id": 8}}'})).json()) == []
    )
    assert ids((await api.get("/v1/tasks?created_before=2020-01-01")).json()) == []
    reply = await api.get("/v1/tasks", params={"q": "buy", "limit": 1, "include_total": "true"})
    assert reply.json()["pagination"]["total_count"] == 1
