"""Requests that come at the same moment are created in one call, each for itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.flows import CHAIN, template
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.register import register_template
from tasker_core.errors import DatabaseUnreachable, DuplicateTask
from tasker_core.server.creations import CALLS, Creations
from tasker_core.server.pressure import Overloaded

FLOW = {"name": "flow", "namespace": "shop"}


@pytest.fixture
async def flow(conn: asyncpg.Connection) -> None:
    await register_template(conn, template(CHAIN))


def order(number: int) -> NewTask:
    return NewTask(
        name="flow",
        namespace="shop",
        context={"n": number},
        correlation_id=uuid4(),
        idempotency_key=str(number),
    )


async def test_many_at_once_are_few_commits(app: FastAPI, conn: Any, flow: None) -> None:
    """A hundred requests are all created, each with its own context, in a few transactions."""
    creations = app.state.backend.creations
    made = await asyncio.gather(*(creations.create(order(n)) for n in range(100)))

    rows = await conn.fetch(
        "select task_uuid, context ->> 'n' as n, xmin::text as xmin, created_at from tasker.tasks"
    )
    assert {row["task_uuid"]: (row["n"], row["created_at"]) for row in rows} == {
        one.task_uuid: (str(n), one.created_at) for n, one in enumerate(made)
    }
    assert len({row["xmin"] for row in rows}) <= CALLS + 2


async def test_each_has_its_own_answer(api: httpx.AsyncClient, conn: Any, flow: None) -> None:
    """What is wrong with one request is told to it, and to nobody beside it."""
    asked = [{**FLOW, "idempotency_key": str(n % 4)} for n in range(8)]
    asked += [{"name": "nothing"}, {**FLOW, "version": "9.9.9"}, {**FLOW, "priority": 1000}]
    replies = await asyncio.gather(*(api.post("/v1/tasks", json=one) for one in asked))

    found = [reply.status_code for reply in replies]
    assert Counter(found[:8]) == {201: 4, 409: 4}
    assert found[8:] == [404, 404, 422]
    assert await conn.fetchval("select count(*) from tasker.tasks") == 4


async def test_whoever_creates_the_same_keeps_nobody_else_waiting(
    app: FastAPI, conn: Any, clean_database: str, flow: None
) -> None:
    """A request waits for the transaction that creates the same; those beside it do not."""
    creations = app.state.backend.creations
    other = await asyncpg.connect(clean_database)
    try:
        transaction = other.transaction()
        await transaction.start()
        await create_task(other, app.state.backend.shelf, order(0))
        waiting = [asyncio.ensure_future(creations.create(order(0))) for _ in range(CALLS + 1)]
        beside = await asyncio.gather(*(creations.create(order(n)) for n in range(1, 40)))
        assert len({one.task_uuid for one in beside}) == 39
        assert not any(one.done() for one in waiting)
        await transaction.commit()
        for one in waiting:
            with pytest.raises(DuplicateTask):
                await one
    finally:
        await other.close()


async def test_whoever_gives_up_stops_nobody(app: FastAPI, conn: Any, flow: None) -> None:
    """A request that is gone takes nothing from those that were created with it."""
    creations = app.state.backend.creations
    asked = [asyncio.ensure_future(creations.create(order(n))) for n in range(20)]
    await asyncio.sleep(0)
    for one in asked[::2]:
        one.cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in found) == 10
    numbers = await conn.fetch("select (context ->> 'n')::int as n from tasker.tasks")
    assert {row["n"] for row in numbers} >= set(range(1, 20, 2))


async def test_what_is_not_known_is_not_repeated(app: FastAPI, conn: Any, flow: None) -> None:
    """When the connection breaks, nobody says whether it was created: all are told so."""

    class Breaking(Creations):
        async def _try(self, conn: Any, asked: Any) -> Any:
            await super()._try(conn, asked)
            raise asyncpg.ConnectionDoesNotExistError("closed in the middle")

    creations = Breaking(app.state.backend)
    asked = [creations.create(order(n)) for n in range(30)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, DatabaseUnreachable) for one in found)
    assert await conn.fetchval("select count(*) from tasker.tasks") == 30


async def test_a_context_that_the_database_refuses_is_refused_alone(
    app: FastAPI, conn: Any, flow: None
) -> None:
    """Whatever the database finds wrong with one task, it creates the others."""
    creations = app.state.backend.creations
    await conn.execute(
        "alter table tasker.tasks add constraint no_seven check (context ->> 'n' <> '7')"
    )
    try:
        asked = [creations.create(order(n)) for n in range(20)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await conn.execute("alter table tasker.tasks drop constraint no_seven")
    assert [n for n, one in enumerate(found) if isinstance(one, BaseException)] == [7]
    assert isinstance(found[7], asyncpg.CheckViolationError | DatabaseUnreachable)


async def test_too_many_are_refused(app: FastAPI, conn: Any, flow: None) -> None:
    """As many as may wait for a connection may wait here; the next is told to come later."""
    creations = app.state.backend.creations
    most = app.state.backend.settings.server_waiting_requests
    asked = [creations.create(order(n)) for n in range(most + 5)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in found if isinstance(one, Overloaded)]
    assert len(refused) == 5
    assert await conn.fetchval("select count(*) from tasker.tasks") == most
