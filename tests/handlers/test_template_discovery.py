"""Templates on disk, and the handlers that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasker_core.template_discovery import HandlerDiscovery, TemplateParser, TemplatePath

ORDER = """
name: order
namespace_name: shop
version: 1.2.0
description: An order
task_handler: {callable: ignored}
steps:
  - {name: a, handler: {callable: charge}}
  - {name: b, handler: {callable: app.handlers.Ship}}
  - {name: c, handler: {callable: 3}}
  - {name: d}
  - nonsense
"""
REFUND = "name: refund\nsteps: [{name: a, handler: {callable: refund}}]\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty project."""
    (tmp_path / "pyproject.toml").touch()
    for name in ("TASKER_TEMPLATE_PATH", "TASKER_ENV", "WORKSPACE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(root: Path, *places: str) -> list[Path]:
    made = [root / place for place in places]
    for place in made:
        place.mkdir(parents=True)
    return made


def test_directories_are_looked_for_in_order(project: Path, monkeypatch: pytest.MonkeyPatch):
    """Where it was said, then the usual places of workspace, project and working directory."""
    find = TemplatePath.find_template_config_directory
    assert find() is None
    usual, other, fixtures = folder(
        project, "config/tasks", "config/tasker/templates", "tests/fixtures/task_templates/python"
    )
    assert find() == usual
    usual.rmdir()
    assert find() == other
    (elsewhere,) = folder(project, "workspace/config/tasks")
    monkeypatch.setenv("WORKSPACE_PATH", str(project / "workspace"))
    assert find() == elsewhere
    monkeypatch.setenv("TASKER_ENV", "test")
    assert TemplatePath._is_test_environment()
    assert find() == fixtures
    monkeypatch.setenv("TASKER_TEMPLATE_PATH", str(other))
    assert find() == other


def test_a_directory_that_does_not_exist_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """And the search goes on."""
    (usual,) = folder(project, "config/tasks")
    monkeypatch.setenv("TASKER_TEMPLATE_PATH", str(project / "gone"))

    assert TemplatePath.find_template_config_directory() == usual
    assert "gone, which is not a directory" in caplog.text


def test_the_settings_may_say_it(project: Path):
    """`template_path` in `tasker.toml`; other mistakes in it do not matter here."""
    (own,) = folder(project, "own")
    (project / "tasker.toml").write_text('template_path = "own"')
    assert TemplatePath.find_template_config_directory() == Path("own")
    (project / "tasker.toml").write_text("nonsense = 1")
    assert TemplatePath.find_template_config_directory() is None
    assert own.is_dir()


def test_the_project_is_found_from_below(project: Path, monkeypatch: pytest.MonkeyPatch):
    """By the files that stand at its root, at most ten levels up."""
    (usual, below) = folder(project, "config/tasks", "src/app")
    monkeypatch.chdir(below)
    assert TemplatePath._detect_workspace_root() == project
    assert TemplatePath.find_template_config_directory() == usual
    (deep,) = folder(project, "/".join(f"d{n}" for n in range(10)))
    monkeypatch.chdir(deep)
    assert TemplatePath._detect_workspace_root() != project


def test_files_are_listed(project: Path):
    """Both endings, sorted, from all levels."""
    (usual, inner) = folder(project, "config/tasks", "config/tasks/more")
    for file in (usual / "b.yml", usual / "a.yaml", inner / "c.yaml", usual / "d.txt"):
        file.touch()

    found = TemplatePath.discover_template_files(usual)
    assert [file.name for file in found] == ["a.yaml", "b.yml", "c.yaml"]
    assert TemplatePath.discover_template_files(project / "gone") == []


def test_handlers_are_named_in_order(project: Path):
    """What is malformed is left out; a file may have several documents."""
    file = project / "a.yaml"
    file.write_text(f"{ORDER}---\n{REFUND}")

    assert TemplateParser.extract_handler_callables(file) == [
        "charge",
        "app.handlers.Ship",
        "refund",
    ]


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "steps: 3", "\xff\xfe"])
def test_what_cannot_be_read_names_nothing(project: Path, content: str):
    """Neither handlers nor metadata, and no error."""
    file = project / "a.yaml"
    file.write_bytes(content.encode("latin-1"))

    assert TemplateParser.extract_handler_callables(file) == []
    assert TemplateParser.extract_template_metadata(file).get("handlers", []) == []
    assert TemplateParser.extract_template_metadata(project / "gone.yaml") == {}


@pytest.mark.parametrize("data", [None, 3, {}, {"steps": {}}, {"steps": [None, {"handler": 1}]}])
def test_any_data_can_be_asked(data: Any):
    """It names no handlers, then."""
    assert TemplateParser.extract_handlers_from_template(data) == []


def test_templates_are_described(project: Path):
    """Missing parts are empty text."""
    (usual,) = folder(project, "config/tasks")
    (usual / "order.yaml").write_text(ORDER)
    (usual / "refund.yaml").write_text(REFUND)
    (usual / "broken.yaml").write_text("a: [")
    order, refund = HandlerDiscovery.discover_template_metadata(usual)

    assert order == {
        "name": "order",
        "namespace": "shop",
        "version": "1.2.0",
        "description": "An order",
        "file_path": str(usual / "order.yaml"),
        "handlers": ["charge", "app.handlers.Ship"],
    }
    assert (refund["namespace"], refund["version"]) == ("", "")
    assert HandlerDiscovery.discover_all_handlers(usual) == [
        "app.handlers.Ship",
        "charge",
        "refund",
    ]
    assert HandlerDiscovery.discover_handlers_by_namespace(usual) == {
        "shop": ["app.handlers.Ship", "charge"],
        "": ["refund"],
    }
