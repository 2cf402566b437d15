"""A generated project as it runs: its handlers and templates under `tasker-ctl dev`."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.running import LongRunning
from tasker_core.cli.main import app

STYLES = {
    "sync_class": "",
    "async_class": "--async",
    "function": "--style functional",
    "async_function": "--style functional --async",
}
in_every_style = pytest.mark.parametrize("style", STYLES)


@dataclass(frozen=True)
class Project:
    """A project with every handler in every style, running."""

    url: str
    ctl: Callable[..., Result]

    def run(self, template: str, *context: str) -> dict[str, Any]:
        """Create a task, wait for its end, and give it with its steps."""
        words = [word for item in context for word in ("--set", item)]
        ended = self.ctl(
            "--url", self.url, "task", "create", f"shop/{template}", *words, "--wait", "--json"
        )
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    def result(self, task: dict[str, Any], step: str) -> Any:
        """Read what a step has returned."""
        shown = self.ctl("--url", self.url, "task", "step", task["task_uuid"], step, "--json")
        return json.loads(shown.stdout)["results"]["result"]


@pytest.fixture(scope="module")
def project(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Everything is generated into one directory, and `tasker-ctl dev` started there."""
    directory = tmp_path_factory.mktemp("project")

    def ctl(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
        for style, options in STYLES.items():
            for line in commands(style):
                made = ctl("template", "generate", *shlex.split(f"{line} {options}"))
                assert made.exit_code == 0, made.output
            package = directory / "handlers" / style
            steps = example_in(package / f"{style}_import_rows_handler.py")
            write_template(f"{style}_batches", steps)
            steps = example_in(package / f"{style}_route_order_handler.py")
            before = [
                {"name": "previous_step_name", "handler": {"callable": f"{style}_check_stock"}}
            ]
            write_template(f"{style}_decision", before + steps)
            made = ctl(
                *("template", "generate", "task_template", "--output", "templates"),
                *("-p", f"name={style}_chain", "-p", "namespace=shop"),
                *("-p", f"handler_callable={style}_check_stock"),
                *("-p", f"steps={style}_check_stock,{style}_pack_box"),
            )
            assert made.exit_code == 0, made.output
        checked = ctl("template", "validate", "templates")
        assert checked.exit_code == 0, checked.output
        with LongRunning(
            directory, "dev", "--port", 0, "--no-reload", "--database-url", own_database
        ) as dev:
            assert dev.ready["templates"] == 3 * len(STYLES), dev.stderr
            yield Project(dev.ready["url"], ctl)


def commands(style: str) -> Iterator[str]:
    """Give what follows `template generate`, for every handler of one style."""
    where = f"-p module_name=handlers.{style}"
    for name in ("check_stock", "pack_box", "ship", "ask"):
        yield f"step_handler {where} -p name={style}_{name}"
    routes = f"-p routes=quick={style}_ship,careful={style}_ask+{style}_pack_box"
    yield (
        f"step_handler_decision {where} -p name={style}_route_order {routes}"
        f" -p otherwise={style}_ship"
    )
    yield f"step_handler_batchable {where} -p name={style}_import_rows"


def example_in(path: Path) -> list[dict[str, Any]]:
    """Read the steps that a docstring of a generated file shows."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = inspect.cleandoc(ast.get_docstring(node) or "").splitlines()
            shown = [line for line in lines if line.startswith("    ")]
            if shown:
                steps: list[dict[str, Any]] = yaml.safe_load(textwrap.dedent("\n".join(shown)))
                return steps
    raise AssertionError(f"{path} shows no steps")


def write_template(name: str, steps: list[dict[str, Any]]) -> None:
    about = {"name": name, "namespace_name": "shop", "version": "1.0.0"}
    document = {**about, "identity_strategy": "always_unique", "steps": steps}
    path = Path("templates") / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


BRANCHES = ("standard_processing", "fast_track_processing", "manual_review", "approval_gate")
BY_DEFAULT = {
    "step_handler": (
        ["step_handler -p name=Greet", "task_template -p name=Greet"],
        {"greet"},
    ),
    "step_handler, functional": (
        [
            "step_handler -p name=Look --style functional",
            "step_handler -p name=Greet -p depends_on=look --style functional -o handlers",
            "task_template -p name=Meet -p steps=look,greet",
        ],
        {"look", "greet"},
    ),
    "step_handler_api": (
        [
            "step_handler_api -p name=Fetch -p base_url=http://127.0.0.1:1",
            "task_template -p name=Fetch",
        ],
        None,  # nobody is there to be called
    ),
    "step_handler_decision": (
        [
            "step_handler_decision -p name=Route",
            *(f"step_handler -p name={one}" for one in ("previous_step_name", *BRANCHES)),
            "task_template -p name=Route -p pattern=decision",
        ],
        {"previous_step_name", "route", "standard_processing"},
    ),
    "step_handler_batchable": (
        ["step_handler_batchable -p name=Load", "task_template -p name=Load -p pattern=batch"],
        {"load_analyze", "load_converge", *(f"load_batch_00{n}" for n in range(1, 6))},
    ),
}


@pytest.mark.parametrize("kind", BY_DEFAULT)
def test_what_is_generated_by_default_fits_together(here, empty_database, kind):
    """A handler, a template, `dev`, a task: nothing else is written or said."""
    lines, steps = BY_DEFAULT[kind]

    def ctl(*words: str) -> Result:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done

    for line in lines:
        ctl("template", "generate", *shlex.split(line))
    assert not (here / "handlers" / "handlers").exists()
    (template,) = here.glob("*.yaml")
    with LongRunning(here, "dev", "--port", 0, "--database-url", empty_database) as dev:
        assert dev.ready["templates"] == 1, dev.stderr
        create = ("--url", dev.ready["url"], "task", "create", template.stem, "--json")
        made = json.loads(ctl(*create, *(["--wait"] if steps else [])).stdout)
        if steps:
            assert {step["name"] for step in made["steps"]} == steps
        assert "no handler" not in dev.stderr
        assert "warning" not in dev.stderr


@in_every_style
def test_a_generated_chain_runs(project, style):
    """Two handlers, and the generated template that puts one behind the other."""
    task = project.run(f"{style}_chain", "field_name=x")
    assert task["status"] == "complete"
    for step in (f"{style}_check_stock", f"{style}_pack_box"):
        result = project.result(task, step)
        assert (result["processed"], result["handler"]) == (True, step)


@in_every_style
def test_a_generated_decision_decides(project, style):
    """With the steps that its docstring shows; those not chosen never exist."""
    task = project.run(f"{style}_decision", "route_key=careful")
    assert task["status"] == "complete"
    assert {step["name"] for step in task["steps"]} == {
        "previous_step_name",
        f"{style}_route_order",
        f"{style}_ask",
        f"{style}_pack_box",
    }


@in_every_style
@pytest.mark.parametrize(("items", "batches"), [(450, 3), (0, 0)])
def test_generated_batches_add_up(project, style, items, batches):
    """With the steps that the module's docstring shows; also if there is nothing to do."""
    task = project.run(f"{style}_batches", f"total_items={items}")
    assert task["status"] == "complete"
    total = project.result(task, f"{style}_import_rows_converge")
    assert (total["total_processed"], total["worker_count"]) == (items, batches)
