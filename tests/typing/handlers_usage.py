"""Handlers as users write them, for mypy --strict; nothing here is run.

Every line that mypy could object to is a promise about the public types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

import asyncpg
import psycopg
import sqlalchemy
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import tasker_core
from tasker_core import (
    ErrorType,
    HandlerRegistry,
    PermanentError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    StepTimeoutError,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.registry import HandlerDefinition, RegistryResolver
from tasker_core.step_handler.functional import FunctionalHandler
from tasker_core.types import StepContext as SameContext


class Charge(StepHandler):
    handler_name = "charge"
    handler_version = "2.0.0"

    def call(self, context: StepContext) -> StepHandlerResult:
        if context.get_input("amount") is None:
            return StepHandlerResult.failure(
                message="no amount",
                error_type=ErrorType.VALIDATION_ERROR,
                retryable=False,
                error_code="NO_AMOUNT",
            )
        return StepHandlerResult.success(result={"charged": 1}, metadata={"tries": 1})

    def refund(self, context: SameContext) -> StepHandlerResult:
        return self.success({"refunded": 1})


class ChargeLater(StepHandler):
    handler_name = "charge_later"

    async def call(self, context: StepContext) -> StepHandlerResult:
        raise StepTimeoutError("too slow", retry_after=5)


class Receipt(StepHandlerResult):
    pass


context = StepContext.for_testing(input_data={"amount": 3}, is_cancelled=True)
assert_type(context.is_cancelled, bool)
context.raise_if_cancelled()
result = Charge().call(StepContext.for_testing(input_data={"amount": 3}))
assert_type(result, StepHandlerResult)
assert_type(result.success, bool)
assert_type(result.retry_after_seconds, float | None)
assert_type(Receipt.success({"a": 1}), Receipt)
assert_type(Receipt.failure("no"), Receipt)
assert_type(StepContext().attempt, int)
assert_type(StepContext().input_data, dict[str, Any])
StepHandlerResult(is_success=True, result={})


class Cart(BaseModel):
    total: float


class Order(BaseModel):
    customer: str


@step_handler("invoice", version="1.1.0")
@depends_on(cart=("validate_cart", Cart), stock="reserve_stock", payment=Cart)
@inputs(Order)
def invoice(cart: Cart | None, stock: Any, payment: Cart, inputs: Order) -> dict[str, float]:
    if cart is None:
        raise PermanentError("no cart", error_code="NO_CART")
    return {"total": cart.total}


@tasker_core.step_handler("invoice_later")
@inputs("customer", "email")
async def invoice_later(customer: str, email: str) -> str:
    return customer + email


decorated: Callable[[Cart | None, Any, Cart, Order], dict[str, float]] = invoice
assert_type(invoice(None, 1, Cart(total=1), Order(customer="Ada")), dict[str, float])

some_function: Callable[..., Any] = invoice
if isinstance(some_function, FunctionalHandler):
    assert_type(some_function.handler_class, type[StepHandler])


class Payments(RegistryResolver):
    name = "payments"
    priority = 20
    prefix = "pay:"

    def resolve_handler(self, definition: HandlerDefinition, config: dict[str, Any]) -> Any:
        return Charge()


registry = HandlerRegistry.instance()
registry.register(Charge)
registry.register("invoice", invoice)
registry.resolver_chain.add_resolver(Payments())
assert_type(tasker_core.__version__, str)


async def writes_on_the_loop(context: StepContext, engine: AsyncEngine) -> None:
    async with context.transaction() as own:
        assert_type(own, asyncpg.Connection[asyncpg.Record])
    async with context.transaction(engine) as conn:
        assert_type(conn, AsyncConnection)


def writes_in_a_thread(context: StepContext, engine: sqlalchemy.Engine) -> None:
    with context.transaction() as own:
        assert_type(own, psycopg.Connection)
    with context.transaction(engine) as conn:
        assert_type(conn, sqlalchemy.Connection)
