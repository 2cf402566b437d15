"""docs/reference/python.md says what the docstrings say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "make_python_reference.py"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="others write signatures differently")
def test_the_page_is_what_the_script_makes():
    """After a change of a public docstring: python docs/make_python_reference.py."""
    spec = importlib.util.spec_from_file_location("make_python_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    assert script.PAGE.read_text(encoding="utf-8") == script.make_page()
