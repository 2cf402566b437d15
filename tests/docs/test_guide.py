"""An application as the guide for Python describes it, and the tests that it describes.

A library lends books: the loan is checked, a copy is taken from the shelf, a slip is
printed. Handlers, template and unit tests have exactly the guide's forms; the last tests
run the whole of it on a real database with a real worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest

from tasker_core import (
    ErrorType,
    HandlerRegistry,
    StepContext,
    StepHandler,
    StepHandlerResult,
    Worker,
)
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.inspect import StepRecord, get_task, list_attempts, list_steps
from tasker_core.errors import InvalidContext

# --- handlers, as the guide writes them ---------------------------------------------------


class CheckLoanHandler(StepHandler):
    handler_name = "check_loan"
    handler_version = "1.2.0"

    MOST_BOOKS = 3

    def call(self, context: StepContext) -> StepHandlerResult:
        books = context.get_input("books") or context.get_input("titles")
        if not books or not isinstance(books, list):
            return StepHandlerResult.failure(
                message="There is nothing to lend",
                error_type=ErrorType.VALIDATION_ERROR,
                retryable=False,
                error_code="NO_BOOKS",
            )
        if len(books) > self.MOST_BOOKS:
            return StepHandlerResult.failure(
                message=f"{len(books)} books are too many",
                error_type=ErrorType.PERMANENT_ERROR,
                retryable=False,
                error_code="TOO_MANY",
            )
        return StepHandlerResult.success(
            result={
                "books": [book["title"] for book in books],
                "book_count": len(books),
                "checked_at": datetime.now(UTC).isoformat(),
            },
            metadata={"books_checked": len(books)},
        )


class ReserveCopiesHandler(StepHandler):
    handler_name = "reserve_copies"

    def call(self, context: StepContext) -> StepHandlerResult:
        loan = context.get_dependency_result("check_loan")
        room = context.get_input("room")
        lamp = room.get("lamp") if room else None
        if lamp == "flickers" and not context.is_retry():
            return StepHandlerResult.failure(
                message="The room is dark, try again",
                error_type=ErrorType.RETRYABLE_ERROR,
                retryable=True,
                error_code="DARK",
            )
        if lamp == "broken":
            return StepHandlerResult.failure(
                message="The lamp is broken", error_type=ErrorType.HANDLER_ERROR, retryable=False
            )
        return StepHandlerResult.success(result={"copies": loan.get("book_count", 0)})


class PrintSlipHandler(StepHandler):
    handler_name = "print_slip"

    def call(self, context: StepContext) -> StepHandlerResult:
        loan = context.get_dependency_result("check_loan")
        copies = context.get_dependency_result("reserve_copies")
        reader = context.get_input("reader_email")
        return StepHandlerResult.success(
            result={
                "slip": f"SLIP-{copies['copies']}",
                "lines": [f"{reader}: {title}" for title in loan["books"]],
            }
        )


# --- unit tests, as the guide writes them -------------------------------------------------


class TestCheckLoanHandler:
    def test_checks_a_loan(self):
        """A mock whose `get_input` takes one argument is enough of a context."""
        handler = CheckLoanHandler()
        context = MagicMock()
        context.get_input = MagicMock(
            side_effect=lambda key: [{"title": "Emma"}] if key in ("books", "titles") else None
        )

        result = handler.call(context)

        assert result.success is True
        assert result.result["book_count"] == 1
        assert result.metadata == {"books_checked": 1}

    def test_refuses_nothing(self):
        """`success` is False on a failure, and not only false-like."""
        handler = CheckLoanHandler()
        context = MagicMock()
        context.get_input = MagicMock(return_value=None)

        result = handler.call(context)

        assert result.success is False
        assert result.error_code == "NO_BOOKS"

    def test_reads_the_other_field_too(self):
        """A field that is missing is None, so that `or` goes on to the next."""
        context = StepContext.for_testing(input_data={"titles": [{"title": "Emma"}]})

        assert CheckLoanHandler().call(context).result["books"] == ["Emma"]


def test_prints_a_slip_from_the_results_before_it():
    """Results of earlier steps come as those steps returned them."""
    handler = PrintSlipHandler()
    context = MagicMock()
    context.get_input = MagicMock(
        side_effect=lambda key: "ada@example.com" if key == "reader_email" else None
    )
    context.get_dependency_result = MagicMock(
        side_effect=lambda step: {
            "check_loan": {"books": ["Emma"], "book_count": 1},
            "reserve_copies": {"copies": 1},
        }.get(step)
    )

    result = handler.call(context)

    assert result.success is True
    assert result.result["slip"].startswith("SLIP-")
    assert result.result["lines"] == ["ada@example.com: Emma"]


@pytest.mark.parametrize(
    ("error_type", "text", "retryable"),
    [
        (ErrorType.VALIDATION_ERROR, "validation_error", False),
        (ErrorType.PERMANENT_ERROR, "permanent_error", False),
        (ErrorType.RETRYABLE_ERROR, "retryable_error", True),
        (ErrorType.HANDLER_ERROR, "handler_error", True),
    ],
)
def test_a_failure_is_what_it_says(error_type, text, retryable):
    """Type, flag and code of a failure are kept as they were given."""
    result = StepHandlerResult.failure(
        message="no", error_type=error_type, retryable=retryable, error_code="NO"
    )

    assert result.success is False
    assert (result.error_type, result.retryable, result.error_code) == (text, retryable, "NO")


def test_a_handler_knows_its_name_and_version():
    """Class attributes name a handler, and no arguments are needed to make it."""
    assert (CheckLoanHandler().name, CheckLoanHandler().version) == ("check_loan", "1.2.0")


# --- the template, with every key of the guide's, and a run of it -------------------------

TEMPLATE = """
name: lend_books
namespace_name: guide_library
version: 1.0.0
description: "Lend books to a reader"
metadata:
  author: The library
  tags:
    - namespace:library
    - language:python
task_handler:
  callable: library.task_handlers.LoanHandler
  initialization:
    input_validation:
      required_fields:
        - reader_email
        - purpose
system_dependencies:
  primary: default
  secondary: []
input_schema:
  type: object
  required:
    - reader_email
  properties:
    books:
      type: array
      items:
        type: object
        required: [title]
    reader_email:
      type: string
      format: email
steps:
  - name: check_loan
    description: "Check what is to be lent"
    handler:
      callable: check_loan
    dependencies: []
    retry:
      retryable: true
      max_attempts: 2
      backoff: exponential
      backoff_base_ms: 1
      max_backoff_ms: 5000

  - name: reserve_copies
    description: "Take the copies from the shelf"
    handler:
      callable: reserve_copies
    dependencies:
      - check_loan
    retry:
      retryable: true
      max_attempts: 2
      backoff: exponential
      backoff_base_ms: 1
      max_backoff_ms: 5000

  - name: print_slip
    description: "Print the slip"
    handler:
      callable: MODULE.PrintSlipHandler
    dependencies:
      - reserve_copies
    retry:
      retryable: true
      max_attempts: 2
      backoff: exponential
      backoff_base_ms: 1
      max_backoff_ms: 5000
"""

LOAN = {
    "books": [{"title": "Emma"}, {"title": "Persuasion"}],
    "reader_email": "ada@example.com",
    "purpose": "reading",
}


@pytest.fixture
def library(clean_database: str, tmp_path: Path) -> Iterator[None]:
    """A worker with two of the handlers by name; the third is found by its dotted path."""
    (tmp_path / "lend_books.yaml").write_text(TEMPLATE.replace("MODULE", __name__))
    with registered(CheckLoanHandler, ReserveCopiesHandler):
        settings = {"database_url": clean_database}
        with Worker.start(config=settings, templates=[tmp_path], strict=True):
            yield


@contextmanager
def registered(*handlers: type[StepHandler]) -> Iterator[None]:
    registry = HandlerRegistry.instance()
    for handler in handlers:
        registry.register(handler)
    yield
    for handler in handlers:
        registry.unregister(handler.handler_name)


async def lend(conn, shelf, **changes: Any) -> tuple[UUID, dict[str, StepRecord]]:
    """Create the task, wait until its steps have come to rest, and give them by name."""
    wanted = NewTask(name="lend_books", namespace="guide_library", context={**LOAN, **changes})
    task_uuid = (await create_task(conn, shelf, wanted)).task_uuid
    async with asyncio.timeout(30):
        while True:
            task = await get_task(conn, task_uuid)
            if task.state in ("complete", "blocked_by_failures"):
                break
            await asyncio.sleep(0.01)
    return task_uuid, {step.name: step for step in await list_steps(conn, task_uuid)}


async def test_the_workflow_runs(library, conn, shelf):
    """Results go from step to step, whether a handler was named or given by its path."""
    task_uuid, steps = await lend(conn, shelf)

    assert (await get_task(conn, task_uuid)).state == "complete"
    assert [step.attempts for step in steps.values()] == [1, 1, 1]
    assert steps["print_slip"].result == {
        "slip": "SLIP-2",
        "lines": ["ada@example.com: Emma", "ada@example.com: Persuasion"],
    }


async def test_a_retryable_failure_is_tried_again(library, conn, shelf):
    """The step's retry block says how often; the failed attempt stays on record."""
    task_uuid, steps = await lend(conn, shelf, room={"lamp": "flickers"})

    assert (await get_task(conn, task_uuid)).state == "complete"
    assert steps["reserve_copies"].attempts == 2
    tried = [a for a in await list_attempts(conn, task_uuid) if a.step_no == 2]
    assert [attempt.outcome for attempt in tried] == ["waiting_for_retry", "complete"]
    assert tried[0].error is not None
    assert tried[0].error["error_code"] == "DARK"


@pytest.mark.parametrize(
    ("changes", "step", "error_type", "error_code"),
    [
        ({"books": []}, "check_loan", "validation_error", "NO_BOOKS"),
        ({"books": [{"title": "Emma"}] * 4}, "check_loan", "permanent_error", "TOO_MANY"),
        ({"room": {"lamp": "broken"}}, "reserve_copies", "handler_error", None),
    ],
)
async def test_a_final_failure_is_not(library, conn, shelf, changes, step, error_type, error_code):
    """A failure that is not retryable ends its step at the first attempt."""
    task_uuid, steps = await lend(conn, shelf, **changes)

    assert (await get_task(conn, task_uuid)).state == "blocked_by_failures"
    failed = steps[step]
    assert (failed.state, failed.attempts) == ("error", 1)
    assert failed.last_attempt is not None
    error = failed.last_attempt.error or {}
    assert (error["error_type"], error.get("error_code")) == (error_type, error_code)
    assert steps["print_slip"].attempts == 0


@pytest.mark.parametrize(
    ("context", "pointer", "rule"),
    [
        ({**LOAN, "reader_email": "nobody"}, "/reader_email", "format"),
        ({**LOAN, "books": [{}]}, "/books/0/title", "required"),
        ({"reader_email": "ada@example.com"}, "/purpose", "required_fields"),
    ],
)
async def test_a_context_that_does_not_fit_is_refused(library, conn, shelf, context, pointer, rule):
    """`input_schema` and `required_fields` are checked before anything is written."""
    with pytest.raises(InvalidContext) as caught:
        await create_task(
            conn, shelf, NewTask(name="lend_books", namespace="guide_library", context=context)
        )

    assert (pointer, rule) in [(v.pointer, v.rule) for v in caught.value.violations]
