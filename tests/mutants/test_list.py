"""The list of mutants is about the code that there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("mutants_run", Path(__file__).with_name("run.py"))
assert _spec is not None
assert _spec.loader is not None
run = importlib.util.module_from_spec(_spec)
sys.modules["mutants_run"] = run
_spec.loader.exec_module(run)


@pytest.mark.parametrize("mutant", run.read_mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place(mutant) -> None:
    """What it looks for is there once, and the tests that are to notice exist."""
    text = (run.PACKAGE / mutant.file).read_text()

    assert text.count(mutant.find) == 1
    assert mutant.find != mutant.put
    assert all((run.ROOT / test).exists() for test in mutant.tests)
