"""Decorated functions are handlers, and stay functions."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core import errors
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.functional import (
    DeclarationTable,
    FunctionalHandler,
    FunctionHandler,
    declared,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.handlers.result import StepHandlerResult, result_from_exception


def run(function: Any, context: Any = None) -> Any:
    return function.handler_class().call(context or StepContext.for_testing())


# --- what a decorated function is ---------------------------------------------------


def test_the_function_itself_is_given_back():
    """It can be called like any other, and shows the class behind it under two names."""

    @step_handler("functional.add", version="2.0.0")
    @inputs("a")
    def add(a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    assert add(1, b=2) == 3
    assert isinstance(add, FunctionalHandler)
    assert add._handler_class is add.handler_class
    made = add.handler_class
    assert issubclass(made, StepHandler)
    assert (made.__name__, made.__doc__, made.__module__) == (
        "add",
        "Add two numbers.",
        __name__,
    )
    assert made.__qualname__.endswith("<locals>.add")
    assert (made().name, made().version) == ("functional.add", "2.0.0")


def test_what_was_declared_is_shown_on_the_function():
    """Tools can read steps, models and inputs from the function."""

    class Cart(pydantic.BaseModel):
        total: float

    @step_handler("functional.shown")
    @depends_on(cart=("validate_cart", Cart))
    @inputs("email")
    def shown(cart: Cart, email: str) -> None: ...

    assert shown._depends_on == {"cart": "validate_cart"}  # type: ignore[attr-defined]
    assert shown._dep_models == {"cart": Cart}  # type: ignore[attr-defined]
    assert shown._inputs == ["email"]  # type: ignore[attr-defined]
    assert shown._input_model is None  # type: ignore[attr-defined]


def test_a_name_is_needed():
    """The decorator without its parentheses says how to write it."""
    with pytest.raises(TypeError, match=r'write @step_handler\("a name"\)'):
        step_handler(lambda: None)  # type: ignore[arg-type]


def test_declared_functions_are_known_by_name():
    """A decorated function is in the table from then on."""

    @step_handler("functional.known")
    def known() -> None: ...

    assert declared.get("functional.known") is known.handler_class  # type: ignore[attr-defined]
    assert "functional.known" in declared.all()
    assert declared.get("functional.unknown") is None


def test_the_later_of_two_with_one_name_counts(caplog: pytest.LogCaptureFixture):
    """A name that is declared in two places is worth a warning; a reload is not."""
    table = DeclarationTable()

    def declare(place: str) -> type[FunctionHandler]:
        made = type("f", (FunctionHandler,), {"handler_name": "twice", "__module__": place})
        table.add(made)
        return made

    with caplog.at_level(logging.WARNING):
        declare("one")
        declare("one")
        assert not caplog.records
        last = declare("two")

    assert table.get("twice") is last
    assert "declared by one.f and again by two.f" in caplog.text


# --- calling it ---------------------------------------------------------------------


@given(st.permutations(["handler", "depends_on", "inputs", "more"]))
def test_decorators_may_stand_in_any_order(order: list[str]):
    """Every order of the decorators gives the same handler."""
    decorators: dict[str, Callable[[Any], Any]] = {
        "handler": step_handler("functional.any_order"),
        "depends_on": depends_on(cart="validate_cart"),
        "inputs": inputs("email"),
        "more": inputs("phone"),
    }

    def handle(cart: Any, email: Any, phone: Any) -> dict[str, Any]:
        return {"cart": cart, "email": email, "phone": phone}

    decorated = functools.reduce(lambda f, name: decorators[name](f), order, handle)
    context = StepContext.for_testing(
        input_data={"email": "a@b", "phone": "1"}, dependency_results={"validate_cart": {"n": 1}}
    )

    assert decorated is handle
    assert run(handle, context).result == {"cart": {"n": 1}, "email": "a@b", "phone": "1"}


async def test_async_functions_make_async_handlers():
    """`call` is a coroutine function, and its errors come back as results, too."""

    @step_handler("functional.async")
    @inputs("fail")
    async def handle(fail: bool | None) -> dict[str, int]:
        await asyncio.sleep(0)
        if fail:
            raise errors.PermanentError("no")
        return {"a": 1}

    assert asyncio.iscoroutinefunction(handle.handler_class.call)  # type: ignore[attr-defined]
    assert (await run(handle)).result == {"a": 1}
    failed = await run(handle, StepContext.for_testing(input_data={"fail": True}))
    assert (failed.success, failed.retryable) == (False, False)


@pytest.mark.parametrize("fail", [True, False])
async def test_awaitables_from_sync_functions_are_awaited(fail: bool):
    """A sync function may hand out a coroutine; its outcome is read when it is done."""

    async def later() -> dict[str, int]:
        if fail:
            raise ValueError("late")
        return {"a": 1}

    @step_handler("functional.later")
    def handle() -> Any:
        return later()

    result = await run(handle)

    assert result.success is not fail
    assert (result.result, result.error_message) == ((None, "late") if fail else ({"a": 1}, None))


def test_errors_come_back_as_results():
    """What the function raises is read by the rule for all handlers."""
    error = errors.RateLimitError("slow", error_code="LIMIT", retry_after=3)

    @step_handler("functional.raises")
    def handle() -> None:
        raise error

    assert run(handle) == result_from_exception(error)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_stops_a_process_is_not_held_back(stop: type[BaseException]):
    """Interrupts, exits and cancellations pass through."""

    @step_handler("functional.stops")
    def handle() -> None:
        raise stop

    with pytest.raises(stop):
        run(handle)


def test_results_may_be_made_by_hand():
    """A function may return a `StepHandlerResult`."""

    @step_handler("functional.by_hand")
    def handle() -> StepHandlerResult:
        return StepHandlerResult.failure("no", retryable=False)

    assert run(handle).error_message == "no"


def test_a_stand_in_for_the_context_needs_two_methods():
    """Values are read with one positional argument, as mocks in tests expect."""
    context = MagicMock()
    context.get_input = MagicMock(side_effect=lambda key: {"email": "a@b"}.get(key))
    context.get_dependency_result = MagicMock(side_effect=lambda step: {"cart": {"n": 1}}[step])

    @step_handler("functional.mocked")
    @depends_on(cart="cart")
    @inputs("email")
    def handle(cart: dict[str, int], email: str, context: Any) -> dict[str, Any]:
        return {"cart": cart, "email": email}

    assert run(handle, context).result == {"cart": {"n": 1}, "email": "a@b"}


def test_wrapped_functions_keep_their_parameters():
    """Another decorator below or between may wrap the function, if it uses `functools.wraps`."""
    calls = itertools.count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            next(calls)
            return function(*args, **kwargs)

        return wrapper

    @step_handler("functional.wrapped")
    @counted
    @inputs("email")
    def handle(email: str) -> dict[str, str]:
        return {"email": email}

    context = StepContext.for_testing(input_data={"email": "a@b"})
    assert run(handle, context).result == {"email": "a@b"}
    assert next(calls) == 2


# --- mistakes -----------------------------------------------------------------------


def test_a_declared_name_without_a_parameter_is_refused():
    """The mistake is named when the module is imported, below and above `step_handler`."""
    expected = r"handler 'functional.typo', function handle\(\): 'kart' is declared"

    def handle(cart: Any = None) -> None: ...

    with pytest.raises(TypeError, match=expected):
        step_handler("functional.typo")(depends_on(kart="validate_cart")(handle))

    def handle(cart: Any = None) -> None: ...  # type: ignore[no-redef]

    with pytest.raises(TypeError, match=expected):
        inputs("kart")(step_handler("functional.typo")(handle))


def test_a_parameter_without_a_value_fails_the_step_for_good():
    """Trying again would not declare it, so the step fails at once and says what is missing."""

    @step_handler("functional.unmet")
    def handle(cart: Any) -> None: ...

    result = run(handle)

    assert (result.success, result.retryable) == (False, False)
    assert "nothing gives a value to cart" in result.error_message
