"""The college's bank: a ledger, which is down when an outage of the `bank` is planned."""

from __future__ import annotations

from uuid import UUID

from app import outages
from app.database import connect
from tasker_core.errors import RetryableError


async def book(account: str, amount_cents: int, note: str, *, step_uuid: UUID) -> None:
    """Move money, once for a step however often it runs.

    Raises:
        RetryableError: The bank does not answer.
    """
    if await outages.is_down("bank"):
        raise RetryableError("the bank does not answer", error_code="BANK_UNAVAILABLE")
    async with connect() as conn:
        await conn.execute(
            "insert into campus.ledger (step_uuid, account, amount_cents, note) "
            "values ($1, $2, $3, $4) on conflict (step_uuid) do nothing",
            step_uuid,
            account,
            amount_cents,
            note,
        )
