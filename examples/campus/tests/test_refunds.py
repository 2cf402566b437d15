"""Two teams: support decides, payments pays."""

from __future__ import annotations

from uuid import uuid4

import pytest


def by_name(task):
    return {step["name"]: step for step in task["steps"]}


@pytest.fixture
async def order(conn, an_address):
    """Make an order that was paid for: `await order(cents)`."""

    async def make(total_cents: int) -> dict:
        row = await conn.fetchrow(
            "insert into campus.orders (task_uuid, student_email, total_cents) "
            "values ($1, $2, $3) returning order_number, student_email",
            uuid4(),
            an_address(),
            total_cents,
        )
        return dict(row)

    return make


def a_refund(order, **changes):
    return {"reference": uuid4().hex, "order_number": order["order_number"], **changes}


async def payment_of(campus, task):
    """Give the payments team's task, as it ends."""
    uuid = by_name(task)["hand_to_payments"]["result"]["payment_task_uuid"]
    return await campus.end_of(f"/tasks/{uuid}")


async def test_a_small_refund_needs_no_person(campus, conn, order):
    """The rule approves; the other team's task knows where it comes from, and pays."""
    bought = await order(4000)

    task = await campus.finished("/refunds", a_refund(bought))
    payment = await payment_of(campus, task)

    assert (task["status"], payment["status"]) == ("complete", "complete")
    names = list(by_name(task))
    assert "approve_by_rule" in names
    assert not {"approve_by_lead", "approve_by_finance"} & set(names)
    assert payment["namespace"] == "payments"
    assert payment["parent_correlation_id"] == task["correlation_id"]
    assert {"check_request", "notify"} <= set(names) & set(by_name(payment))
    assert "order_number" in by_name(payment)["check_request"]["result"]
    paid = await conn.fetch(
        "select amount_cents from campus.ledger where account = $1", bought["student_email"]
    )
    assert [row["amount_cents"] for row in paid] == [4000]


async def test_a_large_refund_waits_for_two_people(campus, order):
    """Both branches come into being, ask until there is an answer, and are joined."""
    refund = a_refund(await order(12_500))
    place = await campus.begin("/refunds", refund)
    for role in ("lead", "finance"):
        said = await campus.http.put(
            f"/refunds/{refund['reference']}/answers/{role}", json={"approved": True}
        )
        assert said.status_code == 204

    task = await campus.end_of(place)

    assert task["status"] == "complete"
    verdict = by_name(task)["conclude"]["result"]
    assert verdict == {"approved": True, "answered_by": ["finance", "lead"]}
    assert (await payment_of(campus, task))["status"] == "complete"


async def test_asking_goes_on_until_there_is_an_answer(campus, order):
    """No answer is a failure that is tried again; a no is an answer, and nothing is paid."""
    refund = a_refund(await order(8000))
    place = await campus.begin("/refunds", refund)
    waiting = {}
    while waiting.get("state") != "waiting_for_retry":
        task = (await campus.http.get(place, params={"wait": 0.1})).json()
        waiting = by_name(task).get("approve_by_lead", {})
    assert waiting["error_code"] == "NO_ANSWER_YET"

    await campus.http.put(f"/refunds/{refund['reference']}/answers/lead", json={"approved": False})
    task = await campus.end_of(place)

    assert task["status"] == "complete"
    steps = by_name(task)
    assert steps["approve_by_lead"]["attempts"] >= 2
    assert steps["hand_to_payments"]["result"] == {"payment_task_uuid": None}
    assert "is not approved" in steps["notify"]["result"]["subject"]


async def test_what_was_paid_back_is_not_paid_again(campus, conn, order):
    """The decision takes no branch: the task is complete with the steps that it has."""
    bought = await order(3000)
    await payment_of(campus, await campus.finished("/refunds", a_refund(bought)))

    task = await campus.finished("/refunds", a_refund(bought))

    assert task["status"] == "complete"
    steps = by_name(task)
    assert steps["choose_approval"]["result"]["reason"] == "everything has been paid back before"
    assert not {"conclude", "hand_to_payments"} & {
        name for name, step in steps.items() if step["state"] == "complete"
    }
    assert (
        len(
            await conn.fetch(
                "select from campus.ledger where account = $1", bought["student_email"]
            )
        )
        == 1
    )


async def test_an_order_that_does_not_exist_is_final(campus):
    """One attempt, with the reason."""
    task = await campus.finished("/refunds", a_refund({"order_number": "M-0"}))

    check = by_name(task)["check_request"]
    assert (check["attempts"], check["error_code"]) == (1, "UNKNOWN_ORDER")


async def test_a_wish_that_is_none_is_final(campus, order):
    """The input model's own PermanentError arrives as such."""
    task = await campus.finished("/refunds", a_refund(await order(100), amount_cents=-5))

    check = by_name(task)["check_request"]
    assert (check["attempts"], check["error_code"]) == (1, "INVALID_AMOUNT")


async def test_a_bank_that_is_down_holds_up_payments_alone(campus, order):
    """Support is done long before; payments tries again."""
    await campus.outage("bank", 2)

    task = await campus.finished("/refunds", a_refund(await order(2000)))
    payment = await payment_of(campus, task)

    assert (task["status"], payment["status"]) == ("complete", "complete")
    assert by_name(payment)["pay_back"]["attempts"] == 3
