"""Orders over HTTP, through a server and a worker, to their end."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest


def an_order(**changes: Any) -> dict[str, Any]:
    """An order that goes through, but for the changes."""
    return {
        "order_reference": uuid4().hex,
        "customer_email": "ada@example.com",
        "payment_token": "tok_good",
        "items": [{"sku": "MUG-01", "quantity": 2}, {"sku": "TEA-01", "quantity": 1}],
        **changes,
    }


async def settled(client: httpx.AsyncClient, order: dict[str, Any]) -> dict[str, Any]:
    """Place an order and follow it until it is decided."""
    placed = await client.post("/orders", json=order)
    assert placed.status_code == 202, placed.text
    async with asyncio.timeout(30):
        while True:
            answer = await client.get(placed.json()["follow"])
            assert answer.status_code == 200, answer.text
            if answer.json()["status"] != "in_progress":
                return answer.json()
            await asyncio.sleep(0.02)


async def test_an_order_goes_through(client, conn):
    """Every step is done once; money, goods, order and mail are where they belong."""
    order = await settled(client, an_order())

    assert order["status"] == "confirmed"
    assert [(step["name"], step["state"], step["attempts"]) for step in order["steps"]] == [
        ("validate_cart", "complete", 1),
        ("process_payment", "complete", 1),
        ("update_inventory", "complete", 1),
        ("create_order", "complete", 1),
        ("send_confirmation", "complete", 1),
    ]
    assert order["total_cents"] == 2 * 1250 + 890
    task_uuid = UUID(order["order_id"])
    found = await conn.fetchrow(
        "select o.order_number, p.amount_cents, m.sent_to, array_agg(r.sku order by r.sku) as skus "
        "from shop.orders as o join shop.payments as p using (task_uuid) "
        "join shop.mails as m using (task_uuid) join shop.reservations as r using (task_uuid) "
        "where task_uuid = $1 group by 1, 2, 3",
        task_uuid,
    )
    assert dict(found) == {
        "order_number": order["order_number"],
        "amount_cents": 3390,
        "sent_to": "ada@example.com",
        "skus": ["MUG-01", "TEA-01"],
    }


async def test_an_empty_cart_is_refused(client):
    """The customer hears why, and the steps after it never begin."""
    order = await settled(client, an_order(items=[]))

    assert (order["status"], order["reason"]) == ("refused", "the cart is empty")
    assert [step["attempts"] for step in order["steps"]] == [1, 0, 0, 0, 0]


async def test_a_gateway_that_fails_once_costs_an_attempt(client):
    """The payment is tried again and the order goes through."""
    order = await settled(client, an_order(payment_token="tok_flaky"))

    assert order["status"] == "confirmed"
    assert [step["attempts"] for step in order["steps"]] == [1, 2, 1, 1, 1]


async def test_a_declined_card_refuses_the_order(client, conn):
    """Nothing is taken out of stock for it."""
    order = await settled(client, an_order(payment_token="tok_declined"))

    assert order["status"] == "refused"
    assert "declined" in order["reason"]
    assert not await conn.fetch(
        "select from shop.reservations where task_uuid = $1", UUID(order["order_id"])
    )


async def test_the_same_order_is_taken_once(client, conn):
    """A second click on the button is told so, even if the cart has changed since."""
    order = an_order()

    first = await client.post("/orders", json=order)
    again = await client.post("/orders", json={**order, "items": []})

    assert (first.status_code, again.status_code) == (202, 409)
    placed = await conn.fetch(
        "select task_uuid from shop.placements where order_reference = $1",
        order["order_reference"],
    )
    assert [str(row["task_uuid"]) for row in placed] == [first.json()["order_id"]]


async def test_an_order_that_cannot_be_written_down_has_no_task(client, conn):
    """The shop's row and the task come together or not at all."""
    order = an_order()
    before = await conn.fetchval("select count(*) from tasker.tasks")
    await conn.execute(
        "insert into shop.placements (task_uuid, customer_email, order_reference) "
        "values ($1, $2, $3)",
        uuid4(),
        order["customer_email"],
        order["order_reference"],
    )

    with pytest.raises(asyncpg.UniqueViolationError):
        await client.post("/orders", json=order)

    assert await conn.fetchval("select count(*) from tasker.tasks") == before


async def test_an_order_that_is_none_is_not_taken(client):
    """What is no order, and what nobody knows, is told apart."""
    wrong = await client.post("/orders", json=an_order(customer_email="nobody"))
    unknown = await client.get(f"/orders/{uuid4()}")

    assert (wrong.status_code, unknown.status_code) == (422, 404)


async def test_without_a_server_orders_are_taken(client, monkeypatch):
    """A task needs the database alone; only who wants to follow it is told to come back."""
    from shop.app import app

    from tasker_core.client import AsyncTaskerClient

    nobody = AsyncTaskerClient(base_url="http://127.0.0.1:9", max_retries=0)
    monkeypatch.setattr(app.state, "tasker", nobody)

    placed = await client.post("/orders", json=an_order())
    answer = await client.get(placed.json()["follow"])

    assert (placed.status_code, answer.status_code) == (202, 503)
    assert "Retry-After" in answer.headers
