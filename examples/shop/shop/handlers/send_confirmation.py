"""Tell the customer."""

from __future__ import annotations

from pydantic import BaseModel

from shop.database import connect
from shop.models import Confirmation, Order
from shop.pace import pause
from tasker_core import StepContext
from tasker_core.step_handler.functional import depends_on, inputs, step_handler


class Customer(BaseModel):
    """The part of the task's context that this step needs."""

    customer_email: str


@step_handler("send_confirmation")
@depends_on(order=("create_order", Order))
@inputs(Customer)
async def send_confirmation(order: Order, inputs: Customer, context: StepContext) -> Confirmation:
    await pause()
    mail = Confirmation(
        sent_to=inputs.customer_email,
        subject=f"Your order {order.order_number} over {order.total_cents / 100:.2f}",
    )
    # The mail server of this shop is a table. A real one that takes no key can send a mail
    # twice when the step is cut off between sending and saying so; nothing can prevent that.
    async with connect() as conn:
        await conn.execute(
            "insert into shop.mails (task_uuid, sent_to, subject) "
            "values ($1, $2, $3) on conflict (task_uuid) do nothing",
            context.task_uuid,
            mail.sent_to,
            mail.subject,
        )
    return mail
