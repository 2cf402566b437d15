"""Take the customer's money."""

from __future__ import annotations

from shop import gateway
from shop.database import connect
from shop.models import Cart, Payment
from shop.pace import pause
from tasker_core import PermanentError, RetryableError, StepContext
from tasker_core.step_handler.functional import depends_on, inputs, step_handler


@step_handler("process_payment")
@depends_on(cart=("validate_cart", Cart))
@inputs("payment_token")
async def process_payment(cart: Cart, payment_token: str, context: StepContext) -> Payment:
    await pause()
    try:
        # The step's uuid is the same in every attempt: should this one be cut off right
        # after the charge, the next one asks with the same key and is given the same charge.
        charge_id = await gateway.charge(
            payment_token, cart.total_cents, idempotency_key=str(context.step_uuid)
        )
    except gateway.CardDeclined as error:
        raise PermanentError(str(error), error_code="PAYMENT_DECLINED") from error
    except gateway.GatewayUnavailable as error:
        raise RetryableError(str(error), error_code="GATEWAY_UNAVAILABLE") from error

    async with connect() as conn:
        await conn.execute(
            "insert into shop.payments (task_uuid, charge_id, amount_cents) "
            "values ($1, $2, $3) on conflict (task_uuid) do nothing",
            context.task_uuid,
            charge_id,
            cart.total_cents,
        )
    return Payment(charge_id=charge_id, amount_cents=cart.total_cents)
