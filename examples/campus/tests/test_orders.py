"""Course material: four steps, one after the other."""

from __future__ import annotations

from uuid import UUID, uuid4


def an_order(email: str, **changes: str) -> dict[str, str]:
    order = {"reference": uuid4().hex, "student_email": email, "course_code": "algebra"}
    return {**order, **changes}


def states(task):
    return [(step["name"], step["state"], step["attempts"]) for step in task["steps"]]


async def test_an_order_goes_through(campus, conn, an_address):
    """Step by step, and the money and the books are where they belong."""
    email = an_address()

    task = await campus.finished("/orders", an_order(email))

    assert task["status"] == "complete"
    assert states(task) == [
        ("look_up_materials", "complete", 1),
        ("reserve_copies", "complete", 1),
        ("charge_account", "complete", 1),
        ("confirm_order", "complete", 1),
    ]
    confirmed = task["steps"][-1]["result"]
    assert confirmed["total_cents"] == 4000
    written = await conn.fetchrow(
        "select order_number, total_cents from campus.orders where student_email = $1", email
    )
    assert dict(written) == confirmed
    assert (
        await conn.fetchval("select amount_cents from campus.ledger where account = $1", email)
        == -4000
    )


async def test_an_unknown_course_is_final(campus, an_address):
    """No second attempt, and the steps after it do not begin."""
    task = await campus.finished("/orders", an_order(an_address(), course_code="alchemy"))

    assert task["status"] == "blocked_by_failures"
    first, *rest = task["steps"]
    assert (first["state"], first["attempts"], first["error_code"]) == (
        "error",
        1,
        "UNKNOWN_COURSE",
    )
    assert [step["attempts"] for step in rest] == [0, 0, 0]


async def test_no_copies_no_charge(campus, conn, an_address):
    """An order that cannot be filled takes no money and leaves no reservation."""
    email = an_address()

    task = await campus.finished("/orders", an_order(email, course_code="geography"))

    assert task["steps"][1]["error_code"] == "NO_COPIES"
    assert not await conn.fetch("select from campus.ledger where account = $1", email)
    assert not await conn.fetch(
        "select from campus.reservations where task_uuid = $1", UUID(task["task_uuid"])
    )


async def test_a_bank_that_is_down_costs_attempts(campus, conn, an_address):
    """Two failures, then the charge goes through, once."""
    email = an_address()
    await campus.outage("bank", 2)

    task = await campus.finished("/orders", an_order(email))

    assert task["status"] == "complete"
    assert task["steps"][2]["attempts"] == 3
    assert len(await conn.fetch("select from campus.ledger where account = $1", email)) == 1


async def test_a_second_click_is_told_so(campus, an_address):
    """The same reference is the same order; what is no order is refused at the door."""
    order = an_order(an_address())

    answers = [await campus.http.post("/orders", json=order) for _ in range(2)]
    wrong = await campus.http.post("/orders", json={**order, "student_email": "nobody"})
    unknown = await campus.http.get(f"/tasks/{uuid4()}")

    assert [answer.status_code for answer in answers] == [202, 409]
    assert (wrong.status_code, unknown.status_code) == (422, 404)
    await campus.end_of(answers[0].headers["Location"])


async def test_the_worker_of_the_application_is_well(campus):
    """The health page names it."""
    health = (await campus.http.get("/health")).json()

    assert health["status"] == "healthy"
    assert UUID(health["worker"])
