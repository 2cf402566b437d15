"""The registry knows what this process can run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasker_core.errors import HandlerLoadError, ResolutionError, ResolverNotFoundError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import HandlerDefinition
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.functional import step_handler
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.handlers.resolvers import RegistryResolver

Write = Callable[[dict[str, str]], str]


class Charge(StepHandler):
    handler_name = "charge"

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config

    def call(self, context: StepContext) -> Any:
        return {"config": self.config}

    async def refund(self, context: StepContext) -> Any:
        return {"refunded": True}


class Other(Charge):
    handler_name = "other"


@step_handler("registry.ship")
def ship() -> dict[str, int]:
    return {"shipped": 1}


class Payments(RegistryResolver):
    _name = "payments"
    prefix = "pay:"

    def resolve_handler(self, definition: HandlerDefinition, config: dict[str, Any]) -> Any:
        return Charge({**config, "for": definition.callable})


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


@pytest.fixture
def own_instance() -> Iterator[None]:
    HandlerRegistry.reset_instance()
    yield
    HandlerRegistry.reset_instance()


CONTEXT = StepContext.for_testing(step_config={"url": "x"})


# --- filling it ---------------------------------------------------------------------


def test_handlers_are_registered_by_name(registry: HandlerRegistry):
    """Under a given name or their own, classes and decorated functions alike."""
    registry.register("pay", Charge)
    registry.register(Charge)
    registry.register(ship)
    registry.register("send", ship)

    assert registry.list_handlers() == ["pay", "charge", "registry.ship", "send"]
    assert registry.handler_count() == 4
    assert registry.is_registered("pay")
    assert not registry.is_registered("other")
    assert registry.get_handler_class("pay") is Charge
    assert registry.get_handler_class("send") is ship.handler_class  # type: ignore[attr-defined]
    assert registry.get_handler_class("other") is None
    assert registry.unregister("pay") is True
    assert registry.unregister("pay") is False
    assert registry.resolve("pay") is None


@pytest.mark.parametrize("wrong", [object, "text", lambda context: None, Charge(), StepHandler])
def test_what_is_no_handler_is_refused(registry: HandlerRegistry, wrong: Any):
    """Neither a subclass of `StepHandler` nor a decorated function; or without any name."""
    with pytest.raises(ValueError, match=r"is not a handler|has no handler_name"):
        registry.register(wrong)


def test_a_name_that_changes_hands_is_worth_a_warning(
    registry: HandlerRegistry, caplog: pytest.LogCaptureFixture
):
    """Registering the same handler again is not."""
    with caplog.at_level(logging.WARNING):
        registry.register("pay", Charge)
        registry.register("pay", Charge)
        assert not caplog.records
        registry.register("pay", Other)

    assert "handler 'pay' was" in caplog.text
    assert registry.get_handler_class("pay") is Other


def test_a_package_is_discovered_whole(registry: HandlerRegistry, package: Write):
    """Handlers that are exported twice count once; broken modules are kept as errors."""
    name = package(
        {
            "__init__.py": "from .good import *",
            "good.py": """
                from tasker_core import StepHandler, step_handler

                class One(StepHandler):
                    handler_name = "registry.one"
                    def call(self, context): ...

                @step_handler("registry.two")
                def two(): ...
            """,
            "bad.py": "1 / 0",
            "worse.py": "import nothing_of_that_name",
        }
    )

    assert registry.discover_handlers(name) == 2
    assert sorted(registry.list_handlers()) == ["registry.one", "registry.two"]
    assert [error.module for error in registry.load_errors] == [f"{name}.bad", f"{name}.worse"]
    assert "ZeroDivisionError" in registry.load_errors[0].traceback
    assert registry.discover_handlers(name) == 2
    assert len(registry.load_errors) == 2


def test_a_package_that_is_not_there_is_a_load_error(registry: HandlerRegistry):
    """Nothing is registered, and the reason is kept."""
    assert registry.discover_handlers("no_such_handlers") == 0
    assert "No module named 'no_such_handlers'" in str(registry.load_errors[0])


def test_a_repaired_module_is_no_longer_an_error(
    registry: HandlerRegistry, package: Write, tmp_path: Path
):
    """Discovering again clears what has become good."""
    name = package({"late.py": "1 / 0"})
    registry.discover_handlers(name)
    (tmp_path / name / "late.py").write_text("")

    registry.discover_handlers(name)

    assert registry.load_errors == ()


def test_a_function_that_could_not_be_called_is_a_load_error(
    registry: HandlerRegistry, package: Write
):
    """A parameter that nothing gives a value to is reported at the start."""
    name = package(
        {
            "__init__.py": """
                from tasker_core import step_handler

                @step_handler("registry.unmet")
                def unmet(cart): ...
            """
        }
    )

    registry.discover_handlers(name)

    (error,) = registry.load_errors
    assert error.module == f"{name}.unmet"
    assert "nothing gives a value to cart" in error.reason


def test_discovery_can_be_narrowed(registry: HandlerRegistry, package: Write):
    """With a base class, only its subclasses are registered."""
    name = package(
        {
            "__init__.py": """
                from tasker_core import StepHandler, step_handler

                class Base(StepHandler):
                    def call(self, context): ...

                class Mine(Base):
                    handler_name = "registry.mine"

                @step_handler("registry.not_mine")
                def function(): ...
            """
        }
    )
    base = __import__(name).Base

    assert registry.discover_handlers(name, base) == 1
    assert registry.list_handlers() == ["registry.mine"]


def test_a_directory_can_be_discovered(registry: HandlerRegistry, tmp_path: Path, package: Write):
    """Its modules need not be in a package."""
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "handlers_loose.py").write_text(
        "from tasker_core import step_handler\n@step_handler('registry.loose')\ndef loose(): ...\n"
    )

    assert registry.discover_directory(tmp_path / "loose") == 1
    assert registry.is_registered("registry.loose")


@pytest.mark.usefixtures("own_instance")
def test_the_process_has_one_registry():
    """The first access fills it with the decorated functions; a reset forgets it."""
    first = HandlerRegistry.instance()

    assert HandlerRegistry.instance() is first
    assert first.is_registered("registry.ship")
    assert first.bootstrap_handlers() == first.handler_count()
    HandlerRegistry.reset_instance()
    empty = HandlerRegistry.instance(skip_bootstrap=True)
    assert empty is not first
    assert empty.handler_count() == 0


def test_clearing_keeps_your_own_resolvers(registry: HandlerRegistry):
    """Names and errors go, the chain stays as it was put together."""
    registry.resolver_chain.add_resolver(Payments())
    registry.register(Charge)
    registry.discover_handlers("no_such_handlers")

    registry.clear()

    assert (registry.handler_count(), registry.load_errors) == (0, ())
    assert registry.find(HandlerDefinition("charge")) is None
    assert registry.find(HandlerDefinition("pay:card")) is not None


# --- find ---------------------------------------------------------------------------


async def test_every_kind_of_name_is_found(registry: HandlerRegistry, package: Write):
    """Registered names, dotted paths of classes and functions, declared names, own resolvers."""
    name = package(
        {
            "orders.py": """
                from tasker_core import StepHandler, step_handler

                class Pack(StepHandler):
                    def call(self, context):
                        return "packed"

                @step_handler("registry.label")
                async def label():
                    return "labelled"
            """
        }
    )
    registry.register(Charge)
    registry.resolver_chain.add_resolver(Payments())

    def find(path: str, method: str | None = None) -> Any:
        found = registry.find(HandlerDefinition(path, handler_method=method))
        assert found is not None
        return found

    assert find("charge").run(CONTEXT) == {"config": {"url": "x"}}
    assert find("charge", "refund").is_async
    assert await find("charge", "refund").run(CONTEXT) == {"refunded": True}
    assert find(f"{name}.orders.Pack").run(CONTEXT) == "packed"
    assert find(f"{name}.orders.label").is_async
    assert (await find("registry.label").run(CONTEXT)).result == {"result": "labelled"}
    assert find("registry.ship").run(CONTEXT).result == {"shipped": 1}
    assert find("pay:card").run(CONTEXT) == {"config": {"url": "x", "for": "pay:card"}}
    assert find("pay:card").name == "charge"


def test_an_answer_is_remembered_until_something_changes(registry: HandlerRegistry):
    """The same object comes back; registering and unregistering make it look again."""
    definition = HandlerDefinition("pay", initialization={"a": 1})
    assert registry.find(definition) is None
    registry.register("pay", Charge)
    found = registry.find(definition)

    assert found is not None
    assert registry.find(HandlerDefinition("pay", initialization={"b": 2})) is found
    registry.register("pay", Other)
    changed = registry.find(definition)
    assert changed is not None
    assert changed.name == "other"
    registry.unregister("pay")
    assert registry.find(definition) is None


@pytest.mark.parametrize(
    ("definition", "error", "message"),
    [
        (HandlerDefinition("absent"), ResolutionError, "no registered, declared or importable"),
        (HandlerDefinition("charge", "absent"), ResolutionError, "does not have method 'absent'"),
        (HandlerDefinition("charge", "_call"), ResolutionError, "private"),
        (HandlerDefinition("charge", None, "absent"), ResolverNotFoundError, "no resolver"),
        (HandlerDefinition("charge", None, "declared"), ResolutionError, "no registered"),
    ],
)
def test_what_cannot_run_is_none_or_an_error(
    registry: HandlerRegistry, definition: HandlerDefinition, error: type[Exception], message: str
):
    """None, with a line in the log; strictly asked, the reason itself."""
    registry.register(Charge)

    assert registry.find(definition) is None
    with pytest.raises(error, match=message):
        registry.find(definition, strict=True)


def test_a_broken_module_behind_a_path_is_a_load_error(registry: HandlerRegistry, package: Write):
    """It does not look like a handler that is not there."""
    name = package({"orders.py": "1 / 0"})
    definition = HandlerDefinition(f"{name}.orders.Charge")

    assert registry.find(definition) is None
    assert [error.module for error in registry.load_errors] == [f"{name}.orders"]
    with pytest.raises(HandlerLoadError, match="ZeroDivisionError"):
        registry.find(definition, strict=True)


def test_a_broken_module_is_not_run_over_and_over(
    registry: HandlerRegistry, package: Write, tmp_path: Path
):
    """Not before something else changes in the registry."""
    name = package({"orders.py": "1 / 0"})
    definition = HandlerDefinition(f"{name}.orders.Charge")
    assert registry.find(definition) is None
    (tmp_path / name / "orders.py").write_text(
        "from tasker_core import StepHandler\n"
        "class Charge(StepHandler):\n"
        "    def call(self, context): ...\n"
    )

    assert registry.find(definition) is None
    registry.register(Charge)
    assert registry.find(definition) is not None


def test_a_reason_why_not_is_logged_once(
    registry: HandlerRegistry, caplog: pytest.LogCaptureFixture
):
    """However often a worker asks for a handler that it does not have."""
    for _ in range(3):
        registry.find(HandlerDefinition("absent"))

    assert len(caplog.records) == 1


# --- resolve ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "charge",
        HandlerDefinition("charge"),
        SimpleNamespace(callable="charge", handler_method=None, resolver=None, initialization={}),
        SimpleNamespace(callable="charge"),
    ],
)
def test_a_handler_is_made_from_any_spec(registry: HandlerRegistry, spec: Any):
    """A name, a definition, or something with its fields."""
    registry.register(Charge)

    assert isinstance(registry.resolve(spec), Charge)


def test_a_spec_that_names_nothing_is_none(
    registry: HandlerRegistry, caplog: pytest.LogCaptureFixture
):
    """With a warning."""
    assert registry.resolve(3) is None
    assert "3 does not name a handler" in caplog.text


def test_resolving_goes_by_method_resolver_and_initialization(registry: HandlerRegistry):
    """Everything that a template says is heeded."""
    registry.register(Charge)

    handler = registry.resolve(HandlerDefinition("charge", "refund", None, {"a": 1}))

    assert handler.target_method == "refund"
    assert handler.unwrap().config == {"a": 1}
    with pytest.raises(ResolverNotFoundError):
        registry.resolve(HandlerDefinition("charge", resolver="absent"))
