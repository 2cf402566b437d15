"""Resolvers are asked in order, and the first that knows decides."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from tasker_core.errors import ResolverNotFoundError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import HandlerDefinition, MethodDispatchWrapper
from tasker_core.handlers.chain import ResolverChain
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.functional import step_handler
from tasker_core.handlers.resolvers import (
    BaseResolver,
    ClassLookupResolver,
    DeclarationResolver,
    ExplicitMappingResolver,
    RegistryResolver,
)


class Charge(StepHandler):
    handler_name = "charge"

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config

    def call(self, context: StepContext) -> Any:
        return {"by": "call"}

    def refund(self, context: StepContext) -> Any:
        return {"by": "refund"}


class Broken(Charge):
    def __init__(self) -> None:
        raise RuntimeError("no gateway")


class Payments(RegistryResolver):
    name = "payments"
    prefix = "pay:"

    def resolve_handler(self, definition: HandlerDefinition, config: dict[str, Any]) -> Any:
        return None if definition.callable == "pay:none" else Charge(config)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> ResolverChain:
    import sys

    monkeypatch.setitem(sys.modules, "chain_target", sys.modules[__name__])
    return ResolverChain.default()


# --- each kind of name --------------------------------------------------------------


def test_registered_names_may_stand_for_four_things(chain: ResolverChain):
    """A class and a decorated function are made, a factory is called, an object is shared."""

    @step_handler("chain.function")
    def function() -> None: ...

    shared = Charge()
    chain.register("class", Charge)
    chain.register("function", function)
    chain.register("factory", lambda config: Charge({"made with": config}))
    chain.register("shared", shared)

    def resolve(name: str) -> Any:
        return chain.resolve(HandlerDefinition(name, initialization={"a": 1}), {"b": 2})

    assert resolve("class").config == {"a": 1}
    assert resolve("class") is not resolve("class")
    assert resolve("function").name == "chain.function"
    assert resolve("factory").config == {"made with": {"b": 2}}
    assert resolve("shared") is shared


def test_dotted_paths_lead_to_classes(chain: ResolverChain):
    """The last part begins with a capital letter, and the class can be called as a handler."""
    resolver = ClassLookupResolver()

    assert isinstance(chain.resolve(HandlerDefinition("chain_target.Charge")), Charge)
    for path in ("chain_target.Missing", "nowhere.at_all.Charge", "collections.OrderedDict"):
        assert resolver.can_resolve(HandlerDefinition(path))
        assert chain.resolve(HandlerDefinition(path)) is None
    for path in ("Charge", "a.charge", "a b.Charge", ".Charge", "a.Charge()"):
        assert not resolver.can_resolve(HandlerDefinition(path))


def test_decorated_functions_are_found_by_name_and_by_path(chain: ResolverChain):
    """A generated template names the function's path, a written one its name."""
    resolver = DeclarationResolver()

    assert resolver.resolve(HandlerDefinition("chain.decorated")).name == "chain.decorated"
    assert resolver.resolve(HandlerDefinition("chain_target.decorated")).name == "chain.decorated"
    assert resolver.resolve(HandlerDefinition("chain_target.Charge")) is None
    assert resolver.resolve(HandlerDefinition("chain.nothing")) is None
    assert not resolver.can_resolve(HandlerDefinition("nothing"))
    assert "chain.decorated" in resolver.registered_callables()


@step_handler("chain.decorated")
def decorated() -> None: ...


def test_resolvers_of_your_own_go_by_prefix_or_pattern():
    """Without either they never answer; without `resolve_handler` they say so."""

    class ByPattern(RegistryResolver):
        _name = "by_pattern"
        _priority = 7
        pattern = re.compile(r"v\d+")

    class Idle(RegistryResolver):
        pass

    by_pattern = ByPattern()
    assert (by_pattern.name, by_pattern.priority) == ("by_pattern", 7)
    assert (Idle().name, Idle().priority) == ("custom_resolver", 50)
    assert by_pattern.can_resolve(HandlerDefinition("v2:charge"))
    assert not by_pattern.can_resolve(HandlerDefinition("charge v2"))
    assert not Idle().can_resolve(HandlerDefinition("anything"))
    with pytest.raises(NotImplementedError, match=r"resolve_handler\(\) must be implemented"):
        by_pattern.resolve(HandlerDefinition("v2"))
    assert Payments().resolve(HandlerDefinition("pay:card")).config == {}


# --- the order ----------------------------------------------------------------------


def test_the_first_that_knows_decides(chain: ResolverChain):
    """Registered names, then resolvers of your own, then paths; a decline passes it on."""
    chain.add_resolver(Payments())

    assert chain.list_resolvers() == [
        ("explicit_mapping", 10),
        ("payments", 50),
        ("class_lookup", 100),
    ]
    assert isinstance(chain.resolve(HandlerDefinition("pay:card")), Charge)
    shared = Charge()
    chain.register("pay:card", shared)
    assert chain.resolve(HandlerDefinition("pay:card")) is shared
    assert chain.resolve(HandlerDefinition("pay:none")) is None


def test_a_named_resolver_is_asked_alone(chain: ResolverChain):
    """A hint leaves no second choice, and an unknown one is an error."""
    chain.add_resolver(Payments()).register("charge", Charge)

    def hinted(name: str, resolver: str) -> HandlerDefinition:
        return HandlerDefinition(name, resolver=resolver)

    assert chain.resolve(hinted("charge", "explicit_mapping")) is not None
    assert chain.resolve(hinted("charge", "payments")) is None
    assert chain.can_resolve(hinted("charge", "payments")) is False
    assert chain.can_resolve(hinted("charge", "absent")) is False
    with pytest.raises(ResolverNotFoundError, match="no resolver 'absent'; known: explicit"):
        chain.resolve(hinted("charge", "absent"))


def test_a_chain_can_be_changed():
    """Names are unique: a second resolver of a name takes the place of the first."""
    chain = ResolverChain.default().add_resolver(Payments())
    again = Payments()

    assert chain.add_resolver(again) is chain
    assert len(chain) == 3
    assert chain.get_resolver("payments") is again
    assert chain.remove_resolver("payments") is True
    assert chain.remove_resolver("payments") is False
    assert chain.resolver_names == ["explicit_mapping", "class_lookup"]
    chain.register("charge", Charge)
    assert chain.registered_callables() == ["charge"]
    assert chain.chain_info()[0] == {
        "name": "explicit_mapping",
        "priority": 10,
        "callables": ["charge"],
    }
    assert isinstance(chain.explicit_resolver, ExplicitMappingResolver)
    assert chain.explicit_resolver.unregister("charge") is True
    assert chain.explicit_resolver.unregister("charge") is False
    with pytest.raises(RuntimeError, match="No ExplicitMappingResolver in chain"):
        ResolverChain().register("charge", Charge)


# --- methods, and what goes wrong ---------------------------------------------------


def test_methods_are_wrapped_once(chain: ResolverChain):
    """The handler comes with `call` being the method that the template names."""
    chain.register("charge", Charge)
    definition = HandlerDefinition("charge", handler_method="refund")

    handler = chain.resolve(definition)

    assert handler.call(StepContext.for_testing()) == {"by": "refund"}
    assert isinstance(handler.unwrap(), Charge)
    assert chain.wrap_for_method_dispatch(handler, definition) is handler
    assert isinstance(chain.wrap_for_method_dispatch(handler, HandlerDefinition("charge")), Charge)


@pytest.mark.parametrize("method", ["missing", "_private"])
def test_a_missing_method_is_no_handler(
    chain: ResolverChain, method: str, caplog: pytest.LogCaptureFixture
):
    """The log says why."""
    chain.register("charge", MethodDispatchWrapper(Charge(), "refund"))

    assert chain.resolve(HandlerDefinition("charge", handler_method=method)) is None
    assert f"does not have method '{method}'" in caplog.text


def test_a_handler_that_cannot_be_made_is_logged_with_its_traceback(
    chain: ResolverChain, caplog: pytest.LogCaptureFixture
):
    """It resolves to None, and the reason is not lost."""
    chain.register("broken", Broken)

    with caplog.at_level(logging.ERROR):
        assert chain.resolve(HandlerDefinition("broken")) is None

    assert "no gateway" in caplog.text


def test_a_resolver_that_fails_does_not_stop_the_others(
    chain: ResolverChain, caplog: pytest.LogCaptureFixture
):
    """Looking for a handler goes on with the next resolver."""

    class Failing(BaseResolver):
        name = "failing"
        priority = 1

        def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
            return True

        def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
            raise RuntimeError("no connection")

    chain.add_resolver(Failing()).register("charge", Charge)

    assert chain.find(HandlerDefinition("charge")) is Charge
    assert "no connection" in caplog.text
