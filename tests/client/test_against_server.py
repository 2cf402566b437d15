"""The clients against the server that they are for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from support.flows import CHAIN, Worker, begin_one, step_id, template
from tasker_core.client import (
    AsyncTaskerClient,
    TaskConflictError,
    TaskerClient,
    TaskerConnectionError,
    TaskerForbiddenError,
    TaskerUnauthorizedError,
    TaskNotFoundError,
    TaskValidationError,
    WhoamiResponse,
)
from tasker_core.engine.api_keys import create_api_key
from tasker_core.engine.register import register_template
from tasker_core.server.app import create_app
from tasker_core.server.run import Server
from tasker_core.settings import Settings


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncTaskerClient]:
    """An async client of the server."""
    transport = httpx.ASGITransport(app)
    async with AsyncTaskerClient(base_url="http://tasker", transport=transport) as client:
        yield client


async def test_a_task_from_its_creation_to_its_end(
    client: AsyncTaskerClient, conn: Any, worker: Worker
) -> None:
    """Create, look, wait: every field that the client knows is filled."""
    await register_template(conn, template())
    created = await client.create_task("flow", namespace="shop", context={"a": 1}, tags=["x"])
    await worker.succeed(await worker.claim_one())
    ended = await client.wait_for_completion(created.task_uuid, timeout=0)
    listed = await client.list_tasks(namespace="shop", status="complete")
    (step,) = await client.list_task_steps(created.task_uuid)

    assert (created.status, created.initiator) == ("steps_in_process", "tasker-core-python")
    assert (created.source_system, created.context) == ("tasker-core", {"a": 1})
    assert (ended.status, ended.completion_percentage) == ("complete", 100.0)
    assert ended.steps[0]["current_state"] == "complete"
    assert [task.task_uuid for task in listed.tasks] == [created.task_uuid]
    assert listed.pagination.total_count == 1
    assert step.results is not None
    assert step.results["result"] == {"by": "a"}
    assert await client.get_step(created.task_uuid, step.step_uuid) == step
    (audit,) = await client.get_step_audit_history(created.task_uuid, step.step_uuid)
    assert (audit.success, audit.to_state, audit.step_name) == (True, "complete", "a")
    assert len(await client.list_task_transitions(created.task_uuid)) == 4
    assert await client.explain_task(created.task_uuid) == []
    assert (await client.get_performance_metrics(hours=1))["completed_tasks"] == 1
    assert len((await client.get_bottlenecks(min_executions=1))["slow_steps"]) == 1
    assert (await client.list_templates())["total_count"] == 1
    assert (await client.get_template("shop", "flow", "1.0.0"))["steps"][0]["name"] == "a"


async def test_who_the_client_is(clean_database: str, conn: Any) -> None:
    """One error each for a stranger and for a caller who may not; and what a key may do."""
    app = create_app(Settings(database_url=clean_database, sweep_seconds=3600, auth=True))
    key, _ = await create_api_key(
        conn, "shop", permissions=["tasks:read"], namespaces=["shop"], actor="ada"
    )
    async with app.router.lifespan_context(app):
        asks: dict[str, Any] = {"base_url": "http://tasker", "transport": httpx.ASGITransport(app)}
        async with AsyncTaskerClient(**asks) as stranger:
            with pytest.raises(TaskerUnauthorizedError) as caught:
                await stranger.whoami()
        async with AsyncTaskerClient(api_key=key, **asks) as client:
            who = await client.whoami()
            with pytest.raises(TaskerForbiddenError, match="templates:read"):
                await client.list_templates()

    assert (caught.value.status_code, caught.value.reason) == (401, "missing")
    assert who == WhoamiResponse("shop", "api_key", ["tasks:read"], ["shop"], None)


async def test_an_operators_hand(client: AsyncTaskerClient, conn: Any, worker: Worker) -> None:
    """Reset, complete, resolve, cancel."""
    task = await begin_one(conn, template(CHAIN))
    a, b, c = [await step_id(conn, task, name) for name in "abc"]
    await worker.fail(await worker.claim_one(), retryable=False)

    assert (await client.reset_step(task, a, reason="r")).current_state == "enqueued"
    done = await client.complete_step(task, a, {"n": 1}, reason="r", actor="ann")
    assert done.results is not None
    assert done.results["metadata"]["completed_by"] == "ann"
    assert (await client.resolve_step(task, b, reason="r")).current_state == "resolved_manually"
    with pytest.raises(TaskConflictError) as caught:
        await client.resolve_step(task, b, reason="r")
    assert caught.value.details["current_state"] == "resolved_manually"
    assert await client.cancel_task(task) == {"cancelled": True}
    assert (await client.get_step(task, c)).current_state == "cancelled"


async def test_many_tasks_at_once(client: AsyncTaskerClient, conn: Any, worker: Worker) -> None:
    """Looked for, named, as a dry run; the answer has what became of each."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one(), retryable=False)

    told = await client.act_on_tasks("reset", where={"failed_step": "a"}, reason="r", dry_run=True)
    done = await client.act_on_tasks("resolve", task_uuids=[task], reason="r", actor="ann")

    assert (told.dry_run, told.counts, told.next_cursor) == (True, {"done": 1}, None)
    (one,) = done.items
    assert (one.task_uuid, one.outcome, one.status) == (str(task), "done", "resolved_manually")
    moves = await client.list_task_transitions(task)
    assert (moves[-1]["action"], moves[-1]["actor"]) == ("resolve", "ann")
    with pytest.raises(TaskValidationError, match="which tasks"):
        await client.act_on_tasks("cancel", reason="r")
    with pytest.raises(ValueError, match="must be a UUID"):
        await client.act_on_tasks("cancel", task_uuids=["x"], reason="r")


async def test_refusals_are_errors(client: AsyncTaskerClient, conn: Any) -> None:
    """Each of its own class."""
    await register_template(conn, template(input_schema={"type": "object", "required": ["id"]}))

    with pytest.raises(TaskValidationError) as caught:
        await client.create_task("flow", namespace="shop")
    assert caught.value.errors[0]["pointer"] == "/context/id"
    with pytest.raises(TaskNotFoundError, match="shop/flow"):
        await client.create_task("flaw", namespace="shop")
    with pytest.raises(TaskValidationError, match="per_page"):
        await client.list_tasks(limit=101)


async def test_the_sync_client_over_a_socket(clean_database: str, conn: Any) -> None:
    """From another thread, as applications use it; afterwards nobody is there."""
    await register_template(conn, template())
    server = Server(create_app(Settings(database_url=clean_database)), port=0)
    url = await server.start()

    def use() -> str:
        with TaskerClient(base_url=url) as client:
            assert client.health_check().healthy
            assert client.readiness()["status"] == "ready"
            return client.create_task("flow", namespace="shop").status

    status = await asyncio.to_thread(use)
    await server.stop()

    assert status == "steps_in_process"
    with pytest.raises(TaskerConnectionError):
        await asyncio.to_thread(TaskerClient(base_url=url, max_retries=0).health_check)


async def test_dead_letters(client: AsyncTaskerClient, conn: Any) -> None:
    """Put aside, find, resolve once, count."""
    task = await begin_one(conn, template())
    made = await client.create_dlq_entry(task, reason="odd", metadata={"ticket": 7})
    entry = made["dlq_entry_uuid"]

    assert await client.get_dlq_entry(task) == made
    assert await client.list_dlq_entries(resolution_status="pending", task_uuid=task) == [made]
    assert (await client.get_investigation_queue(limit=1))[0]["dlq_entry_uuid"] == entry
    assert (await client.get_staleness_monitoring())[0]["task_uuid"] == str(task)
    done = await client.update_dlq_investigation(entry, resolution_status="permanently_failed")
    assert done["entry"]["resolved_by"] == "tasker-core-python"
    with pytest.raises(TaskConflictError):
        await client.update_dlq_investigation(entry, resolution_status="cancelled")
    opened = await client.update_dlq_investigation(entry, resolution_notes="n", reopen=True)
    assert opened["entry"]["resolution_status"] == "pending"
    assert (await client.get_dlq_stats())[0]["pending"] == 1
    assert (await client.get_dlq_entry(entry))["resolution_notes"] == "n"
    with pytest.raises(TaskNotFoundError):
        await client.get_dlq_entry(UUID(int=7))
