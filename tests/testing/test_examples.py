"""The examples in docstrings of the testing kit run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["contexts", "flows", "mocks"])
def test_examples_run(module, tasker_database):
    """What a docstring shows is what happens."""
    result = doctest.testmod(importlib.import_module(f"tasker_core.testing.{module}"))

    assert result.attempted > 0
    assert result.failed == 0
