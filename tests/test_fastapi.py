"""Durable FastAPI: tasks in the request's transaction, and the API under the application's own."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from support.flows import CHAIN, Worker, begin_one, template
from support.replies import refused
from support.sse import Reader
from tasker_core.engine.register import register_template
from tasker_core.errors import UnknownTask
from tasker_core.fastapi import NewTask, Tasker, TaskResponse, Tasks
from tasker_core.server.pressure import Pressure
from tasker_core.server.run import Server


@pytest.fixture
def worker(conn: Any) -> Worker:
    """A worker that serves every lane."""
    return Worker(conn)


LET_IN = {"Authorization": "Bearer let-me-in"}
BELOW = "/deep/v1/down"


def who_calls(authorization: Annotated[str, Header()] = "") -> str:
    """Let ada in."""
    if authorization != LET_IN["Authorization"]:
        raise HTTPException(401, "who are you?")
    return "ada"


def application(url: str, **options: Any) -> FastAPI:
    """Build an application with asyncpg that has the API below a path of its own."""

    async def get_connection() -> AsyncIterator[asyncpg.Connection]:
        conn = await asyncpg.connect(url)
        transaction = conn.transaction()
        await transaction.start()
        try:
            yield conn
            await transaction.commit()
        finally:
            await conn.close()

    tasker = Tasker(get_connection, config={"database_url": url, "sweep_seconds": 3600})
    app = FastAPI(lifespan=tasker.lifespan)
    app.state.backend = "the application's own"
    app.state.tasker = tasker
    app.include_router(tasker.router(**{"authenticate": who_calls, **options}), prefix=BELOW)
    connection = Annotated[asyncpg.Connection, Depends(get_connection)]
    tasks_of_request = Annotated[Tasks, tasker.tasks]

    @app.post("/orders")
    async def order(fails: bool, conn: connection, tasks: tasks_of_request) -> UUID:
        await conn.execute("insert into public.orders values ('A-1')")
        task = await tasks.create("flow", {"number": "A-1"}, namespace="shop", priority=3)
        if fails:
            raise HTTPException(418)
        return task

    @app.post("/many")
    async def many(tasks: tasks_of_request) -> list[UUID]:
        return await tasks.create_many([NewTask(name="flow", namespace="shop")] * 3)

    @app.get("/wait")
    async def wait(task: UUID) -> TaskResponse:
        return await tasker.wait(task, seconds=20)

    @app.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    return app


@pytest.fixture
async def app(clean_database: str, conn: Any) -> AsyncIterator[FastAPI]:
    """The application, started."""
    await conn.execute("create table public.orders (number text primary key)")
    app = application(clean_database)
    async with app.router.lifespan_context(app):
        yield app
    await conn.execute("drop table public.orders")


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the application."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        yield client


async def test_a_task_is_part_of_the_requests_transaction(
    http: httpx.AsyncClient, conn: Any
) -> None:
    """Both the row and the task, or neither of them."""
    await register_template(conn, template())
    failed = await http.post("/orders?fails=true")
    rows = "select (select count(*) from public.orders), (select count(*) from tasker.tasks)"
    assert (failed.status_code, tuple(await conn.fetchrow(rows))) == (418, (0, 0))
    made = await http.post("/orders?fails=false")
    assert tuple(await conn.fetchrow(rows)) == (1, 1)
    task = await conn.fetchrow("select task_uuid, priority from tasker.tasks")
    assert (str(task["task_uuid"]), task["priority"]) == (made.json(), 3)
    assert len((await http.post("/many")).json()) == 3


async def test_an_endpoint_waits_for_the_end(
    http: httpx.AsyncClient, app: FastAPI, conn: Any, worker: Worker
) -> None:
    """And answers with what came of it."""
    task = await begin_one(conn, template(CHAIN))
    while claims := await worker.claim():
        await worker.succeed(*claims)
    reply = await http.get(f"/wait?task={task}")

    assert (reply.json()["status"], reply.json()["results"]) == ("complete", {"c": {"by": "c"}})
    with pytest.raises(UnknownTask):
        await app.state.tasker.wait(uuid4())


async def test_a_full_namespace_is_told_as_by_the_server(
    http: httpx.AsyncClient, app: FastAPI, conn: Any
) -> None:
    """Whatever application the router stands in."""
    await begin_one(conn, template(CHAIN))
    backend = app.state.tasker._backend
    backend.pressure = Pressure(backend.watch, 1)
    asked = {"name": "flow", "namespace": "shop"}
    reply = await http.post(f"{BELOW}/v1/tasks", json=asked, headers=LET_IN)

    assert reply.json()["reason"] == "queue_depth"
    assert int(reply.headers["Retry-After"]) >= 24
    refused(reply, 503, "BACKPRESSURE")


async def test_the_api_stands_below_the_applications_own_path(
    http: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """For those whom its own dependency lets in; what it tells of addresses is right."""
    await register_template(conn, template(CHAIN))
    asked = {"name": "flow", "namespace": "shop"}
    stranger = await http.post(f"{BELOW}/v1/tasks", json=asked)
    assert (stranger.status_code, stranger.json()) == (401, {"detail": "who are you?"})

    http.headers.update(LET_IN)
    made = await http.post(f"{BELOW}/v1/tasks", json=asked)
    address = made.headers["Location"]
    assert address == f"{BELOW}/v1/tasks/{made.json()['task_uuid']}"
    assert (await http.get(address)).json()["initiator"] == "ada"
    summary = (await http.get(f"{address}/summary")).json()
    assert (await http.get(summary["links"]["graph"])).status_code == 200
    await http.post(f"{BELOW}/v1/tasks", json=asked)
    first = await http.get(f"{BELOW}/v1/tasks?limit=1")
    link = first.headers["Link"].partition(">")[0].lstrip("<")
    assert (await http.get(link)).json()["tasks"][0]["task_uuid"] == made.json()["task_uuid"]
    cancelled = await http.delete(address)
    last = (await http.get(f"{address}/audit")).json()[0]
    assert (cancelled.json()["status"], last["actor"]) == ("cancelled", "ada")


async def test_errors_of_the_api_are_problems_and_others_stay_as_they_were(
    http: httpx.AsyncClient,
) -> None:
    """The application's own errors look as it wants them."""
    http.headers.update(LET_IN)
    refused(await http.get(f"{BELOW}/v1/tasks/x"), 400, "INVALID_UUID")
    refused(await http.get(f"{BELOW}/v1/tasks?page=0"), 400, "BAD_REQUEST")
    refused(await http.get(f"{BELOW}/v1/tasks/{uuid4()}"), 404, "NOT_FOUND")
    refused(await http.post(f"{BELOW}/v1/tasks", json={}), 422, "VALIDATION_ERROR")
    refused(await http.post(f"{BELOW}/v1/tasks", content=b"{"), 415, "UNSUPPORTED_MEDIA_TYPE")
    own = await http.get("/items/x")
    assert (own.status_code, "detail" in own.json()) == (422, True)
    assert (await http.get("/nothing")).json() == {"detail": "Not Found"}


async def test_the_api_describes_itself_apart(http: httpx.AsyncClient, app: FastAPI) -> None:
    """The application's description has only its own."""
    assert set(app.openapi()["paths"]) == {"/orders", "/many", "/wait", "/items/{number}"}
    assert (await http.get(f"{BELOW}/api-docs/openapi.json")).status_code == 401
    document = (await http.get(f"{BELOW}/api-docs/openapi.json", headers=LET_IN)).json()
    assert "/v1/tasks" in document["paths"]


async def test_streams_stand_there_too(clean_database: str, conn: Any, worker: Worker) -> None:
    """Without anybody to authenticate, if the application says so."""
    task = await begin_one(conn, template(CHAIN))
    app = application(clean_database, authenticate=None)
    app.state.backend = app.state.tasker._backend  # that a stopping server looks for
    async with Server(app, port=0) as server:
        reader = await Reader(server.url, f"{BELOW}/v1/tasks/{task}/events", "0").open()
        while claims := await worker.claim():
            await worker.succeed(*claims)
        events = await reader.rest()

    assert [one.type for one in events][-2:] == ["task.finished", "stream.end"]


def test_without_a_session_there_is_nothing_to_create_with() -> None:
    """And the error says what to give."""
    with pytest.raises(TypeError, match="session=get_session"):
        _ = Tasker().tasks
