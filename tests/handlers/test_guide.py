"""Handlers as an application writes them, and tests as it writes them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from unittest.mock import MagicMock

from pydantic import BaseModel

from tasker_core import ErrorType, StepContext, StepHandler, StepHandlerResult
from tasker_core.errors import PermanentError
from tasker_core.handlers.bound import HandlerDefinition
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.handlers.result import result_from_return
from tasker_core.step_handler.functional import depends_on, inputs, step_handler


class PriceOrderHandler(StepHandler):
    handler_name = "price_order"
    handler_version = "1.0.0"

    TAX_RATE = 0.1

    def call(self, context: StepContext) -> StepHandlerResult:
        lines = context.get_input("lines") or context.get_input("order_lines")
        if not lines or not isinstance(lines, list):
            return StepHandlerResult.failure(
                message="The order has no lines",
                error_type=ErrorType.VALIDATION_ERROR,
                retryable=False,
                error_code="NO_LINES",
            )
        subtotal = round(sum(line["count"] * line["price"] for line in lines), 2)
        return StepHandlerResult.success(
            result={
                "subtotal": subtotal,
                "total": round(subtotal * (1 + self.TAX_RATE), 2),
                "priced_at": datetime.now(UTC).isoformat(),
            },
            metadata={"lines_priced": len(lines)},
        )


class ShipOrderHandler(StepHandler):
    handler_name = "ship_order"

    def call(self, context: StepContext) -> StepHandlerResult:
        priced = context.get_dependency_result("price_order")
        paid = context.get_dependency_result("take_payment")
        if priced["total"] > paid["amount"]:
            return self.failure("Not paid in full", ErrorType.PERMANENT_ERROR, retryable=False)
        return self.success({"shipment": f"SHP-{uuid.uuid4().hex[:8]}"})


LINES = [{"count": 2, "price": 20.0}, {"count": 1, "price": 5.5}]


def test_a_class_handler_runs_with_a_real_context():
    """Input, result, metadata and failure are what the handler said."""
    done = PriceOrderHandler().call(StepContext.for_testing(input_data={"lines": LINES}))
    failed = PriceOrderHandler().call(StepContext.for_testing())

    assert done.success is True
    assert done.result is not None
    assert done.result["total"] == 50.05
    assert done.metadata == {"lines_priced": 2}
    assert failed.success is False
    assert (failed.error_type, failed.error_code, failed.retryable) == (
        "validation_error",
        "NO_LINES",
        False,
    )


def test_a_class_handler_runs_with_a_mock():
    """A `MagicMock` whose methods take one argument stands in for the context."""
    context = MagicMock()
    context.get_input = MagicMock(side_effect=lambda key: LINES if key == "order_lines" else None)
    context.get_dependency_result = MagicMock(
        side_effect=lambda step: {
            "price_order": {"total": 50.05},
            "take_payment": {"amount": 50.05},
        }.get(step)
    )

    priced, shipped = PriceOrderHandler().call(context), ShipOrderHandler().call(context)

    assert priced.success is True
    assert shipped.success is True
    assert shipped.result is not None
    assert shipped.result["shipment"].startswith("SHP-")


class OrderInput(BaseModel):
    customer: str
    priority: int = 5


class Price(BaseModel):
    total: float


class Invoice(BaseModel):
    customer: str
    amount: float
    priority: int


@step_handler("make_invoice")
@depends_on(price=("price_order", Price))
@inputs(OrderInput)
def make_invoice(price: Price | None, inputs: OrderInput, context: StepContext) -> Invoice:
    if price is None:
        raise PermanentError("The order has no price")
    return Invoice(customer=inputs.customer, amount=price.total, priority=inputs.priority)


def run(callable_name: str, context: StepContext) -> StepHandlerResult:
    """Run a handler as a worker does."""
    registry = HandlerRegistry()
    registry.register(PriceOrderHandler)
    found = registry.find(HandlerDefinition(callable_name), strict=True)
    assert found is not None
    return result_from_return(found.run(context))


def test_a_function_handler_takes_and_gives_models():
    """Typed in, typed out, and still a function that a test can call."""
    context = StepContext.for_testing(
        input_data={"customer": "Ada"}, dependency_results={"price_order": {"total": 50.05}}
    )

    assert run("make_invoice", context).result == {
        "customer": "Ada",
        "amount": 50.05,
        "priority": 5,
    }
    assert make_invoice(Price(total=1), OrderInput(customer="Ada"), context).amount == 1


def test_a_function_handler_fails_in_words():
    """A missing dependency and a missing input each fail the step for good."""
    no_price = run("make_invoice", StepContext.for_testing(input_data={"customer": "Ada"}))
    no_customer = run(
        "make_invoice", StepContext.for_testing(dependency_results={"price_order": {"total": 1}})
    )

    assert (no_price.error_type, no_price.retryable) == ("permanent_error", False)
    assert no_price.error_message == "The order has no price"
    assert (no_customer.error_type, no_customer.retryable) == ("validation_error", False)
    assert "customer: Input should be a valid string" in (no_customer.error_message or "")
