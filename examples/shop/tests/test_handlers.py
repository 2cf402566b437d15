"""Each step by itself: what it answers, and that it does its work once however often it runs."""

from __future__ import annotations

from uuid import uuid4

import pytest
from shop.handlers.create_order import create_order
from shop.handlers.process_payment import process_payment
from shop.handlers.send_confirmation import send_confirmation
from shop.handlers.update_inventory import UpdateInventory
from shop.handlers.validate_cart import ValidateCart

from tasker_core import StepContext, StepHandlerResult

CART = {
    "lines": [{"sku": "MUG-01", "name": "Mug", "quantity": 2, "price_cents": 1250}],
    "total_cents": 2500,
}
RESULTS = {
    "validate_cart": CART,
    "process_payment": {"charge_id": "ch_1", "amount_cents": 2500},
    "create_order": {"order_number": "ORD-1", "total_cents": 2500},
}


def a_context(*, quantity: int = 2, **inputs: object) -> StepContext:
    """A context in which every step finds what it needs."""
    order = {
        "order_reference": uuid4().hex,
        "customer_email": "mug.lover@example.com",
        "payment_token": "tok_good",
        "items": [{"sku": "MUG-01", "quantity": quantity}],
    }
    lines = [{**CART["lines"][0], "quantity": quantity}]
    results = {**RESULTS, "validate_cart": {**CART, "lines": lines}}
    return StepContext.for_testing(input_data={**order, **inputs}, dependency_results=results)


async def run(handler: type, context: StepContext) -> StepHandlerResult:
    """One attempt."""
    return await handler().call(context)


async def test_a_cart_is_priced():
    """Prices come from the shop, and two lines with one sku become one."""
    items = [
        {"sku": "TEA-01", "quantity": 1},
        {"sku": "MUG-01", "quantity": 1},
        {"sku": "MUG-01", "quantity": 1},
    ]

    result = await run(ValidateCart, a_context(items=items))

    assert result.success is True
    assert result.result["total_cents"] == 890 + 2 * 1250
    assert [line["sku"] for line in result.result["lines"]] == ["MUG-01", "TEA-01"]


@pytest.mark.parametrize(
    ("items", "error_code"),
    [([], "EMPTY_CART"), (None, "EMPTY_CART"), ([{"sku": "X", "quantity": 1}], "UNKNOWN_SKU")],
)
async def test_a_cart_is_refused(items, error_code):
    """A cart that cannot be sold fails its step for good, with a code for the reason."""
    result = await run(ValidateCart, a_context(items=items))

    assert result.success is False
    assert (result.error_code, result.retryable) == (error_code, False)


async def test_a_payment_is_taken_once(conn):
    """Two attempts of the same step give the same charge."""
    context = a_context()

    first = await run(process_payment.handler_class, context)
    second = await run(process_payment.handler_class, context)

    assert first.success is True
    assert first.result == second.result
    charges = await conn.fetch(
        "select charge_id from shop.payments where task_uuid = $1", context.task_uuid
    )
    assert [charge["charge_id"] for charge in charges] == [first.result["charge_id"]]


async def test_a_gateway_that_fails_is_asked_again():
    """The first failure may be retried, and the second attempt goes through."""
    context = a_context(payment_token="tok_flaky")

    first = await run(process_payment.handler_class, context)
    second = await run(process_payment.handler_class, context)

    assert (first.success, first.retryable) == (False, True)
    assert first.error_code == "GATEWAY_UNAVAILABLE"
    assert second.success is True


async def test_a_declined_card_is_final():
    """Nobody tries a declined card again."""
    result = await run(process_payment.handler_class, a_context(payment_token="tok_declined"))

    assert (result.success, result.retryable) == (False, False)
    assert (result.error_type, result.error_code) == ("permanent_error", "PAYMENT_DECLINED")


async def test_goods_are_taken_out_of_stock_once(conn):
    """Two attempts of the same step take the goods once."""
    await run(ValidateCart, a_context())  # whoever comes first makes the tables
    context = a_context(quantity=5)
    before = await conn.fetchval("select stock from shop.products where sku = 'MUG-01'")

    first = await run(UpdateInventory, context)
    second = await run(UpdateInventory, context)

    assert first.result == second.result == {"reserved": {"MUG-01": 5}}
    after = await conn.fetchval("select stock from shop.products where sku = 'MUG-01'")
    assert after == before - 5


async def test_goods_that_are_not_there_are_not_reserved(conn):
    """Too little stock fails the step and leaves nothing behind."""
    from tasker_core import PermanentError

    context = a_context(quantity=1_000_000)

    with pytest.raises(PermanentError, match="not enough of MUG-01") as caught:
        await run(UpdateInventory, context)

    assert caught.value.error_code == "OUT_OF_STOCK"
    assert not await conn.fetch(
        "select from shop.reservations where task_uuid = $1", context.task_uuid
    )


async def test_an_order_is_written_and_confirmed_once(conn):
    """Two attempts of each step leave one order and one mail."""
    context = a_context()

    for handler in (create_order.handler_class, send_confirmation.handler_class):
        first, second = await run(handler, context), await run(handler, context)
        assert first.success is True
        assert first.result == second.result

    for table in ("orders", "mails"):
        rows = await conn.fetch(f"select from shop.{table} where task_uuid = $1", context.task_uuid)
        assert len(rows) == 1
