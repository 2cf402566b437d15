"""The shop's web application: `uvicorn shop.app:app`.

It takes an order by writing it down and creating a task in one transaction, and answers
before anything else has been done. A worker in the same process does the rest, in a thread
of its own, as would any other worker on the same database. Tasks are read through a Tasker
server, which TASKER_URL names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from shop.database import connect
from shop.models import OrderRequest
from tasker_core import Worker
from tasker_core.client import (
    AsyncTaskerClient,
    StepResponse,
    TaskerConnectionError,
    TaskNotFoundError,
    TaskResponse,
)
from tasker_core.errors import DuplicateTask
from tasker_core.transactional import create_task_async

TEMPLATES = Path(__file__).parents[1] / "templates"

# What a customer is told. Anything else means that the order is on its way.
STATUS = {
    "complete": "confirmed",
    "blocked_by_failures": "refused",
    "error": "refused",
    "cancelled": "cancelled",
}


class OrderAccepted(BaseModel):
    order_id: UUID  # the task's uuid
    status: str
    follow: str


class StepProgress(BaseModel):
    name: str
    state: str
    attempts: int
    error: str | None


class OrderStatus(BaseModel):
    order_id: UUID
    status: str  # in_progress, confirmed, refused or cancelled
    reason: str | None  # why it was refused
    steps: list[StepProgress]
    order_number: str | None
    total_cents: int | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with Worker.start(handler_packages=["shop.handlers"], templates=[TEMPLATES]):
        async with AsyncTaskerClient("shop", "shop-web") as app.state.tasker:
            yield


app = FastAPI(title="Shop", lifespan=lifespan)


@app.exception_handler(TaskerConnectionError)
async def on_no_server(request: Request, error: TaskerConnectionError) -> Response:
    """Tell the customer to come back: orders are taken, only nobody can say how they are."""
    return Response("orders cannot be followed at the moment", 503, {"Retry-After": "5"})


@app.post("/orders", status_code=202)
async def place_order(order: OrderRequest) -> OrderAccepted:
    """Take an order; 409 if the customer has sent this reference before.

    The shop's own row and the task are there together, or not at all.
    """
    async with connect() as conn, conn.transaction():
        try:
            order_id = await create_task_async(
                conn,
                "order",
                order,
                namespace="shop",
                idempotency_key=f"{order.customer_email} {order.order_reference}",
                initiator="shop-web",
                source_system="shop",
                reason="Placed in the shop",
            )
        except DuplicateTask:
            detail = f"order {order.order_reference} was placed before"
            raise HTTPException(409, detail) from None
        await conn.execute(
            "insert into shop.placements (task_uuid, customer_email, order_reference) "
            "values ($1, $2, $3)",
            order_id,
            order.customer_email,
            order.order_reference,
        )
    return OrderAccepted(order_id=order_id, status="accepted", follow=f"/orders/{order_id}")


@app.get("/orders/{order_id}")
async def follow_order(order_id: UUID, request: Request) -> OrderStatus:
    """Say how far an order has come."""
    tasker: AsyncTaskerClient = request.app.state.tasker
    try:
        task = await tasker.get_task(order_id, include_steps=False)
        steps = await tasker.list_task_steps(order_id)
    except TaskNotFoundError:
        raise HTTPException(404, f"there is no order {order_id}") from None
    async with connect() as conn:
        order = await conn.fetchrow(
            "select order_number, total_cents from shop.orders where task_uuid = $1", order_id
        )
    return _status(task, steps, dict(order) if order else {})


def _status(task: TaskResponse, steps: list[StepResponse], order: dict) -> OrderStatus:
    errors = {step.name: _error(step) for step in steps}
    failed = [step.name for step in steps if step.current_state == "error"]
    return OrderStatus(
        order_id=UUID(task.task_uuid),
        status=STATUS.get(task.status, "in_progress"),
        reason=errors[failed[0]] if failed else None,
        steps=[
            StepProgress(
                name=step.name,
                state=step.current_state,
                attempts=step.attempts,
                error=errors[step.name],
            )
            for step in steps
        ],
        order_number=order.get("order_number"),
        total_cents=order.get("total_cents"),
    )


def _error(step: StepResponse) -> str | None:
    """Give the message of a step's last attempt, if that failed."""
    error = (step.results or {}).get("error")
    return error["message"] if error else None
