"""A web application's calls as users write them, for mypy --strict; nothing here is run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, assert_type
from uuid import UUID

import asyncpg
import psycopg
import sqlalchemy
from fastapi import APIRouter, FastAPI
from psycopg.rows import DictRow
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

import tasker_core
from tasker_core import (
    TaskerError,
    Worker,
    WorkerAlreadyRunningError,
    WorkerBootstrapError,
    WorkerNotInitializedError,
    WorkerStatus,
    bootstrap_worker,
    get_version,
    get_worker_status,
    is_worker_running,
    log_debug,
    log_error,
    log_trace,
    log_warn,
    stop_worker,
)
from tasker_core.client import (
    AsyncTaskerClient,
    BulkCreateItem,
    BulkCreateResponse,
    HealthResponse,
    PaginationInfo,
    StepAuditResponse,
    StepCause,
    StepResponse,
    TaskActionOutcome,
    TaskActionsResponse,
    TaskConflictError,
    TaskerClient,
    TaskerClientError,
    TaskerConnectionError,
    TaskerForbiddenError,
    TaskerUnauthorizedError,
    TaskEvent,
    TaskListResponse,
    TaskNotFoundError,
    TaskResponse,
    TaskValidationError,
    TaskWaitTimeout,
    WhoamiResponse,
)
from tasker_core.fastapi import NewTask as WebNewTask
from tasker_core.fastapi import Tasker, Tasks
from tasker_core.fastapi import TaskResponse as WebTaskResponse
from tasker_core.transactional import (
    NewTask,
    create_task,
    create_task_async,
    create_tasks,
    create_tasks_async,
)
from tasker_core.types import (
    ClientHealthResponse,
    ClientPaginationInfo,
    ClientStepAuditResponse,
    ClientStepResponse,
    ClientTaskListResponse,
    ClientTaskResponse,
)

# --- the worker of a process ------------------------------------------------------------

with Worker.start(handler_packages=["app.handlers"]) as worker:
    assert_type(worker.status(), WorkerStatus)
try:
    assert_type(bootstrap_worker({"concurrency": 10}), WorkerStatus)
except (WorkerAlreadyRunningError, WorkerBootstrapError, WorkerNotInitializedError) as error:
    log_error(str(error))
assert_type(is_worker_running(), bool)
assert_type(get_worker_status().steps_finished, int)
assert_type(stop_worker(), str)
assert_type(get_version(), str)
log_debug("began", {"order": 1})
log_trace("looked")
log_warn("late", {"seconds": 3})

# --- the client -------------------------------------------------------------------------

try:
    with TaskerClient("http://127.0.0.1:8080", timeout=5) as client:
        task = client.create_task("order", namespace="shop", context={"cents": 3})
        assert_type(task, TaskResponse)
        assert_type(client.wait_for_completion(task.task_uuid, timeout=10), TaskResponse)
        assert_type(client.get_task(UUID(task.task_uuid)).completion_percentage, float)
        listed = client.list_tasks(namespace="shop")
        assert_type(listed, TaskListResponse)
        assert_type(listed.pagination, PaginationInfo)
        (step,) = client.list_task_steps(task.task_uuid)
        assert_type(step, StepResponse)
        history = client.get_step_audit_history(task.task_uuid, step.step_uuid)
        assert_type(history, list[StepAuditResponse])
        assert_type(client.explain_task(task.task_uuid), list[StepCause])
        assert_type(client.get_performance_metrics(hours=24), dict[str, Any])
        assert_type(client.get_bottlenecks(limit=10, min_executions=5), dict[str, Any])
        entry = client.create_dlq_entry(task.task_uuid, reason="odd")
        assert_type(entry, dict[str, Any])
        client.update_dlq_investigation(entry["dlq_entry_uuid"], resolution_status="cancelled")
        assert_type(client.list_dlq_entries(limit=10), list[dict[str, Any]])
        assert_type(client.health_check(), HealthResponse)
        acted = client.act_on_tasks("reset", where={"failed_step": "pay"}, reason="mended")
        assert_type(acted, TaskActionsResponse)
        assert_type(acted.items, list[TaskActionOutcome])
        quick = client.create_task("order", idempotency_key="7", wait=10, or_get=True)
        assert_type(quick.results, dict[str, Any] | None)
        assert_type(client.wait(quick.task_uuid, timeout=60), TaskResponse)
        many = client.create_tasks([{"name": "order"}], atomic=True)
        assert_type(many, BulkCreateResponse)
        assert_type(many.items, list[BulkCreateItem])
        for event in client.watch(quick.task_uuid, since="0"):
            assert_type(event, TaskEvent)
        assert_type(next(client.watch_all(namespace="shop", state="complete")).data, dict[str, Any])
        assert_type(list(client.iter_tasks(active=True)), list[TaskResponse])
        assert_type(client.draw_task(quick.task_uuid, "dot"), str)
        assert_type(client.get_task_audit(quick.task_uuid), list[dict[str, Any]])
        assert_type(client.list_workers(), dict[str, Any])
        assert_type(client.whoami(), WhoamiResponse)
except (
    TaskNotFoundError,
    TaskConflictError,
    TaskValidationError,
    TaskerConnectionError,
    TaskerForbiddenError,
) as no:
    assert_type(no.errors, list[dict[str, Any]])
except TaskerUnauthorizedError as unknown:
    assert_type(unknown.reason, str | None)
except TaskWaitTimeout as late:
    assert_type(late.task, TaskResponse)
except TaskerClientError as failed:
    ours: TaskerError = failed


async def order() -> TaskResponse:
    async with AsyncTaskerClient("http://127.0.0.1:8080") as client:
        task = await client.create_task("order", namespace="shop", context={"cents": 3})
        async for event in client.watch(task.task_uuid):
            assert_type(event, TaskEvent)
        assert_type(await client.create_tasks([{"name": "order"}]), BulkCreateResponse)
        return await client.wait(task.task_uuid)


assert_type(asyncio.run(order()), TaskResponse)

same_task: type[TaskResponse] = ClientTaskResponse
same_list: type[TaskListResponse] = ClientTaskListResponse
same_step: type[StepResponse] = ClientStepResponse
same_audit: type[StepAuditResponse] = ClientStepAuditResponse
same_health: type[HealthResponse] = ClientHealthResponse
same_pages: type[PaginationInfo] = ClientPaginationInfo
from_the_top: type[TaskListResponse] = tasker_core.ClientTaskListResponse


# --- tasks in a transaction of the application's ------------------------------------------


class Cents(BaseModel):
    cents: int


def in_a_transaction(
    one: psycopg.Connection[DictRow], two: sqlalchemy.Connection, three: Session
) -> None:
    assert_type(create_task(one, "order", {"cents": 3}, priority=5), UUID)
    assert_type(create_task(two, "order", Cents(cents=3), tags=["x"]), UUID)
    new = [NewTask(name="order", context={"cents": 3}, idempotency_key="A-1")]
    assert_type(create_tasks(three, new), list[UUID])


async def in_an_async_transaction(
    pool: asyncpg.Pool[asyncpg.Record],
    one: psycopg.AsyncConnection,
    two: AsyncConnection,
    three: AsyncSession,
) -> None:
    async with pool.acquire() as conn, conn.transaction():
        assert_type(await create_task_async(conn, "order", {"cents": 3}), UUID)
    for each in (one, two, three):
        assert_type(await create_task_async(each, "order", {}, correlation_id=UUID(int=0)), UUID)
    assert_type(await create_tasks_async(two, (NewTask(name="order"),)), list[UUID])


# --- durable FastAPI ----------------------------------------------------------------------


async def get_connection() -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect()


tasker = Tasker(session=get_connection, handlers="shop.handlers", templates=["templates"])
web = FastAPI(lifespan=tasker.lifespan)
web.include_router(tasker.router(authenticate=None), prefix="/tasker")
assert_type(tasker.router(authenticate=None, dashboard=True), APIRouter)


@web.post("/orders")
async def place(tasks: Annotated[Tasks, tasker.tasks]) -> WebTaskResponse:
    task_uuid = await tasks.create("order", {"cents": 3}, namespace="shop")
    assert_type(task_uuid, UUID)
    assert_type(await tasks.create_many([WebNewTask(name="order")]), list[UUID])
    return await tasker.wait(task_uuid, seconds=5)
