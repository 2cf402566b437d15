"""Tests as users write them, for mypy --strict; nothing here is run."""

from __future__ import annotations

from typing import assert_type

from tasker_core import StepHandlerResult
from tasker_core.testing import (
    REAL,
    TIMES_OUT,
    WORKER_LOST,
    Bench,
    Run,
    RunStep,
    build_context,
    run_handler,
    run_workflow,
)
from tasker_core.types import StepContext

assert_type(build_context(input={"cents": 3}), StepContext)
assert_type(run_handler("charge", input={"cents": 3}), StepHandlerResult)


def test_one_order(tasker: Bench) -> None:
    run = tasker.run("order", {"cents": 3}, mocks={"charge": [TIMES_OUT, WORKER_LOST, REAL]})
    assert_type(run, Run)
    assert_type(run.steps["charge"], RunStep)
    run.assert_complete()


assert_type(run_workflow("order", {"cents": 3}, mocks={"charge": {"id": "ch_1"}}), Run)
