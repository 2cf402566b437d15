"""Class handlers: name, version, and two ways to say how it went."""

from __future__ import annotations

import pytest

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.result import ErrorType, StepHandlerResult


class Charge(StepHandler):
    handler_name = "charge"
    handler_version = "2.1.0"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"charged": context.get_input("amount")})


class Nameless(StepHandler):
    async def call(self, context: StepContext) -> StepHandlerResult:
        return self.failure("no", ErrorType.TIMEOUT, retryable=False, error_code="NO")


def test_a_handler_has_a_name_and_a_version():
    """Without a name of its own it goes by its class's."""
    assert (Charge().name, Charge().version) == ("charge", "2.1.0")
    assert (Nameless().name, Nameless().version) == ("Nameless", "1.0.0")
    assert repr(Charge()) == "Charge(name='charge', version='2.1.0')"


def test_a_handler_must_say_what_it_does():
    """A class without `call` cannot be made."""
    with pytest.raises(TypeError, match="abstract"):
        StepHandler()  # type: ignore[abstract]


def test_defaults_promise_little():
    """Plain work, and no rules for the configuration."""
    assert Charge().capabilities == ["process"]
    assert Charge().config_schema() is None


async def test_both_helpers_make_results():
    """`self.success` and `self.failure` do what the factories do, in sync and async."""
    done = Charge().call(StepContext.for_testing(input_data={"amount": 3}))
    failed = await Nameless().call(StepContext.for_testing())

    assert (done.success, done.result) == (True, {"charged": 3})
    assert (failed.success, failed.error_type, failed.error_code) == (False, "timeout", "NO")
    assert failed.retryable is False
    assert Charge().success().result == {}
    assert Charge().failure("x").error_type == "handler_error"
