"""Look up what is in the cart, and what it costs today."""

from __future__ import annotations

from collections import Counter

from shop.database import connect
from shop.models import Cart, Line
from shop.pace import pause
from tasker_core import ErrorType, StepContext, StepHandler, StepHandlerResult


class ValidateCart(StepHandler):
    """Only reads, so it may run as often as it likes.

    The prices that it found are in its result: the customer pays them, even if the
    shop changes them while the order is under way.
    """

    handler_name = "validate_cart"

    async def call(self, context: StepContext) -> StepHandlerResult:
        await pause()
        wanted: Counter[str] = Counter()
        for item in context.get_input("items") or ():
            wanted[item["sku"]] += item["quantity"]
        if not wanted:
            return self._refuse("EMPTY_CART", "the cart is empty")

        async with connect() as conn:
            products = await conn.fetch(
                "select sku, name, price_cents from shop.products "
                "where sku = any ($1) order by sku",
                list(wanted),
            )
        unknown = set(wanted) - {product["sku"] for product in products}
        if unknown:
            return self._refuse("UNKNOWN_SKU", f"the shop does not sell {', '.join(unknown)}")

        lines = [Line(**product, quantity=wanted[product["sku"]]) for product in products]
        total_cents = sum(line.quantity * line.price_cents for line in lines)
        return self.success(Cart(lines=lines, total_cents=total_cents).model_dump())

    def _refuse(self, error_code: str, message: str) -> StepHandlerResult:
        return self.failure(
            message, ErrorType.VALIDATION_ERROR, retryable=False, error_code=error_code
        )
