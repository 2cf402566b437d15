"""Clients follow tasks, wait for them, and go through many, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from support.flows import CHAIN, Worker, begin, begin_one, template
from support.workers import eventually
from tasker_core.client import (
    AsyncTaskerClient,
    TaskConflictError,
    TaskerClient,
    TaskerClientError,
    TaskerConnectionError,
    TaskEvent,
    TaskNotFoundError,
    TaskValidationError,
    TaskWaitTimeout,
)
from tasker_core.client.live import Follower
from tasker_core.engine.register import register_template
from tasker_core.server.app import create_app
from tasker_core.server.run import Server
from tasker_core.settings import Settings


@pytest.fixture
async def server(clean_database: str) -> AsyncIterator[Server]:
    """A server behind a socket."""
    made = Server(create_app(Settings(database_url=clean_database, sweep_seconds=3600)), port=0)
    async with made:
        yield made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncTaskerClient]:
    """An async client of it."""
    async with AsyncTaskerClient(base_url=server.url) as client:
        yield client


async def finish(worker: Worker) -> None:
    """Finish every step, one look after the other."""
    claims = await eventually(worker.claim)
    while claims:
        await worker.succeed(*claims)
        claims = await worker.claim()


def told(events: list[TaskEvent]) -> list[tuple[str, str | None]]:
    return [(one.type, one.data.get("to")) for one in events]


# --- watch ------------------------------------------------------------------------------


async def test_a_task_is_watched_to_its_end(
    client: AsyncTaskerClient, conn: Any, worker: Worker
) -> None:
    """How it stands, then each event; from the begin with since."""
    task = await begin_one(conn, template(CHAIN))
    watching = asyncio.create_task(_all(client, task))
    await finish(worker)
    seen = await watching
    again = [one async for one in client.watch(task, since="0")]

    assert seen[0].type == "task.snapshot"
    assert told(again) == [("step.state_changed", "complete")] * 3 + [("task.finished", "complete")]
    assert [one.id for one in again][-1] == seen[-1].id
    assert [one async for one in client.watch(task, since=again[1].id)] == again[2:]
    assert [one async for one in client.watch(task, since=again[-1].id)] == []
    assert told([one async for one in client.watch(task, since="0", include_steps=False)]) == [
        ("task.finished", "complete")
    ]


async def _all(client: AsyncTaskerClient, task: Any) -> list[TaskEvent]:
    return [event async for event in client.watch(task)]


async def test_watching_survives_a_server_that_is_started_again(
    clean_database: str, conn: Any, worker: Worker
) -> None:
    """Nothing is missing, and nothing comes twice."""
    settings = Settings(database_url=clean_database, sweep_seconds=3600)
    task = await begin_one(conn, template(CHAIN))
    first = Server(create_app(settings), port=0)
    await first.start()
    client = AsyncTaskerClient(base_url=first.url, max_retries=50)
    seen: list[TaskEvent] = []

    async def watch() -> None:
        async for event in client.watch(task, since="0"):
            seen.append(event)  # noqa: PERF401 - one after the other, for the test to see

    watching = asyncio.create_task(watch())
    await worker.succeed(await worker.claim_one())
    await eventually(lambda: seen)
    await first.stop()
    await worker.succeed(await worker.claim_one())
    async with Server(create_app(settings), port=first.port):
        await finish(worker)
        async with asyncio.timeout(30):
            await watching
    await client.close()

    assert told(seen) == [("step.state_changed", "complete")] * 3 + [("task.finished", "complete")]
    assert len({one.id for one in seen}) == 4


async def test_the_sync_client_watches_too(server: Server, conn: Any, worker: Worker) -> None:
    """With the same events."""
    task = await begin_one(conn, template(CHAIN))

    def watch() -> list[TaskEvent]:
        with TaskerClient(base_url=server.url) as client:
            return list(client.watch(task, since="0"))

    watching = asyncio.create_task(asyncio.to_thread(watch))
    await finish(worker)
    assert told(await watching)[-1] == ("task.finished", "complete")


async def test_all_tasks_are_watched(
    client: AsyncTaskerClient, server: Server, conn: Any, worker: Worker
) -> None:
    """Until the reader has had enough, and from there on later."""
    live = server.app.state.backend.live
    async with aclosing(client.watch_all(namespace="shop", state="complete")) as begun:
        waiting = asyncio.create_task(anext(begun))
        await eventually(lambda: live._feed and live._feed.readers)
        tasks = await begin(conn, template(), 2)
        await finish(worker)
        first = await waiting
    on = client.watch_all(since=first.id, state="complete", template="flow")
    async with aclosing(on):
        second = await anext(on)

    assert {first.task_uuid, second.task_uuid} == set(map(str, tasks))


async def test_what_cannot_be_watched_is_an_error(server: Server) -> None:
    """Of the same kinds as everywhere."""
    async with AsyncTaskerClient(base_url=server.url) as client:
        with pytest.raises(TaskNotFoundError):
            await anext(client.watch("01920000-0000-7000-8000-000000000000"))
        with pytest.raises(TaskValidationError):
            await anext(client.watch_all(state="happy"))
        with pytest.raises(ValueError, match="UUID"):
            client.watch("x")
    async with AsyncTaskerClient(base_url="http://127.0.0.1:9", max_retries=0) as nobody:
        with pytest.raises(TaskerConnectionError):
            await anext(nobody.watch_all())


def test_a_busy_server_is_asked_again() -> None:
    """After the rest that it asks for; then the stream."""
    answers = [
        httpx.Response(503, json={"status": 503, "code": "X", "detail": "no"}),
        httpx.Response(200, content=b'id: 5-a\ndata: {"type": "task.finished"}\n\n'),
        httpx.Response(204),
    ]
    asked: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers.pop(0)

    client = TaskerClient(base_url="http://tasker", transport=httpx.MockTransport(serve))
    events = list(client.watch("01920000-0000-7000-8000-000000000000"))

    assert [one.type for one in events] == ["task.finished"]
    assert [one.headers.get("Last-Event-ID") for one in asked] == [None, None, "5-a"]


def test_a_follower_reads_lines_as_they_are_written() -> None:
    """Comments pass, data may have several lines, and nonsense is an error."""
    follower = Follower("/", {}, None)
    lines = [": beat", "", "retry: 3000", "", "id: 7", "", 'data: {"type":', 'data: "x"}']
    assert [follower.read(line) for line in lines] == [None] * 8
    event = follower.read("")
    assert event is not None
    assert (event.type, follower.last_id) == ("x", "7")
    follower.read("data: [")
    with pytest.raises(TaskerClientError, match="Tasker server"):
        follower.read("")


# --- wait -------------------------------------------------------------------------------


async def test_a_client_waits_for_the_end(
    client: AsyncTaskerClient, conn: Any, worker: Worker
) -> None:
    """In the creation, or afterwards; with what came of it."""
    await register_template(conn, template(CHAIN))
    creating = asyncio.create_task(client.create_task("flow", namespace="shop", wait=20))
    await finish(worker)
    created = await creating
    task = await begin_one(conn, template(CHAIN))
    waiting = asyncio.create_task(client.wait(task, timeout=20))
    await finish(worker)

    assert (created.status, created.results) == ("complete", {"c": {"by": "c"}})
    assert ((await waiting).status, (await waiting).results) == ("complete", {"c": {"by": "c"}})
    late = await begin_one(conn, template(CHAIN))
    with pytest.raises(TaskWaitTimeout) as caught:
        await client.wait(late, timeout=0.1)
    assert caught.value.task.status == "steps_in_process"


async def test_a_request_with_a_key_gets_its_task(client: AsyncTaskerClient, conn: Any) -> None:
    """Where that is asked for; else it is a conflict."""
    await register_template(conn, template())
    asked = {"namespace": "shop", "idempotency_key": "7"}
    first = await client.create_task("flow", **asked, or_get=True)
    again = await client.create_task("flow", **asked, or_get=True)

    assert first.task_uuid == again.task_uuid
    with pytest.raises(TaskConflictError):
        await client.create_task("flow", **asked)
    with pytest.raises(ValueError, match="idempotency_key"):
        await client.create_task("flow", or_get=True)


# --- many -------------------------------------------------------------------------------


async def test_many_tasks_are_created_and_gone_through(
    client: AsyncTaskerClient, server: Server, conn: Any
) -> None:
    """By both clients, page by page."""
    await register_template(conn, template())
    many = [{"name": "flow", "namespace": "shop", "tags": [f"n{n}"]} for n in range(7)]
    made = await client.create_tasks([*many, {"name": "nothing"}])
    found = [one.task_uuid async for one in client.iter_tasks(page_size=3, sort="created_at")]

    assert (made.created_count, made.items[7].status, made.items[7].code) == (7, 404, "NOT_FOUND")
    assert found == sorted(str(one.task_uuid) for one in made.items[:7])
    with pytest.raises(TaskValidationError, match="/tasks/1"):
        await client.create_tasks([many[0], {"name": "nothing"}], atomic=True)

    def sync() -> list[str]:
        with TaskerClient(base_url=server.url) as sync_client:
            return [one.task_uuid for one in sync_client.iter_tasks(tag=["n1"], context={})]

    assert await asyncio.to_thread(sync) == [made.items[1].task_uuid]


async def test_a_task_is_seen_from_every_side(
    client: AsyncTaskerClient, conn: Any, worker: Worker
) -> None:
    """Summary, context, graph, drawing, audit, workers, retry."""
    task = await begin_one(conn, template(CHAIN))
    await worker.fail(await worker.claim_one(), retryable=False)

    assert (await client.get_task_summary(task))["task"]["failed_steps"] == 1
    assert (await client.get_task_context(task))["outputs"] == {}
    assert len((await client.get_task_graph(task))["edges"]) == 2
    assert (await client.draw_task(task)).startswith("flowchart")
    assert (await client.draw_task(task, "dot")).startswith("digraph")
    assert [one["kind"] for one in await client.get_task_audit(task)][-1] == "created"
    assert (await client.list_workers())["alive_count"] == 0
    assert (await client.retry_task(task, reason="again")).status == "steps_in_process"
    with pytest.raises(TaskConflictError):
        await client.retry_task(task, reason="again")
