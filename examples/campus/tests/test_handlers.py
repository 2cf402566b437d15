"""Handlers by themselves: with a context made for tests, with a mock, and as plain functions."""

from __future__ import annotations

from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest

from tasker_core import StepContext
from tasker_core.errors import PermanentError


@pytest.fixture(autouse=True)
def handlers(database):
    """The modules, imported with the application's directory in the path."""
    from app.handlers import attendance, orders, payments, sign_up, support

    return {
        "attendance": attendance,
        "orders": orders,
        "payments": payments,
        "sign_up": sign_up,
        "support": support,
    }


@pytest.mark.parametrize(
    ("amount_cents", "steps"),
    [
        (5000, ["approve_by_rule"]),
        (5001, ["approve_by_lead"]),
        (10_000, ["approve_by_lead"]),
        (10_001, ["approve_by_lead", "approve_by_finance"]),
    ],
)
def test_a_decision_goes_by_the_amount(handlers, amount_cents, steps):
    """The result names the branches, at both sides of each limit."""
    claim = {
        "reference": "R",
        "order_number": "M-1",
        "student_email": "a@students.test",
        "amount_cents": amount_cents,
    }
    context = MagicMock()
    context.get_dependency_result = MagicMock(side_effect={"check_request": claim}.get)

    result = handlers["support"].choose_approval.handler_class().call(context)

    assert result.success is True
    assert result.result["decision_point_outcome"] == {"type": "create_steps", "step_names": steps}
    assert result.result["routing_context"] == {"amount_cents": amount_cents}


def test_what_was_not_asked_is_none(handlers):
    """The convergence counts the answers that there are; called as a plain function."""
    from app.models.refunds import Answer

    verdict = handlers["support"].conclude(
        rule=None,
        lead=Answer(role="lead", approved=True),
        finance=Answer(role="finance", approved=False),
    )

    assert verdict.approved is False
    assert verdict.answered_by == ["finance", "lead"]


@pytest.mark.parametrize(
    ("wish", "error_code"),
    [
        ({}, "INCOMPLETE_REQUEST"),
        ({"reference": "R", "order_number": "M-1", "amount_cents": 0}, "INVALID_AMOUNT"),
    ],
)
async def test_an_input_model_refuses_for_good(handlers, wish, error_code):
    """PermanentError comes through pydantic with its code."""
    context = StepContext.for_testing(input_data=wish)

    result = await handlers["support"].check_request.handler_class().call(context)

    assert (result.success, result.retryable) == (False, False)
    assert (result.error_type, result.error_code) == ("permanent_error", error_code)


async def test_records_that_are_missing_or_wrong_are_final(handlers):
    """A transform without its source's result, and one with a record that makes no sense."""
    transform = handlers["attendance"].transform_labs.handler_class
    wrong = {"source": "labs", "records": [{"student": "7", "hours": "many"}]}

    missing = await transform().call(StepContext.for_testing())
    unreadable = await transform().call(
        StepContext.for_testing(dependency_results={"extract_labs": wrong})
    )

    assert (missing.error_code, missing.retryable) == ("MISSING_DEPENDENCY", False)
    assert (unreadable.error_code, unreadable.retryable) == ("UNREADABLE_RECORD", False)


async def test_a_worker_goes_on_from_its_checkpoint(handlers, conn):
    """Ten students, a checkpoint, then the rest; points are carried along."""
    from app.services.attendance import gate_row, store
    from app.services.sources import read_gates

    task_uuid = uuid4()
    raw = {"source": "gates", "records": await read_gates(1, 15)}
    await store(handlers["attendance"].RawRecords(**raw), gate_row, task_uuid=task_uuid)
    cursor = {"batch_id": "001", "start_cursor": 0, "end_cursor": 15, "batch_size": 15}
    worker = handlers["attendance"].award_points.handler_class

    first = await worker().call(
        StepContext.for_testing(task_uuid=task_uuid, step_inputs={"cursor": cursor})
    )
    last = await worker().call(
        StepContext.for_testing(
            task_uuid=task_uuid, step_inputs={"cursor": cursor}, checkpoint=first.checkpoint
        )
    )

    assert first.checkpoint["cursor"] == 10
    assert last.checkpoint is None
    assert last.result["items_processed"] == 15
    points = await conn.fetchval(
        "select sum(points) from campus.points where task_uuid = $1", task_uuid
    )
    assert last.result["results"] == [{"points": points}]


@pytest.mark.parametrize(
    ("status", "headers", "error_type", "retryable"),
    [
        (503, {"Retry-After": "7"}, "service_unavailable", True),
        (403, {}, "forbidden", False),
        (422, {}, "unprocessable_entity", False),
    ],
)
async def test_the_library_s_answers_are_understood(
    handlers, status, headers, error_type, retryable
):
    """By a transport in place of the network."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, json={"detail": "no"}, headers=headers)

    handler = handlers["sign_up"].IssueLibraryCard()
    handler._async_client = httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url="http://library.test"
    )
    account = {"student_no": 1, "email": "a@students.test", "full_name": "A student"}
    context = StepContext.for_testing(dependency_results={"create_account": account})

    result = await handler.call(context)
    await handler.aclose()

    assert (result.success, result.error_type, result.retryable) == (False, error_type, retryable)
    assert result.retry_after_seconds == (7 if headers else None)
    assert seen[0].headers["Idempotency-Key"] == str(context.step_uuid)


async def test_steps_that_write_do_so_once(handlers, conn, an_address):
    """A step that runs twice leaves what one run leaves."""
    email = an_address()
    charge = {"account": email, "amount_cents": 600}
    context = StepContext.for_testing(
        input_data={"student_email": email},
        dependency_results={
            "look_up_materials": {"materials": [], "total_cents": 600},
            "charge_account": charge,
        },
    )

    for handler in (handlers["orders"].charge_account, handlers["orders"].confirm_order):
        first, second = [await handler.handler_class().call(context) for _ in range(2)]
        assert first.success is True
        assert first.result == second.result

    for table, column in (("ledger", "account"), ("orders", "student_email"), ("mails", "sent_to")):
        rows = await conn.fetch(f"select from campus.{table} where {column} = $1", email)
        assert len(rows) == 1


async def test_payments_takes_from_an_order_once(handlers, conn, an_address):
    """Twice the same step is one refund; another task finds nothing left."""
    order_number = await conn.fetchval(
        "insert into campus.orders (task_uuid, student_email, total_cents) "
        "values ($1, $2, 900) returning order_number",
        uuid4(),
        an_address(),
    )
    payout = {
        "reference": "R",
        "order_number": order_number,
        "account": "a@students.test",
        "amount_cents": 900,
    }
    check = handlers["payments"].check_request.handler_class
    context = StepContext.for_testing(input_data=payout)

    first, second = [await check().call(context) for _ in range(2)]
    other = await check().call(StepContext.for_testing(input_data=payout))

    assert first.success is second.success is True
    assert (other.success, other.error_code) == (False, "NOTHING_LEFT")
    refunded = await conn.fetchval(
        "select refunded_cents from campus.orders where order_number = $1", order_number
    )
    assert refunded == 900


async def test_a_week_that_is_none(handlers):
    """As a plain function, the error comes as it is."""
    from app.models.attendance import Week

    with pytest.raises(PermanentError) as caught:
        await handlers["attendance"].extract_gates(inputs=Week(week=0, students=1))

    assert caught.value.error_code == "NO_SUCH_WEEK"


async def test_a_handover_that_was_cut_off_finds_its_task(handlers, monkeypatch):
    """The second attempt is told that the task exists, and gives the same answer."""
    from app.models.refunds import Claim, Verdict
    from app.services import support

    from tasker_core.client import AsyncTaskerClient

    created = {}

    def server(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            page = {"page": 0, "per_page": 50, "total_count": 1, "total_pages": 1}
            found = [created] if request.url.params["correlation_id"] in created.values() else []
            return httpx.Response(200, json={"tasks": found, "pagination": page})
        if created:
            return httpx.Response(409, json={"detail": "it exists", "code": "duplicate_task"})
        import json

        created.update(json.loads(request.content), task_uuid=str(uuid4()), status="pending")
        return httpx.Response(201, json=created)

    monkeypatch.setattr(
        support,
        "AsyncTaskerClient",
        lambda *who: AsyncTaskerClient(*who, transport=httpx.MockTransport(server)),
    )
    claim = Claim(
        reference="R", order_number="M-1", student_email="a@students.test", amount_cents=100
    )
    ids = {"correlation_id": uuid4(), "step_uuid": uuid4()}
    verdict = Verdict(approved=True, answered_by=["rule"])

    first, second = [await support.hand_to_payments(claim, verdict, **ids) for _ in range(2)]

    assert first == second
    assert first.payment_task_uuid == created["task_uuid"]
    assert created["parent_correlation_id"] == str(ids["correlation_id"])
    with pytest.raises(PermanentError, match="somebody else"):
        await support.hand_to_payments(claim, verdict, **{**ids, "step_uuid": uuid4()})
