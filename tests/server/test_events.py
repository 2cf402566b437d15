"""/v1/events and /v1/tasks/{task_uuid}/events: what happens, while it happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from support.flows import CHAIN, NO_REST, Worker, begin, begin_one, template
from support.replies import refused
from support.sse import Reader, Sent
from support.workers import eventually
from tasker_core.engine import history
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.operate import cancel_task
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.server.app import create_app
from tasker_core.server.live import live, stream
from tasker_core.server.run import Server
from tasker_core.settings import Settings


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    """A server behind a socket: streams need one."""
    many = settings.model_copy(update={"streams_per_caller": 1_000})
    async with Server(create_app(many), port=0) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the server what is no stream."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client


def follow(server: Server, task: UUID, last_id: str | None = None, query: str = "") -> Reader:
    return Reader(server.url, f"/v1/tasks/{task}/events{query}", last_id)


def follow_all(server: Server, query: str = "", last_id: str | None = None) -> Reader:
    return Reader(server.url, f"/v1/events{query}", last_id)


def told(events: list[Sent]) -> list[tuple[str, str | None, str]]:
    """Give type, step and new state of each event."""
    return [(one.type, one.data["data"].get("step"), one.data["data"].get("to")) for one in events]


async def finish(worker: Worker) -> None:
    """Finish every step of every task, one after the other."""
    while claims := await worker.claim():
        for claim in claims:
            await worker.succeed(claim)


# --- one task ---------------------------------------------------------------------------


async def test_a_stream_begins_with_how_the_task_stands_and_ends_with_it(
    server: Server, conn: Any, worker: Worker
) -> None:
    """Then each event as it happens, and a word of farewell."""
    task = await begin_one(conn, template(CHAIN))
    await worker.succeed(await worker.claim_one())
    reader = await follow(server, task).open()
    (first,) = await reader.take(1)
    await worker.succeed(await worker.claim_one())
    (second,) = await reader.take(1)
    await finish(worker)
    rest = await reader.rest()

    assert reader.headers["content-type"].startswith("text/event-stream")
    assert (reader.headers["cache-control"], reader.headers["x-accel-buffering"]) == (
        "no-store",
        "no",
    )
    assert (first.type, first.data["data"]["completed_steps"]) == ("task.snapshot", 1)
    assert [step["name"] for step in first.data["data"]["steps"]] == ["a", "b", "c"]
    assert told([second]) == [("step.state_changed", "b", "complete")]
    assert second.data["data"]["attempt"] == 1
    assert told(rest) == [
        ("step.state_changed", "c", "complete"),
        ("task.finished", None, "complete"),
        ("stream.end", None, None),
    ]
    assert rest[-1].data["data"] == {"cause": "finished"}
    assert {one.data["task_uuid"] for one in (first, second, *rest[:-1])} == {str(task)}


async def test_a_reader_goes_on_after_any_event(server: Server, conn: Any, worker: Worker) -> None:
    """Whatever was its last one: of the rest nothing is missing, and nothing comes twice."""
    flow = template(CHAIN, retry=NO_REST | {"max_attempts": 2})
    task = await begin_one(conn, flow)
    await worker.fail(await worker.claim_one())
    await finish(worker)
    whole = await (await follow(server, task, "0").open()).rest()
    ids = [one.id for one in whole[:-1]]

    for place, last in enumerate(ids[:-1], start=1):
        again = await (await follow(server, task, last).open()).rest()
        assert [one.id for one in again[:-1]] == ids[place:]
    assert len(set(ids)) == len(ids) == 7
    assert (await follow(server, task, ids[-1]).open()).status == 204
    assert (await follow(server, task, query=f"?since={ids[-1]}").open()).status == 204


async def test_an_id_of_another_history_begins_anew(server: Server, conn: Any) -> None:
    """With how the task stands, as for one who comes for the first time."""
    task = await begin_one(conn, template(CHAIN))
    for last in ("1-00000000", "7-12345678", "3"):
        reader = await follow(server, task, last).open()
        assert [one.type for one in await reader.take(1)] == ["task.snapshot"]
        reader.close()


async def test_steps_can_be_left_out(server: Server, conn: Any, worker: Worker) -> None:
    """And the snapshot has none then."""
    task = await begin_one(conn, template(CHAIN))
    reader = await follow(server, task, query="?include_steps=false").open()
    (first,) = await reader.take(1)
    await finish(worker)

    assert first.data["data"]["steps"] == []
    assert [one.type for one in await reader.rest()] == ["task.finished", "stream.end"]


async def test_a_history_is_read_in_pages(
    http: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """As JSON, with where to go on; the same objects as in the stream."""
    task = await begin_one(conn, template(CHAIN))
    await finish(worker)
    path, found = f"/v1/tasks/{task}/events", []
    query, since = {"format": "history", "limit": "3"}, "0"
    while True:
        page = (await http.get(path, params={**query, "since": since})).json()
        found += page["events"]
        since = page["next_since"]
        if not page["has_more"]:
            break

    assert [one["data"]["to"] for one in found] == ["complete"] * 4
    assert [one["type"] for one in found] == ["step.state_changed"] * 3 + ["task.finished"]
    assert (await http.get(path, params={**query, "since": since})).json()["events"] == []


async def test_what_cannot_be_followed_is_refused(http: httpx.AsyncClient, conn: Any) -> None:
    """As a problem, not as a stream."""
    task = await begin_one(conn, template())
    unknown = await http.get(f"/v1/tasks/{uuid4()}/events")
    refused(unknown, 404, "NOT_FOUND")
    refused(await http.get("/v1/tasks/x/events"), 400, "INVALID_UUID")
    for last in ("x", "-1", "9" * 12, "é"):
        reply = await http.get(f"/v1/tasks/{task}/events", params={"since": last})
        refused(reply, 400, "BAD_REQUEST")
        refused(await http.get("/v1/events", params={"since": last}), 400, "BAD_REQUEST")
    future = await http.get("/v1/events", params={"since": f"1:{2**60}:"})
    refused(future, 410, "GONE")
    refused(await http.get("/v1/events?state=happy"), 400, "BAD_REQUEST")


async def test_a_task_that_leaves_ends_its_streams(
    server: Server, conn: Any, worker: Worker
) -> None:
    """The reader hears why."""
    task = await begin_one(conn, template(CHAIN))
    reader = await follow(server, task).open()
    await reader.take(1)
    await conn.execute("delete from tasker.tasks where task_uuid = $1", task)

    (end,) = await reader.rest()
    assert (end.type, end.data["data"]) == ("stream.end", {"cause": "deleted"})


async def test_a_clock_that_goes_back_ends_a_stream_and_begins_anew(
    server: Server, conn: Any, worker: Worker
) -> None:
    """What would stand before events that were told is no place to go on from."""
    task = await begin_one(conn, template(CHAIN))
    await worker.succeed(await worker.claim_one())
    reader = await follow(server, task).open()
    await reader.take(1)
    await worker.succeed(await worker.claim_one())
    await reader.take(1)
    await conn.execute(
        "insert into tasker.changes (task_uuid, change_no, from_state, to_state, changed_at, "
        "action) values ($1, 99, 'x', 'steps_in_process', '2000-01-01', 'advance')",
        task,
    )

    (end,) = await reader.rest()
    assert end.data["data"] == {"cause": "reordered"}
    await reader.open()
    assert [one.type for one in await reader.take(1)] == ["task.snapshot"]
    reader.close()


# --- many readers -----------------------------------------------------------------------


async def test_five_hundred_readers_miss_nothing_and_hear_nothing_twice(
    server: Server, conn: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them fall off in the middle and come back; a look costs one statement for all."""
    looks = Counter[int]()
    follow_tasks = history.follow_tasks

    async def counted(conn: Any, seen: Any, **rest: Any) -> Any:
        looks[len(seen)] += 1
        return await follow_tasks(conn, seen, **rest)

    monkeypatch.setattr(live, "follow_tasks", counted)
    graph = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(12)}
    task = await begin_one(conn, template(graph))
    readers = [follow(server, task, "0") for _ in range(500)]
    for begun in range(0, 500, 100):
        await asyncio.gather(*(one.open() for one in readers[begun : begun + 100]))
    heard: list[list[str]] = [[] for _ in readers]

    async def listen(number: int) -> None:
        reader, falls = readers[number], number % 2
        while True:
            async for sent in reader.events():
                if sent.type == "stream.end":
                    return
                heard[number].append(str(sent.id))
                if falls and len(heard[number]) == 4 + number % 5:
                    break
            falls = 0
            reader.close()
            await reader.open()
            if reader.status == 204:
                return

    listening = [asyncio.create_task(listen(number)) for number in range(500)]
    while claims := await worker.claim():
        await worker.succeed(*claims)
        await asyncio.sleep(0.02)  # so that there are several looks
    async with asyncio.timeout(30):
        await asyncio.gather(*listening)

    assert len(heard[0]) == 13
    assert [ids for ids in heard if ids != heard[0]] == []
    assert sum(looks.values()) < 250
    for reader in readers:
        reader.close()


async def test_a_slow_reader_is_sent_home_and_comes_back(
    server: Server, conn: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears that it was too slow, and nothing is lost to it."""
    monkeypatch.setattr(live, "TASK_WINDOW", 3)
    monkeypatch.setattr(stream, "CHUNK", 1)
    task = await begin_one(conn, template({f"s{n}": [] for n in range(40)}))
    app = server.app
    backend = app.state.backend
    async with backend.live.task(task) as topic:
        frames = stream.task_stream(
            backend.live, backend.connection, task, stream.Mark(0, ""), with_steps=True
        )
        claims = await worker.claim()
        await worker.succeed(claims[0])
        first = [await anext(frames), await anext(frames)]
        for claim in claims[1:]:
            await worker.succeed(claim)
        await eventually(lambda: topic.has_ended)
        first += [frame async for frame in frames]

    assert b"too_slow" in first[-1]
    last = first[-2].split(b"\n")[0].removeprefix(b"id: ").decode()
    rest = await (await follow(server, task, last).open()).rest()
    assert len(first) - 2 + len(rest) - 1 == 41
    assert rest[-1].data["data"] == {"cause": "finished"}


async def test_heartbeats_keep_a_quiet_stream_alive(
    server: Server, conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And give a reader of all tasks an id to come back with, though nothing has passed."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    task = await begin_one(conn, template(CHAIN))
    one = await follow(server, task).open()
    everything = await follow_all(server, "?namespace=none").open()

    async def listen(reader: Reader) -> None:
        async for _ in reader.events():
            pass

    listening = [asyncio.create_task(listen(reader)) for reader in (one, everything)]
    await eventually(lambda: everything.last_id)
    begun = everything.last_id
    await begin_one(conn, template(name="other"))
    await eventually(lambda: one.beats > 2 and everything.last_id != begun)
    for task_, reader in zip(listening, (one, everything), strict=True):
        task_.cancel()
        reader.close()


async def test_a_server_that_stops_ends_its_streams(settings: Settings, conn: Any) -> None:
    """At once, so that they do not hold it up."""
    task = await begin_one(conn, template(CHAIN))
    server = Server(create_app(settings), port=0)
    await server.start()
    readers = [await follow(server, task).open(), await follow_all(server).open()]
    await readers[0].take(1)
    async with asyncio.timeout(10):
        await server.stop()

    for reader in readers:
        assert (await reader.rest())[-1].data["data"] == {"cause": "draining"}


async def test_nobody_looks_when_nobody_listens(server: Server, conn: Any, worker: Worker) -> None:
    """The last reader that leaves takes the looking with it."""
    task = await begin_one(conn, template(CHAIN))
    reader = await follow(server, task).open()
    await reader.take(1)
    backend = server.app.state.backend
    reader.close()

    await eventually(lambda: backend.live._runner.done())
    assert backend.live._topics == {}


# --- all tasks --------------------------------------------------------------------------


async def test_the_feed_tells_what_happens_to_all_tasks_that_fit(
    server: Server, conn: Any, worker: Worker
) -> None:
    """By namespace, template, new state and type; from the moment on when it was opened."""
    await begin_one(conn, template(name="before"))
    readers = {
        query: await follow_all(server, query).open()
        for query in (
            "",
            "?namespace=bank",
            "?template=other",
            "?state=cancelled,completed",
            "?types=task.created",
        )
    }
    one = await begin_one(conn, template(name="one"))
    other = await begin_one(conn, template(name="other", namespace="bank"))
    await cancel_task(conn, one, actor="ann", reason="no")
    await cancel_task(conn, other, actor="ann", reason="no")

    expected = [(one, "task.created"), (other, "task.created")]
    expected += [(one, "task.finished"), (other, "task.finished")]
    wanted = {
        "": expected,
        "?namespace=bank": [expected[1], expected[3]],
        "?template=other": [expected[1], expected[3]],
        "?state=cancelled,completed": expected[2:],
        "?types=task.created": expected[:2],
    }
    for query, reader in readers.items():
        events = await reader.take(len(wanted[query]))
        assert [(UUID(e.data["task_uuid"]), e.type) for e in events] == wanted[query]
        assert (events[-1].data["data"]["actor"], events[0].data["name"] != "before") == (
            "ann" if events[-1].type == "task.finished" else "application",
            True,
        )
        reader.close()


async def test_a_reader_of_all_tasks_goes_on_after_any_event(
    server: Server, conn: Any, worker: Worker
) -> None:
    """In the middle of what one look has found, too, and on another server."""
    reader = await follow_all(server).open()
    await reader.take(0) if reader.last_id else None
    whole_task = asyncio.create_task(reader.take(14))
    await eventually(lambda: reader.last_id)
    begun = str(reader.last_id)
    await begin(conn, template(), 7)
    await worker.succeed(*await worker.claim())
    whole = await whole_task
    reader.close()
    ids = [begun, *(str(one.id) for one in whole)]

    for place, last in enumerate(ids[:-1]):
        again = await follow_all(server, last_id=last).open()
        assert [(one.data["task_uuid"], one.type) for one in await again.take(14 - place)] == [
            (one.data["task_uuid"], one.type) for one in whole[place:]
        ]
        again.close()


async def test_a_creation_that_commits_late_reaches_every_reader_once(
    server: Server, conn: Any, clean_database: str
) -> None:
    """Those who were there, and one that comes back with an id from between."""
    flow = template()
    await register_template(conn, flow)
    reader = await follow_all(server).open()
    listening = asyncio.create_task(reader.take(1))
    await eventually(lambda: reader.last_id)
    late = await asyncpg.connect(clean_database)
    transaction = late.transaction()
    await transaction.start()
    first = await create_task(late, TemplateShelf(), NewTask(name="flow", namespace="shop"))
    second = await begin_one(conn, flow)
    (before,) = await listening
    between = reader.last_id
    await transaction.commit()
    (after,) = await reader.take(1)
    again = await follow_all(server, last_id=between).open()

    assert before.data["task_uuid"] == str(second)
    assert after.data["task_uuid"] == str(first.task_uuid)
    assert [one.data["task_uuid"] for one in await again.take(1)] == [str(first.task_uuid)]
    await late.close()
    reader.close()
    again.close()
