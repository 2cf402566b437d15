"""An empty directory, and `tasker-ctl template` in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Template = Callable[..., Result]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty, and without any settings of the user."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return directory


@pytest.fixture
def template(ctl: Callable[..., Result], here: Path) -> Template:
    """Run `tasker-ctl template …` in that directory."""
    return lambda *args: ctl("template", *args)


@pytest.fixture
def generate(template: Template) -> Template:
    """Run `tasker-ctl template generate …`; keywords become `--param`."""

    def run(kind: str, /, *args: object, **params: object) -> Result:
        words = [word for key, value in params.items() for word in ("--param", f"{key}={value}")]
        return template("generate", kind, *args, *words)

    return run


def files(directory: Path) -> list[str]:
    """Name every file below a directory, sorted."""
    found = (p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(str(path.relative_to(directory)) for path in found)
