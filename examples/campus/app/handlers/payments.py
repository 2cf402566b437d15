"""A refund, as the payments team sees it: check_request → pay_back → notify.

The first and the last step are called as in support's template. That is no matter: names
of steps and templates belong to their namespace.
"""

from __future__ import annotations

from app.models.refunds import CheckedPayout, Mail, PaidBack, Payout
from app.services import payments
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.types import StepContext


@step_handler("payments_check_request")
@inputs(Payout)
async def check_request(inputs: Payout, context: StepContext) -> CheckedPayout:
    return await payments.check_request(inputs, task_uuid=context.task_uuid)


@step_handler("payments_pay_back")
@depends_on(payout=("check_request", CheckedPayout))
async def pay_back(payout: CheckedPayout, context: StepContext) -> PaidBack:
    return await payments.pay_back(payout, step_uuid=context.step_uuid)


@step_handler("payments_notify")
@depends_on(paid=("pay_back", PaidBack))
async def notify(paid: PaidBack, context: StepContext) -> Mail:
    return await payments.notify(paid, step_uuid=context.step_uuid)
