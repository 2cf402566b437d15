"""A payment gateway as one could be bought, but for its tokens.

================  ==========================================================
`tok_declined`    is declined
`tok_flaky`       fails the first time that an order is charged
anything else     is charged
================  ==========================================================

Like real ones it takes an idempotency key: who repeats a call with the same key gets the
same charge, and no second one.
"""

from __future__ import annotations

from uuid import uuid4

from shop.database import connect


class GatewayUnavailable(Exception):
    """The gateway is down; it may work in a moment."""


class CardDeclined(Exception):
    """The card is no good."""


async def charge(token: str, amount_cents: int, *, idempotency_key: str) -> str:
    """Charge a card, and give the charge's id."""
    if token == "tok_declined":
        raise CardDeclined(f"the card was declined for {amount_cents / 100:.2f}")
    async with connect() as conn:
        call = await conn.fetchrow(
            "insert into shop.gateway_calls (idempotency_key, charge_id, call_count) "
            "values ($1, $2, 1) on conflict (idempotency_key) "
            "do update set call_count = gateway_calls.call_count + 1 "
            "returning charge_id, call_count",
            idempotency_key,
            f"ch_{uuid4().hex[:16]}",
        )
    if token == "tok_flaky" and call["call_count"] == 1:
        raise GatewayUnavailable("the payment gateway answered 503")
    return call["charge_id"]
