"""Take the goods out of stock."""

from __future__ import annotations

from shop.database import connect
from shop.pace import pause
from tasker_core import BusinessLogicError, StepContext, StepHandler, StepHandlerResult


class UpdateInventory(StepHandler):
    handler_name = "update_inventory"

    async def call(self, context: StepContext) -> StepHandlerResult:
        await pause()
        lines = context.get_dependency_field("validate_cart", "lines")
        reserved = {}
        # All lines or none. They come sorted by sku, so that two orders for the same goods
        # wait for each other and never in a ring.
        async with connect() as conn, conn.transaction():
            for line in lines:
                sku, quantity = line["sku"], line["quantity"]
                is_new = await conn.fetchval(
                    "insert into shop.reservations (task_uuid, sku, quantity) "
                    "values ($1, $2, $3) on conflict (task_uuid, sku) do nothing returning true",
                    context.task_uuid,
                    sku,
                    quantity,
                )
                if is_new:  # otherwise an attempt before this one took it
                    await self._take(conn, sku, quantity)
                reserved[sku] = quantity
        return self.success({"reserved": reserved})

    async def _take(self, conn, sku, quantity):
        has_enough = await conn.fetchval(
            "update shop.products set stock = stock - $2 "
            "where sku = $1 and stock >= $2 returning true",
            sku,
            quantity,
        )
        if not has_enough:
            raise BusinessLogicError(f"not enough of {sku} in stock", error_code="OUT_OF_STOCK")
