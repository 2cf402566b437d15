"""Log lines say which step they belong to."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from tasker_core.handlers.context import StepContext
from tasker_core.handlers.current import current_step, enter_step, leave_step
from tasker_core.handlers.logs import (
    TRACE,
    LogContext,
    log_debug,
    log_error,
    log_info,
    log_trace,
    log_warn,
)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(TRACE, logger="tasker_core")


@pytest.mark.parametrize(
    ("log", "level"),
    [
        (log_error, logging.ERROR),
        (log_warn, logging.WARNING),
        (log_info, logging.INFO),
        (log_debug, logging.DEBUG),
        (log_trace, TRACE),
    ],
)
def test_each_function_has_its_level(log, level: int, caplog: pytest.LogCaptureFixture):
    """And the caller's own line; percent signs are text."""
    log("100 %s done")

    record = caplog.records[-1]
    assert (record.levelno, record.name) == (level, "tasker_core")
    assert record.getMessage() == "100 %s done"
    assert record.filename == "test_logs.py"
    assert record.operation == "python_handler"
    assert logging.getLevelName(TRACE) == "TRACE"


def test_fields_become_attributes(caplog: pytest.LogCaptureFixture):
    """As text; names that a record has already get an underscore; None of a `LogContext` is out."""
    log_info("m", {"order": 7, "name": "Ada", "nothing": None})
    plain = caplog.records[-1]
    log_info("m", LogContext(namespace="shop", operation="charge"))
    typed = caplog.records[-1]

    assert (plain.order, plain.name_, plain.name) == ("7", "Ada", "tasker_core")
    assert plain.nothing == "None"
    assert (typed.namespace, typed.operation) == ("shop", "charge")
    assert not hasattr(typed, "task_uuid")


def test_the_steps_ids_are_added(caplog: pytest.LogCaptureFixture):
    """Between entering and leaving it; fields of one's own go before them."""
    context = StepContext.for_testing(namespace="shop", step_name="charge")
    entered = enter_step(context)
    log_info("inside", {"namespace": "mine"})
    leave_step(entered)
    log_info("outside")

    inside, outside = caplog.records[-2:]
    assert inside.task_uuid == str(context.task_uuid)
    assert inside.step_uuid == str(context.step_uuid)
    assert inside.correlation_id == str(context.correlation_id)
    assert (inside.step_name, inside.namespace) == ("charge", "mine")
    assert not hasattr(outside, "task_uuid")
    assert current_step() is None


async def test_every_thread_and_task_has_its_own_step():
    """None sees another's."""
    contexts = [StepContext.for_testing() for _ in range(3)]
    seen: list[object] = []

    async def work(context: StepContext) -> None:
        enter_step(context)
        await asyncio.sleep(0)
        seen.append(current_step() is context)

    def work_in_thread(context: StepContext) -> None:
        entered = enter_step(context)
        seen.append(current_step() is context)
        leave_step(entered)

    await asyncio.gather(*(asyncio.create_task(work(c)) for c in contexts))
    threads = [threading.Thread(target=work_in_thread, args=(c,)) for c in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [True] * 6
    assert current_step() is None
