"""Every path from which an application imports leads to the same things, and quickly."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import tasker_core
import tasker_core.handlers
from tasker_core.handlers import base, context, functional, registry, result

HOMES = {
    "tasker_core": ["ErrorType", "StepContext", "StepHandler", "StepHandlerResult"],
    "tasker_core.types": ["ErrorType", "StepContext", "StepHandlerResult"],
    "tasker_core.step_handler": ["StepHandler", "depends_on", "inputs", "step_handler"],
    "tasker_core.step_handler.base": ["StepHandler"],
    "tasker_core.step_handler.functional": ["depends_on", "inputs", "step_handler"],
    "tasker_core.handler": ["HandlerRegistry", "StepHandler"],
    "tasker_core.registry": ["HandlerDefinition", "ResolverChain", "ResolverNotFoundError"],
    "tasker_core.exceptions": ["TaskerError", "WorkerBootstrapError"],
}

TRUE_HOMES = (base, context, functional, registry, result)


def python(program: str) -> str:
    """Run a program in a fresh interpreter; give what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module_name", HOMES)
def test_every_published_path_has_its_names(module_name: str):
    """Each module has what its `__all__` lists; the same object under every path."""
    module = importlib.import_module(module_name)

    assert set(HOMES[module_name]) <= set(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        for home in TRUE_HOMES:
            if module_name != "tasker_core" or name != "step_handler":
                assert getattr(home, name, value) is value


def test_names_of_errors_that_clash_with_others_are_longer_at_the_top():
    """`TimeoutError` and `ValidationError` have other meanings, too."""
    assert tasker_core.StepTimeoutError is tasker_core.errors.TimeoutError
    assert tasker_core.StepValidationError is tasker_core.errors.ValidationError
    assert issubclass(tasker_core.PermanentError, tasker_core.TaskerError)


def test_the_version_is_the_installed_one():
    """Under its three names."""
    assert tasker_core.__version__ == tasker_core.version() == tasker_core.get_version()
    assert tasker_core.__version__[0].isdigit()


def test_unknown_names_are_refused():
    """As by any module; and `dir` lists what there is."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tasker_core.Nothing  # type: ignore[attr-defined]
    assert set(tasker_core.__all__) <= set(dir(tasker_core))


@pytest.mark.parametrize(
    "imports",
    [
        "from tasker_core import step_handler",
        "import tasker_core.step_handler; from tasker_core import step_handler",
        "from tasker_core import step_handler; import tasker_core.step_handler.base",
        "from tasker_core.step_handler.functional import depends_on; "
        "from tasker_core import step_handler",
        "from tasker_core.step_handler import step_handler",
    ],
)
def test_a_decorator_and_a_package_share_a_name(imports: str):
    """`tasker_core.step_handler` decorates, whatever was imported before it."""
    program = (
        f"{imports}\n@step_handler('x')\ndef f(): return 1\nprint(f(), f.handler_class().name)"
    )

    assert python(program) == "1 x"


def test_importing_starts_nothing():
    """Neither heavy libraries nor threads come with the bare import."""
    program = (
        "import sys, threading, tasker_core\n"
        "heavy = {'pydantic', 'asyncpg', 'httpx', 'fastapi', 'asyncio', 'logging'}\n"
        "print(sorted(heavy & set(sys.modules)), threading.active_count())"
    )

    assert python(program) == "[] 1"


def test_handlers_need_no_database():
    """Everything an author imports comes without the driver and without an HTTP library."""
    program = (
        "import sys, tasker_core.handler, tasker_core.registry, tasker_core.types\n"
        "import tasker_core.step_handler.functional\n"
        "print(sorted({'asyncpg', 'httpx', 'fastapi'} & set(sys.modules)))"
    )

    assert python(program) == "[]"


@pytest.mark.parametrize(
    "name",
    [
        info.name
        for info in pkgutil.walk_packages(
            tasker_core.handlers.__path__, tasker_core.handlers.__name__ + "."
        )
    ],
)
def test_the_examples_in_docstrings_run(name: str):
    """What a docstring shows is what happens."""
    module = importlib.import_module(name)

    assert doctest.testmod(module).failed == 0
