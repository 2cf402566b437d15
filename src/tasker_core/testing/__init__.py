"""The testing kit: one handler without a database, whole workflows on a throw-away one.

::

    from tasker_core.testing import build_context, run_handler, run_workflow

    result = run_handler("charge_card", input={"amount_cents": 1250})
    run = run_workflow("place_order", {"sku": "tea"}, mocks={"charge": {"id": "ch_1"}})
    run.assert_complete()

In pytest, the fixtures `tasker`, `tasker_clock` and `tasker_database` are there by
themselves. Each name is imported when it is first used: pytest loads this package at every
start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker_core.testing.clock import Clock
    from tasker_core.testing.contexts import build_context, run_handler, run_handler_async
    from tasker_core.testing.database import NoTestDatabase, ThrowAwayDatabase
    from tasker_core.testing.flows import Bench, run_workflow, run_workflow_async
    from tasker_core.testing.mocks import REAL, TIMES_OUT, WORKER_LOST, MockExhausted
    from tasker_core.testing.records import RunStep, RunTransition
    from tasker_core.testing.run import Run

__all__ = [
    "REAL",
    "TIMES_OUT",
    "WORKER_LOST",
    "Bench",
    "Clock",
    "MockExhausted",
    "NoTestDatabase",
    "Run",
    "RunStep",
    "RunTransition",
    "ThrowAwayDatabase",
    "build_context",
    "run_handler",
    "run_handler_async",
    "run_workflow",
    "run_workflow_async",
]

_NAMES = {
    "clock": "Clock",
    "contexts": "build_context run_handler run_handler_async",
    "database": "NoTestDatabase ThrowAwayDatabase",
    "flows": "Bench run_workflow run_workflow_async",
    "mocks": "REAL TIMES_OUT WORKER_LOST MockExhausted",
    "records": "RunStep RunTransition",
    "run": "Run",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
