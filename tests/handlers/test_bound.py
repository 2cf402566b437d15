"""What a worker runs: a fresh handler, the right method, the right configuration."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest

from tasker_core.errors import ResolutionError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import (
    BoundHandler,
    HandlerDefinition,
    MethodDispatchWrapper,
    bind,
    make,
)
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.functional import step_handler


class Charge(StepHandler):
    handler_name = "charge"
    handler_version = "2.0.0"

    def __init__(self) -> None:
        self.calls = 0

    def call(self, context: StepContext) -> Any:
        self.calls += 1
        return {"calls": self.calls}

    def refund(self, context: StepContext) -> Any:
        return {"refunded": context.get_input("amount")}

    async def capture(self, context: StepContext) -> Any:
        return {"captured": True}

    def _secret(self, context: StepContext) -> Any:
        return {}


class Configured(StepHandler):
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config

    def call(self, context: StepContext) -> Any:
        return self.config


def bound(entry: Any, method: str | None = None) -> BoundHandler:
    return bind(entry, HandlerDefinition("x", handler_method=method))


CONTEXT = StepContext.for_testing(input_data={"amount": 3}, step_config={"url": "x"})


def test_each_attempt_has_its_own_instance():
    """What one attempt leaves on `self` is not seen by the next."""
    charge = bound(Charge)

    assert (charge.name, charge.version, charge.is_async) == ("charge", "2.0.0", False)
    assert [charge.run(CONTEXT), charge.run(CONTEXT)] == [{"calls": 1}, {"calls": 1}]


async def test_other_methods_can_be_entry_points():
    """`handler.method` decides what runs, and whether it runs on the event loop."""
    assert bound(Charge, "refund").run(CONTEXT) == {"refunded": 3}
    capture = bound(Charge, "capture")
    assert capture.is_async is True
    assert await capture.run(CONTEXT) == {"captured": True}


def test_configuration_goes_to_constructors_that_take_it():
    """Also if the parameter has a default."""
    assert bound(Configured).run(CONTEXT) == {"url": "x"}
    assert isinstance(make(Configured, {"a": 1}), Configured)
    assert make(Configured, {"a": 1}).config == {"a": 1}
    assert make(Charge, {"a": 1}).calls == 0


def test_handlers_without_a_name_go_by_what_the_template_calls_them():
    """There is always a name to record."""
    assert bound(Configured).name == "x"


def test_decorated_functions_are_bound_as_their_class():
    """Sync or async is read from the function."""

    @step_handler("bound.sync")
    def sync() -> dict[str, int]:
        return {"a": 1}

    @step_handler("bound.async")
    async def later() -> None: ...

    assert (bound(sync).name, bound(sync).is_async) == ("bound.sync", False)
    assert bound(sync).run(CONTEXT).result == {"a": 1}
    assert bound(later).is_async is True


def test_factories_are_called_once_an_attempt():
    """A function from the configuration to a handler."""
    charge = bound(lambda config: Configured(config))

    assert charge.run(CONTEXT) == {"url": "x"}


def test_shared_handlers_are_shared():
    """An object that was registered serves all attempts."""
    charge = bound(Charge())

    assert [charge.run(CONTEXT), charge.run(CONTEXT)] == [{"calls": 1}, {"calls": 2}]


class Abstract(StepHandler):
    handler_name = "abstract"


class Demanding(Charge):
    def __init__(self, gateway: str) -> None: ...


def broken_factory(config: Any) -> Any:
    raise ValueError("no gateway")


@pytest.mark.parametrize(
    ("entry", "method", "message"),
    [
        (Charge, "missing", "does not have method 'missing'"),
        (Charge, "_secret", "private"),
        (Charge, "__init__", "private"),
        (Charge, "handler_name", "does not have method 'handler_name'"),
        (Charge(), "missing", "does not have method 'missing'"),
        (lambda config: Charge(), "missing", "does not have method 'missing'"),
        (Abstract, None, "abstract"),
        (Demanding, None, "must take no arguments, or only config"),
        (broken_factory, None, "ValueError: no gateway"),
        (3, None, "does not have method 'call'"),
    ],
)
def test_what_cannot_run_is_refused_with_a_reason(entry: Any, method: str | None, message: str):
    """Before any step is claimed, not at its first attempt."""
    with pytest.raises(ResolutionError, match=message):
        bound(entry, method)


def test_a_wrapper_calls_another_method():
    """Its `call` is the method, everything else is the handler's own."""
    handler = Charge()
    wrapper = MethodDispatchWrapper(handler, "refund")

    assert wrapper.call(CONTEXT) == {"refunded": 3}
    assert (wrapper.handler, wrapper.unwrap(), wrapper.target_method) == (
        handler,
        handler,
        "refund",
    )
    assert (wrapper.handler_version, wrapper.name) == ("2.0.0", "charge")
    assert inspect.iscoroutinefunction(MethodDispatchWrapper(handler, "capture").call)
    assert copy.copy(wrapper).target_method == "refund"
    with pytest.raises(AttributeError, match="does not have method 'missing'"):
        MethodDispatchWrapper(handler, "missing")


def test_definitions_are_read_from_templates():
    """The block's `method` is the method; what is missing or null is the default."""
    full = HandlerDefinition.from_dict(
        {"callable": "charge", "method": "refund", "resolver": "mine", "initialization": {"a": 1}}
    )
    empty = HandlerDefinition.from_dict(None)

    assert full == HandlerDefinition("charge", "refund", "mine", {"a": 1})
    assert (full.uses_method_dispatch(), full.has_resolver_hint()) == (True, True)
    assert (
        HandlerDefinition.from_dict({"callable": "c", "handler_method": "m"}).handler_method == "m"
    )
    assert HandlerDefinition.from_dict({"callable": None, "initialization": None}) == empty
    assert empty == HandlerDefinition.from_callable("")
    assert (empty.effective_method(), empty.uses_method_dispatch()) == ("call", False)
    assert HandlerDefinition("c", "call").uses_method_dispatch() is False
    assert empty.has_resolver_hint() is False
