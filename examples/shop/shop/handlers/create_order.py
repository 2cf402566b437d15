"""Write the order down."""

from __future__ import annotations

from shop.database import connect
from shop.models import Cart, Order, Payment
from shop.pace import pause
from tasker_core import StepContext
from tasker_core.step_handler.functional import depends_on, inputs, step_handler


@step_handler("create_order")
@depends_on(cart=("validate_cart", Cart), payment=("process_payment", Payment))
@inputs("order_reference", "customer_email")
async def create_order(
    cart: Cart,
    payment: Payment,
    order_reference: str,
    customer_email: str,
    context: StepContext,
) -> Order:
    await pause()
    async with connect() as conn:
        await conn.execute(
            "insert into shop.orders "
            "(task_uuid, order_reference, customer_email, charge_id, total_cents) "
            "values ($1, $2, $3, $4, $5) on conflict (task_uuid) do nothing",
            context.task_uuid,
            order_reference,
            customer_email,
            payment.charge_id,
            cart.total_cents,
        )
        # Whichever attempt wrote the row: this is the number that the database gave it.
        order_number = await conn.fetchval(
            "select order_number from shop.orders where task_uuid = $1", context.task_uuid
        )
    return Order(order_number=order_number, total_cents=cart.total_cents)
