"""What is generated, held against the tools that its users have.

One project with the guide's commands and every template in every style is checked by
one run of each tool.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from cli.running import TASKER_CTL
from cli.scaffold.conftest import files

GUIDE = """
tasker-ctl template generate step_handler \
  --language python \
  --param name=ValidateCart \
  --param module_name=handlers.ecommerce

tasker-ctl template generate task_template \
  --language python \
  --param name=EcommerceOrderProcessing \
  --param namespace=ecommerce \
  --param handler_callable=ecommerce.task_handlers.OrderProcessingHandler

tasker-ctl template generate step_handler_api \
  --language python \
  --param name=FetchUser \
  --param module_name=handlers \
  --param base_url=https://api.example.com

tasker-ctl template generate step_handler_decision \
  --language python \
  --param name=RouteOrder \
  --param module_name=handlers

tasker-ctl template generate step_handler_batchable \
  --language python \
  --param name=ProcessRecords \
  --param module_name=handlers
"""

KINDS = ("step_handler", "step_handler_api", "step_handler_decision", "step_handler_batchable")
TESTS_OF = {  # how many tests each one generates
    "step_handler": 3,
    "step_handler_api": 7,
    "step_handler_decision": 3,
    "step_handler_batchable": 7,
}
RULES = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's commands, then every template, class and function, sync and async."""
    directory = tmp_path_factory.mktemp("project")
    commands = [line for line in GUIDE.split("\n") if line.strip()]
    for number, (kind, style, is_async) in enumerate(
        product(KINDS, ("class", "functional"), (False, True))
    ):
        # A name as long as many, to see that no line becomes too long.
        name = f"ReconcileWarehouseInventory{number}"
        commands.append(
            f"tasker-ctl template generate {kind} -p name={name} --style {style}"
            f" -p module_name=handlers.warehouse.as_{style}" + (" --async" if is_async else "")
        )
    script = "import shlex, sys\nfrom typer.testing import CliRunner\n"
    script += "from tasker_core.cli.main import app\n"
    script += "for line in sys.stdin.read().splitlines():\n"
    script += "    done = CliRunner().invoke(app, shlex.split(line)[1:])\n"
    script += "    assert done.exit_code == 0, done.output\n"
    run(directory, sys.executable, "-c", script, input="\n".join(commands))
    return directory


def run(directory: Path, *command: str, input: str | None = None) -> str:
    """Run a command in a directory, and give what it writes; it must succeed."""
    env = {**os.environ, "XDG_CONFIG_HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=directory, env=env, input=input, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_guides_commands_make_these_files(here):
    """Verbatim, in an empty directory."""
    for command in GUIDE.strip().split("\n\n"):
        run(here, *TASKER_CTL, *shlex.split(command)[1:])
    assert files(here) == [
        "ecommerce_order_processing.yaml",
        "handlers/__init__.py",
        "handlers/ecommerce/__init__.py",
        "handlers/ecommerce/validate_cart_handler.py",
        "handlers/fetch_user_handler.py",
        "handlers/process_records_handler.py",
        "handlers/route_order_handler.py",
        "tests/conftest.py",
        "tests/test_fetch_user_handler.py",
        "tests/test_process_records_handler.py",
        "tests/test_route_order_handler.py",
        "tests/test_validate_cart_handler.py",
    ]
    code = (
        "from handlers.ecommerce import ValidateCartHandler as One\n"
        "from handlers import FetchUserHandler, RouteOrderHandler\n"
        "from handlers import ProcessRecordsAnalyzerHandler, ProcessRecordsWorkerHandler\n"
        "from tasker_core.step_handler.mixins import APIMixin\n"
        "from tasker_core import DecisionHandler, StepHandler\n"
        "assert issubclass(One, StepHandler) and One.handler_name == 'validate_cart'\n"
        "assert issubclass(FetchUserHandler, (APIMixin, StepHandler))\n"
        "assert FetchUserHandler.base_url == 'https://api.example.com'\n"
        "assert issubclass(RouteOrderHandler, DecisionHandler)\n"
    )
    run(here, sys.executable, "-c", code)


def test_its_tests_pass_untouched(project):
    """`pytest`, and nothing else, where the files are."""
    said = run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    expected = sum(TESTS_OF.values()) + 4 * sum(TESTS_OF.values())
    assert f"{expected} passed" in said


def test_its_tests_pass_wherever_pytest_is_started(project):
    """A single file, from another directory, in the other import mode."""
    test = project / "tests" / "test_validate_cart_handler.py"
    args = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(test))
    assert "3 passed" in run(project.parent, sys.executable, "-m", "pytest", *args)


def test_type_checkers_are_content(project):
    """mypy, as strict as it can be."""
    run(project, sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, ".")


def test_linters_are_content(project, tmp_path):
    """Ruff with its own rules and with ours; its formatter at both widths."""
    chosen = re.search(r"^select = \[.*?\]$", RULES.read_text(), re.M)
    assert chosen is not None
    ours = tmp_path / "ruff.toml"
    ours.write_text(f"line-length = 100\ntarget-version = 'py311'\n[lint]\n{chosen[0]}\n")
    ruff = (sys.executable, "-m", "ruff")
    run(project, *ruff, "check", "--no-cache", "--isolated", ".")
    run(project, *ruff, "check", "--no-cache", "--config", str(ours), "--config", "src=['.']", ".")
    for width in ("88", "100"):
        run(project, *ruff, "format", "--no-cache", "--check", "--line-length", width, ".")


def test_the_template_is_valid(project, ctl):
    """Without a warning."""
    path = project / "ecommerce_order_processing.yaml"
    checked = ctl("template", "validate", "--strict", path)
    assert checked.exit_code == 0, checked.output
    assert "valid ecommerce/ecommerce_order_processing 1.0.0, 1 step" in checked.stdout
    assert "callable: ecommerce.task_handlers.OrderProcessingHandler" in path.read_text()
