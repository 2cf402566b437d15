"""`tasker-ctl template validate`."""

from __future__ import annotations

import json

import pytest

GOOD = """name: hello
namespace_name: demo
version: 1.0.0
steps:
  - name: greet
    handler: {callable: greet}
    result_schema: {type: object}
"""
BAD = """name: hello
namespace_name: demo
version: 1.0.0
steps:
  - name: greet
    handler: {callable: greet}
    dependencies: [nobody]
  - name: greet
    handler: {callable: greet}
"""
WARNED = GOOD + "  - name: alone\n    handler: {callable: alone}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)

    return write


def test_a_good_template_passes(ctl, write):
    """The answer says which template it is; the count goes to stderr."""
    write(good=GOOD)
    checked = ctl("template", "validate", "good.yaml")
    assert checked.exit_code == 0
    assert checked.stdout == "good.yaml: valid demo/hello 1.0.0, 1 step\n"
    assert checked.stderr == "1 file, 0 errors, 0 warnings\n"


def test_every_error_is_told_with_its_place_and_advice(ctl, write):
    """Several at once, of several files, with exit code 3."""
    write(good=GOOD, bad=BAD)
    checked = ctl("template", "validate", "good.yaml", "bad.yaml")
    assert checked.exit_code == 3
    assert "bad.yaml:7:20: error MISSING_DEP_REF: " in checked.stdout
    assert "bad.yaml:8:11: error DUPLICATE_STEP_NAME: " in checked.stdout
    assert "\n    give each step its own name\n" in checked.stdout
    assert "good.yaml: valid" in checked.stdout
    assert "2 files, 2 errors" in checked.stderr


def test_a_directory_is_searched(ctl, write):
    """A version that is there twice is an error."""
    write(one=GOOD, two=GOOD)
    checked = ctl("template", "validate", ".")
    assert checked.exit_code == 3
    assert "DUPLICATE_TEMPLATE" in checked.stdout


def test_warnings_fail_only_with_strict(ctl, write):
    """They are shown in any case."""
    write(warned=WARNED)
    assert ctl("template", "validate", "warned.yaml").exit_code == 0
    checked = ctl("template", "validate", "warned.yaml", "--strict")
    assert checked.exit_code == 3
    assert "warning ORPHAN_STEP" in checked.stdout


def test_the_json_of_a_report(ctl, write):
    """Its shape is a contract."""
    write(bad=BAD)
    checked = ctl("template", "validate", "bad.yaml", "--json")
    assert checked.exit_code == 3
    report = json.loads(checked.stdout)
    assert {key: report[key] for key in ("valid", "total")} == {"valid": False, "total": 1}
    (item,) = report["items"]
    findings = item.pop("findings")
    assert item == {
        "file": "bad.yaml",
        "template": None,
        "valid": False,
        "step_count": 2,
        "has_cycles": False,
    }
    assert next(f for f in findings if f["code"] == "MISSING_DEP_REF") == {
        "code": "MISSING_DEP_REF",
        "severity": "error",
        "message": "greet depends on 'nobody', which is no step",
        "file": "bad.yaml",
        "line": 7,
        "column": 20,
        "path": "/steps/0/dependencies/0",
        "step": "greet",
        "hint": "name a step of this template",
    }


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_nothing_to_check_is_a_usage_error(ctl, write, path):
    """A file that is not there, a directory without templates: a typing error, not a pass."""
    write()
    checked = ctl("template", "validate", path)
    assert checked.exit_code == 2
    assert checked.stdout == ""


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"- 1", b"a: [", b"\x00"])
def test_a_file_that_is_no_template_is_a_finding(ctl, write, tmp_path, content):
    """Never a traceback."""
    write()
    (tmp_path / "odd.yaml").write_bytes(content)
    checked = ctl("template", "validate", "odd.yaml")
    assert checked.exit_code == 3
    assert checked.stdout.startswith("odd.yaml:")
    assert "Traceback" not in checked.output


def test_a_template_is_shown_as_it_is_in_an_environment(ctl, write):
    """With its overrides in it; where it has none, as it is."""
    override = "environments: {test: {steps: [{name: ALL, timeout_seconds: 5}]}}\n"
    write(good=GOOD + override)

    there = ctl("template", "validate", "good.yaml", "--environment", "test")
    elsewhere = ctl("template", "validate", "good.yaml", "-e", "live", "--json")

    assert "      timeout_seconds: 5\n" in there.stdout
    assert "environments" not in there.stdout
    (item,) = json.loads(elsewhere.stdout)["items"]
    assert "timeout_seconds" not in item["definition"]["steps"][0]
