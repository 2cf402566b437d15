"""The examples in the docstrings of this room say what happens."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["block", "document", "findings", "graph", "inputs", "model"])
def test_examples_run(module):
    """Every example gives what it shows."""
    result = doctest.testmod(importlib.import_module(f"tasker_core.templates.{module}"))

    assert result.failed == 0
