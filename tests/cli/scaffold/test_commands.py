"""`tasker-ctl template generate`, `list`, `info`: what they answer, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cli.scaffold.conftest import files


def test_it_says_what_it_wrote_and_what_to_do_next(generate):
    """The files are the data; the next command is a note, ready to be copied."""
    made = generate("step_handler", name="ValidateCart", module_name="handlers.ecommerce")
    assert made.exit_code == 0
    assert made.stdout == (
        "created   handlers/ecommerce/validate_cart_handler.py\n"
        "created   tests/test_validate_cart_handler.py\n"
        "created   handlers/__init__.py\n"
        "created   handlers/ecommerce/__init__.py\n"
        "created   tests/conftest.py\n"
    )
    assert made.stderr == "next: pytest tests/test_validate_cart_handler.py\n"


def test_its_json_is_a_contract(generate, here):
    """The same as data; only a dry run has the contents."""
    words = ("step_handler", "--json", "-o", "out dir")
    made = json.loads(generate(*words, name="Pack").stdout)
    assert made == {
        "template": "step_handler",
        "plugin": "tasker-python",
        "language": "python",
        "directory": "out dir",
        "dry_run": False,
        "files": [
            {"path": f"out dir/{path}", "action": "created"}
            for path in (
                "handlers/pack_handler.py",
                "tests/test_pack_handler.py",
                "handlers/__init__.py",
                "tests/conftest.py",
            )
        ],
        "next": ["pytest 'out dir/tests/test_pack_handler.py'"],
    }
    again = json.loads(generate(*words, "--force", "--dry-run", name="Pack").stdout)
    assert [file["action"] for file in again["files"]] == ["replaced", "replaced"]
    handler = here / "out dir" / "handlers" / "pack_handler.py"
    assert again["files"][0]["content"] == handler.read_text()


def test_a_dry_run_writes_nothing(generate, here):
    """It shows the files whole."""
    made = generate("step_handler", "--dry-run", name="Pack")
    assert made.exit_code == 0
    assert "--- handlers/pack_handler.py (created)\n" in made.stdout
    assert "class PackHandler(StepHandler):\n" in made.stdout
    assert files(here) == []


@pytest.mark.parametrize("name", ["ShipHandler", "ship_handler", "ship", "Ship"])
def test_a_name_that_says_handler_says_it_once(generate, here, name):
    """However it is written."""
    assert generate("step_handler", name=name).exit_code == 0
    text = (here / "handlers" / "ship_handler.py").read_text()
    assert "class ShipHandler(StepHandler):" in text
    assert 'handler_name = "ship"' in text


def test_steps_become_a_chain(generate, here, template):
    """Each with the handler of its name."""
    made = generate("task_template", name="Order", handler_callable="x.Y", steps="a, b,c")
    assert made.exit_code == 0
    assert made.stderr == "next: tasker-ctl template validate order.yaml\n"
    text = (here / "order.yaml").read_text()
    assert "  - name: c\n" in text
    assert "      callable: c\n    dependencies: [b]\n" in text
    assert "3 steps" in template("validate", "--strict", "order.yaml").stdout


def test_values_cannot_break_out_of_the_code(generate, here, template):
    """They are written as text of the language that they are put into."""
    made = generate("step_handler_api", name="Ask", base_url="https://x/\\u0041'")
    assert made.exit_code == 0
    assert r'base_url = "https://x/\\u0041' in (here / "handlers/ask_handler.py").read_text()
    described = 'a "b": #c\\'
    made = generate("task_template", name="Odd", handler_callable="y", description=described)
    assert made.exit_code == 0
    assert template("validate", "--strict", "odd.yaml").exit_code == 0


def test_a_decision_has_the_routes_that_are_asked_for(generate, here):
    """In its table, its docstring and its tests."""
    words = {"routes": "gold=greet+upgrade,silver=greet", "otherwise": "wait,ask"}
    assert generate("step_handler_decision", name="Sort", **words).exit_code == 0
    text = (here / "handlers" / "sort_handler.py").read_text()
    assert '    "silver": ["greet"],\n' in text
    assert text.count("- name: greet\n") == 1
    tests = (here / "tests" / "test_sort_handler.py").read_text()
    assert "def test_gold_route" in tests
    assert "def test_silver_route" in tests


def test_batches_without_convergence_are_two_classes(generate, here):
    """Exactly the analyzer and the worker."""
    assert generate("step_handler_batchable", name="Load", convergence="false").exit_code == 0
    text = (here / "handlers" / "load_handler.py").read_text()
    assert [line for line in text.splitlines() if line.startswith("class ")] == [
        "class LoadAnalyzerHandler(StepHandler, Batchable):",
        "class LoadWorkerHandler(StepHandler, Batchable):",
    ]
    assert "onvergence" not in text


REFUSED = [
    ("step_handlr -p name=X", 4, "no template 'step_handlr'", "did you mean step_handler?"),
    ("step_handler -l pyhton -p name=X", 2, "no plugin generates 'pyhton'", "mean python?"),
    ("step_handler --plugin tasker-pyton -p name=X", 4, "no plugin", "mean tasker-python?"),
    ("step_handler", 2, "it needs --param name=…", "template info step_handler"),
    ("task_template", 2, "it needs --param name=…", "template info"),
    ("step_handler -p nmae=X", 2, "no parameter 'nmae'; did you mean name?", "template info"),
    ("step_handler -p name", 2, "write --param name=VALUE", ""),
    ("step_handler -p name=class", 2, "it is a word of Python itself", ""),
    ("step_handler -p name=a/b", 2, "must be letters", ""),
    ("step_handler -p name=X -p module_name=a-b", 2, "must be a dotted module name", ""),
    ("step_handler -p name=X -p module_name=json", 2, "would hide the package json", ""),
    ("step_handler -p name=X --style clas", 2, "must be class or functional; did you", ""),
    ("step_handler -p name=X -p async=maybe", 2, "must be true or false", ""),
    ("step_handler -p name=Step", 2, "would define StepHandler", "another name"),
    ("step_handler -p name=Print --style functional", 2, "define print", "another name"),
    ("step_handler_api -p name=X -p base_url=x", 2, "base_url is 'x', but must match", ""),
    ("step_handler_decision -p name=X -p routes=a", 2, "'a' of it must match", ""),
    ("task_template -p name=X -p handler_callable=y --async", 2, "it has no --async", ""),
    ("task_template -p name=X -p handler_callable=y -p namespace=A", 2, "namespace is 'A'", ""),
    ("task_template -p name=X -p handler_callable=a:b", 2, "handler_callable is 'a:b'", ""),
]


@pytest.mark.parametrize(("line", "code", "message", "hint"), REFUSED)
def test_what_is_wrong_is_said_and_nothing_is_written(template, here, line, code, message, hint):
    """With advice, and an exit code for the kind of it."""
    refused = template("generate", *line.split())
    assert refused.exit_code == code
    assert refused.stdout == ""
    assert message in refused.stderr
    assert hint in refused.stderr
    assert files(here) == []


def test_everything_that_is_wrong_is_said_at_once(template):
    """And as data, one by one."""
    refused = template("generate", "step_handler", "-p", "nmae=X", "-p", "foo", "--json")
    assert refused.exit_code == 2
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "bad_parameters"
    assert error["details"]["problems"] == [
        "write --param foo=VALUE, not --param foo",
        "it has no parameter 'nmae'; did you mean name?",
        "it needs --param name=…",
    ]
    assert error["hint"] == "see: tasker-ctl template info step_handler"


def test_files_that_exist_are_kept(generate, here):
    """Of several one is enough; all that exist are named, and none of the others appears."""
    (here / "tests").mkdir()
    mine = here / "tests" / "test_pack_handler.py"
    mine.write_text("# mine\n")
    refused = generate("step_handler", name="Pack")
    assert refused.exit_code == 1
    assert "this file exists already: tests/test_pack_handler.py" in refused.stderr
    assert "--force" in refused.stderr
    assert files(here) == ["tests/test_pack_handler.py"]
    assert mine.read_text() == "# mine\n"
    assert generate("step_handler", "--force", name="Pack").exit_code == 0
    assert "class TestPackHandler" in mine.read_text()


def test_list_says_what_there_is(template):
    """Of one language, or of all."""
    listed = template("list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "TEMPLATE",
        "step_handler",
        "step_handler_api",
        "step_handler_decision",
        "step_handler_batchable",
        "task_template",
    ]
    assert template("list", "-l", "Python").stdout == listed.stdout
    data = json.loads(template("list", "--json").stdout)
    assert data["total"] == 5
    assert data["items"][0] == {
        "name": "step_handler",
        "description": "A step handler, and its test",
        "language": "python",
        "framework": None,
        "plugin": "tasker-python",
    }
    assert "did you mean python?" in template("list", "-l", "pyton").stderr


def test_info_says_what_a_template_wants(template):
    """Every parameter with its default, and the files."""
    said = template("info", "STEP_HANDLER_API")
    assert said.exit_code == 0
    assert "base_url      https://api.example.com" in said.stdout
    assert "name          required" in said.stdout
    assert "class or functional" in said.stdout
    data = json.loads(template("info", "task_template", "--json").stdout)
    assert [(p["name"], p["required"], p["default"]) for p in data["parameters"]] == [
        ("name", True, None),
        ("namespace", False, "default"),
        ("handler_callable", False, ""),
        ("steps", False, ""),
        ("pattern", False, "linear"),
        ("version", False, "1.0.0"),
        ("description", False, ""),
    ]
    assert data["outputs"] == [{"filename": "{{ name | snake_case }}.yaml", "subdir": None}]
    assert template("info", "nothing").exit_code == 4


def test_help_loads_no_templates():
    """Jinja2 and the plugins are for generating."""
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tasker_core.cli.main import app\n"
        "done = CliRunner().invoke(app, ['template', '--help'])\n"
        "assert done.exit_code == 0 and 'generate' in done.output\n"
        "loaded = {'jinja2', 'yaml', 'tasker_core.cli.scaffold.render'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
