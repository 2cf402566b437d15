"""A refund, as the support team sees it: who has to approve it, and what do they say?

```
                                   ┌ approve_by_rule    ┐
check_request → choose_approval ─ ─┤ approve_by_lead    ├─ → conclude → hand_to_payments → notify
                                   └ approve_by_finance ┘
```

Only the approvals that `choose_approval` names come into being, and `conclude` waits for
exactly those.
"""

from __future__ import annotations

from app.models.refunds import Answer, Claim, HandOver, Mail, Verdict, Wish
from app.services import support
from tasker_core.step_handler.functional import (
    Decision,
    decision_handler,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.types import StepContext


@step_handler("support_check_request")
@inputs(Wish)
async def check_request(inputs: Wish) -> Claim:
    return await support.check_request(inputs)


@decision_handler("support_choose_approval")
@depends_on(claim=("check_request", Claim))
def choose_approval(claim: Claim) -> Decision:
    approvals = support.approvals_for(claim.amount_cents)
    if not approvals:
        return Decision.skip("everything has been paid back before")
    return Decision.route(approvals, amount_cents=claim.amount_cents)


@step_handler("support_approve_by_rule")
def approve_by_rule() -> Answer:
    return Answer(role="rule", approved=True)


@step_handler("support_ask")
@depends_on(claim=("check_request", Claim))
async def ask(claim: Claim, context: StepContext) -> Answer:
    """Ask the person whose role the template's `initialization` names."""
    return await support.read_answer(claim.reference, context.get_config("role"))


@step_handler("support_conclude")
@depends_on(
    rule=("approve_by_rule", Answer),
    lead=("approve_by_lead", Answer),
    finance=("approve_by_finance", Answer),
)
def conclude(rule: Answer | None, lead: Answer | None, finance: Answer | None) -> Verdict:
    """What was not asked has no result, and is None here."""
    return support.conclude([rule, lead, finance])


@step_handler("support_hand_to_payments")
@depends_on(claim=("check_request", Claim), verdict=("conclude", Verdict))
async def hand_to_payments(claim: Claim, verdict: Verdict, context: StepContext) -> HandOver:
    return await support.hand_to_payments(
        claim, verdict, correlation_id=context.correlation_id, step_uuid=context.step_uuid
    )


@step_handler("support_notify")
@depends_on(claim=("check_request", Claim), verdict=("conclude", Verdict))
async def notify(claim: Claim, verdict: Verdict, context: StepContext) -> Mail:
    return await support.notify(claim, verdict, step_uuid=context.step_uuid)
