"""Importing handler packages: everything is found, and every failure is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasker_core.errors import HandlerLoadError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.discovery import (
    handlers_in,
    import_directory,
    import_package,
    import_target,
)

Write = Callable[[dict[str, str]], str]

HANDLER = """
    from tasker_core import StepHandler, step_handler

    class Charge(StepHandler):
        handler_name = "discovery.charge"
        def call(self, context):
            return {}

    @step_handler("discovery.ship")
    def ship():
        return {}
"""


def names(package: str) -> tuple[list[str], list[str]]:
    """Import a package; give the modules that came, and those that did not."""
    imported = list(import_package(package))
    good = [module.__name__ for module in imported if not isinstance(module, HandlerLoadError)]
    return good, [error.module for error in imported if isinstance(error, HandlerLoadError)]


def test_packages_are_imported_to_the_last_module(package: Write):
    """Nested packages, folders without `__init__.py`, but never a `__main__`."""
    name = package(
        {
            "orders/__init__.py": "",
            "orders/charge.py": "",
            "bare/deep/ship.py": "",
            "docs/readme.txt": "",
            "__main__.py": "raise SystemExit('ran')",
        }
    )

    good, bad = names(name)

    assert good == [
        name,
        f"{name}.bare",
        f"{name}.bare.deep",
        f"{name}.bare.deep.ship",
        f"{name}.orders",
        f"{name}.orders.charge",
    ]
    assert bad == []


def test_a_single_module_is_a_package_too():
    """There is just nothing below it."""
    assert names("tasker_core.states") == (["tasker_core.states"], [])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_module_is_reported_and_passed_over(package: Write, source: str, reason: str):
    """With module, reason and traceback; the modules beside it are imported."""
    name = package({"a.py": source, "b.py": ""})

    imported = list(import_package(name))

    errors = [error for error in imported if isinstance(error, HandlerLoadError)]
    assert names(name) == ([name, f"{name}.b"], [f"{name}.a"])
    assert [error.module for error in errors] == [f"{name}.a"]
    assert errors[0].reason.startswith(reason)
    assert "a.py" in errors[0].traceback
    assert errors[0].__cause__ is not None


def test_a_package_that_does_not_exist_is_reported():
    """A misspelled package is an error like any other."""
    assert names("no_such_handlers") == ([], ["no_such_handlers"])


def test_a_directory_is_imported_module_by_module(tmp_path: Path, package: Write):
    """Everything in it can be imported by its own name from then on."""
    folder = tmp_path / "elsewhere"
    (folder / "handlers_pack").mkdir(parents=True)
    (folder / "handlers_one.py").write_text("")
    (folder / "handlers_pack" / "two.py").write_text("")

    imported = [getattr(module, "__name__", module) for module in import_directory(folder)]

    assert imported == ["handlers_one", "handlers_pack", "handlers_pack.two"]
    assert str(folder) in sys.path


def test_classes_and_functions_are_found(package: Write):
    """By the names that templates call them."""
    name = package({"__init__.py": HANDLER})
    (module,) = import_package(name)
    assert not isinstance(module, HandlerLoadError)

    found = handlers_in(module)

    assert found == {
        "discovery.charge": module.Charge,
        "discovery.ship": module.ship.handler_class,
    }
    assert handlers_in(module, module.Charge) == {}


def test_only_handlers_are_found(package: Write):
    """Not the base, not what has no name, not what is abstract."""
    name = package(
        {
            "__init__.py": """
                from abc import abstractmethod
                from unittest.mock import MagicMock
                from tasker_core import StepHandler

                mock = MagicMock()

                class Nameless(StepHandler):
                    def call(self, context): ...

                class Abstract(StepHandler):
                    handler_name = "abstract"
            """
        }
    )
    (module,) = import_package(name)
    assert not isinstance(module, HandlerLoadError)

    assert handlers_in(module) == {}


def test_who_states_a_name_goes_before_who_inherits_it(package: Write):
    """A subclass that sets no name of its own does not take its parent's."""
    name = package(
        {
            "__init__.py": HANDLER
            + """
    class Slower(Charge):
        pass
"""
        }
    )
    (module,) = import_package(name)
    assert not isinstance(module, HandlerLoadError)

    assert handlers_in(module)["discovery.charge"] is module.Charge


def test_a_dotted_path_leads_to_what_a_module_has(package: Write):
    """Also into classes; None where the path ends too early."""
    name = package({"orders.py": "class Outer:\n    class Inner:\n        x = 1\n"})

    inner = import_target(f"{name}.orders.Outer.Inner")

    assert inner is import_target(f"{name}.orders").Outer.Inner  # type: ignore[union-attr]
    assert import_target("tasker_core.handlers.base.StepHandler") is StepHandler
    for path in (f"{name}.orders.Nothing", f"{name}.missing.Charge", "a..b", "no_such.thing", "x"):
        assert import_target(path) is None


def test_a_path_through_a_broken_module_is_an_error(package: Write):
    """What exists and fails is not the same as what does not exist."""
    name = package({"orders.py": "import nothing_of_that_name"})

    with pytest.raises(HandlerLoadError, match="nothing_of_that_name") as caught:
        import_target(f"{name}.orders.Charge")
    assert caught.value.module == f"{name}.orders"
