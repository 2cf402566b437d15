"""How many microseconds does a handler call through the worker cost, over a bare call?

    python benchmarks/call.py [--rounds N] [--json]

The worker's part of a step, without the database: from the claimed row to the finished
attempt. That is the context, the call, the reading of what it returned, its encoding. What
the database, the driver and the threads add is in linear.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel

from benchmarks.harness import Answer, show
from tasker_core import StepContext, StepHandler, StepHandlerResult
from tasker_core.db.connect import Database
from tasker_core.engine.claim import Claim
from tasker_core.engine.ids import new_task_uuid, new_uuid
from tasker_core.handlers.bound import HandlerDefinition, bind
from tasker_core.handlers.result import result_from_return
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.templates.load import parse_template
from tasker_core.worker.attempt import Attempt
from tasker_core.worker.lookup import Lookup
from tasker_core.worker.plan import StepPlan
from tasker_core.worker.transaction import Transactions

CALLS = 20_000

TEMPLATE = """
name: bench
namespace_name: bench
version: 1.0.0
steps:
  - {name: cart, handler: {callable: cart}}
  - {name: total, handler: {callable: total}, dependencies: [cart]}
"""


def work(quantity: int, price: float) -> dict[str, float]:
    """Do what the handlers do; the bare call."""
    return {"total": quantity * price}


class ClassStyle(StepHandler):
    """Reads an input and a result."""

    handler_name = "total"

    def call(self, context: StepContext) -> StepHandlerResult:
        cart = context.get_dependency_result("cart")
        return self.success(work(context.get_input("quantity"), cart["price"]))


@step_handler("total")
@depends_on(cart="cart")
@inputs("quantity")
def function_style(cart: dict[str, float], quantity: int) -> dict[str, float]:
    """Gets an input and a result."""
    return work(quantity, cart["price"])


class Cart(BaseModel):
    """The result before."""

    price: float


class Order(BaseModel):
    """The inputs."""

    quantity: int


@step_handler("total")
@depends_on(cart=("cart", Cart))
@inputs(Order)
def function_with_models(cart: Cart, inputs: Order) -> dict[str, float]:
    """Gets both as pydantic models."""
    return work(inputs.quantity, cart.price)


def attempt_of(handler: object) -> Attempt:
    """Make a claimed step for this handler."""
    template = parse_template(TEMPLATE).template
    assert template is not None
    plan = StepPlan(
        handler=bind(handler, HandlerDefinition("total")),
        callable="total",
        template=template,
        template_step="total",
    )
    claim = Claim(
        task_uuid=new_task_uuid(),
        step_no=2,
        attempt=1,
        name="total",
        template_step="total",
        template_uuid=new_uuid(),
        forgiven=0,
        max_attempts=3,
        enqueued_at=datetime.now(UTC),
        claimed_at=datetime.now(UTC),
        traceparent=None,
        correlation_id=new_uuid(),
        parent_correlation_id=None,
        context='{"quantity": 3}',
        parent_results='{"cart": {"price": 9.5}}',
        inputs=None,
        checkpoint=None,
    )
    return Attempt(claim, plan, 0.0)


def through_worker(handler: object) -> Callable[[], object]:
    """Give what the worker does for one attempt of a sync handler."""
    attempt, database = attempt_of(handler), Database("postgresql://nowhere")
    lookup = Lookup(database)
    transactions = Transactions(database, new_uuid(), lookup)
    assert attempt.plan.handler is not None
    run = attempt.plan.handler.run

    def one() -> object:
        result = result_from_return(run(attempt.context(lookup, transactions)))
        return attempt.finished(result, 0.001, 4_000_000)

    return one


def microseconds(call: Callable[[], object]) -> float:
    """Time many calls; give the microseconds of one."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1e6


async def main(rounds: int, as_json: bool) -> None:
    """Measure and print."""
    kinds: dict[str, Callable[[], object]] = {
        "class": through_worker(ClassStyle),
        "function": through_worker(function_style),
        "function, pydantic models": through_worker(function_with_models),
    }
    bare: list[float] = []
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        bare.append(microseconds(lambda: work(3, 9.5)))
        for kind, call in kinds.items():
            costs[kind].append(microseconds(call) - bare[-1])
    answers = [Answer(f"over a bare call, {kind}", values, "µs") for kind, values in costs.items()]
    show([Answer("bare call", bare, "µs"), *answers], as_json=as_json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.rounds, chosen.json))
