"""Handler packages written to disk for one test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import pytest
from hypothesis import settings

# A busy machine must not make a test fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Write = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write `{path: source}` as a package that can be imported; gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules, path = dict(sys.modules), list(sys.path)

    def write(files: dict[str, str]) -> str:
        name = f"handlers_{uuid4().hex[:12]}"
        for place, source in {"__init__.py": "", **files}.items():
            file = tmp_path / name / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source))
        return name

    yield write
    for added in sys.modules.keys() - modules.keys():
        if added.startswith("handlers_"):
            del sys.modules[added]
    sys.path[:] = path
