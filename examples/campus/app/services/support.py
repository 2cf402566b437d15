"""The support team: may this refund be paid?"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from app.database import connect
from app.models.refunds import Answer, Claim, HandOver, Mail, Verdict, Wish
from app.services import mail
from tasker_core.client import AsyncTaskerClient, TaskConflictError
from tasker_core.errors import PermanentError, RetryableError

RULE_LIMIT_CENTS = 5_000  # up to here a rule is enough
LEAD_LIMIT_CENTS = 10_000  # up to here the team's lead is


async def check_request(wish: Wish) -> Claim:
    async with connect() as conn:
        order = await conn.fetchrow(
            "select student_email, total_cents - refunded_cents as left_cents "
            "from campus.orders where order_number = $1",
            wish.order_number,
        )
    if order is None:
        raise PermanentError(f"there is no order {wish.order_number}", error_code="UNKNOWN_ORDER")
    left_cents = order["left_cents"]
    return Claim(
        reference=wish.reference,
        order_number=wish.order_number,
        student_email=order["student_email"],
        amount_cents=left_cents
        if wish.amount_cents is None
        else min(wish.amount_cents, left_cents),
    )


def approvals_for(amount_cents: int) -> list[str]:
    """Name the steps that have to approve an amount; none, if there is nothing to pay."""
    if amount_cents == 0:
        return []
    if amount_cents <= RULE_LIMIT_CENTS:
        return ["approve_by_rule"]
    if amount_cents <= LEAD_LIMIT_CENTS:
        return ["approve_by_lead"]
    return ["approve_by_lead", "approve_by_finance"]


async def note_answer(reference: str, role: str, approved: bool) -> None:
    """Write down what a person says; the first word counts."""
    async with connect() as conn:
        await conn.execute(
            "insert into campus.answers (reference, role, approved) values ($1, $2, $3) "
            "on conflict do nothing",
            reference,
            role,
            approved,
        )


async def read_answer(reference: str, role: str) -> Answer:
    """Read it.

    Raises:
        RetryableError: Nobody has said anything yet. The step's `retry` block says how
            often and how long it asks.
    """
    async with connect() as conn:
        approved = await conn.fetchval(
            "select approved from campus.answers where reference = $1 and role = $2",
            reference,
            role,
        )
    if approved is None:
        raise RetryableError(f"the {role} has not answered yet", error_code="NO_ANSWER_YET")
    return Answer(role=role, approved=approved)


def conclude(answers: Iterable[Answer | None]) -> Verdict:
    given = [answer for answer in answers if answer is not None]
    return Verdict(
        approved=all(answer.approved for answer in given),
        answered_by=sorted(answer.role for answer in given),
    )


async def hand_to_payments(
    claim: Claim, verdict: Verdict, *, correlation_id: UUID, step_uuid: UUID
) -> HandOver:
    """Ask the payments team to pay: a task of theirs, which names this one as its parent.

    The reference is the task's idempotency key, so the money is asked for once. The step's
    uuid is the task's correlation id, so a second attempt finds the task of the first one.
    """
    if not verdict.approved:
        return HandOver(payment_task_uuid=None)
    async with AsyncTaskerClient("support", "campus") as tasker:
        try:
            task = await tasker.create_task(
                "refund",
                namespace="payments",
                context={
                    "reference": claim.reference,
                    "order_number": claim.order_number,
                    "account": claim.student_email,
                    "amount_cents": claim.amount_cents,
                },
                idempotency_key=claim.reference,
                correlation_id=str(step_uuid),
                parent_correlation_id=str(correlation_id),
                reason=f"Refund {claim.reference} was approved",
            )
        except TaskConflictError as conflict:
            found = await tasker.list_tasks(namespace="payments", correlation_id=str(step_uuid))
            if not found.tasks:
                raise PermanentError(
                    f"refund {claim.reference} was asked for by somebody else",
                    error_code="REFERENCE_TAKEN",
                ) from conflict
            task = found.tasks[0]
    return HandOver(payment_task_uuid=task.task_uuid)


async def notify(claim: Claim, verdict: Verdict, *, step_uuid: UUID) -> Mail:
    what = "is approved" if verdict.approved else "is not approved"
    subject = f"Your refund {claim.reference} {what}"
    await mail.send(claim.student_email, subject, step_uuid=step_uuid)
    return Mail(sent_to=claim.student_email, subject=subject)
