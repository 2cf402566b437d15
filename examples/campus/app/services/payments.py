"""The payments team: pays, whoever asks; and believes nobody."""

from __future__ import annotations

from uuid import UUID

from app.database import connect
from app.models.refunds import CheckedPayout, Mail, PaidBack, Payout
from app.services import bank, mail
from tasker_core.errors import PermanentError


async def check_request(payout: Payout, *, task_uuid: UUID) -> CheckedPayout:
    """Note on the order what is going to be paid back, at most what it cost."""
    if not payout.order_number or not payout.account or not payout.amount_cents:
        raise PermanentError("the request is not complete", error_code="INCOMPLETE_REQUEST")
    async with connect() as conn, conn.transaction():
        left_cents = await conn.fetchval(
            "select total_cents - refunded_cents from campus.orders "
            "where order_number = $1 for update",
            payout.order_number,
        )
        # Should the step run again, its row is there, and the order stays as it is.
        is_new = await conn.fetchval(
            "insert into campus.refunds (task_uuid, amount_cents) values ($1, $2) "
            "on conflict do nothing returning true",
            task_uuid,
            payout.amount_cents,
        )
        if is_new:
            if left_cents is None or left_cents < payout.amount_cents:
                raise PermanentError(
                    f"order {payout.order_number} has {left_cents or 0} cents left",
                    error_code="NOTHING_LEFT",
                )
            await conn.execute(
                "update campus.orders set refunded_cents = refunded_cents + $2 "
                "where order_number = $1",
                payout.order_number,
                payout.amount_cents,
            )
    return CheckedPayout(**payout.model_dump())


async def pay_back(payout: CheckedPayout, *, step_uuid: UUID) -> PaidBack:
    note = f"refund of order {payout.order_number}"
    await bank.book(payout.account, payout.amount_cents, note, step_uuid=step_uuid)
    return PaidBack(account=payout.account, amount_cents=payout.amount_cents)


async def notify(paid: PaidBack, *, step_uuid: UUID) -> Mail:
    subject = f"{paid.amount_cents / 100:.2f} are on their way to you"
    await mail.send(paid.account, subject, step_uuid=step_uuid)
    return Mail(sent_to=paid.account, subject=subject)
