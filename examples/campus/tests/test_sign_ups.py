"""A sign-up: two branches side by side, one of them over HTTP."""

from __future__ import annotations

from datetime import timedelta


def by_name(task):
    return {step["name"]: step for step in task["steps"]}


async def test_a_student_signs_up(campus, conn, an_address):
    """Both branches are joined, and the account is active."""
    email = an_address()

    task = await campus.finished("/sign-ups", {"email": email, "full_name": "A student"})

    assert task["status"] == "complete"
    active = by_name(task)["activate_account"]["result"]
    account = await conn.fetchrow("select * from campus.accounts where email = $1", email)
    assert account["is_active"] is True
    for key in ("student_no", "tutor_group", "card_number"):
        assert account[key] == active[key]
    assert await conn.fetchval("select subject from campus.mails where sent_to = $1", email)


async def test_the_library_says_when_to_come_back(campus, conn, an_address):
    """503 with `Retry-After: 1` is tried again, a second later and not before."""
    email = an_address()
    await campus.outage("library", 1)

    task = await campus.finished("/sign-ups", {"email": email, "full_name": "A student"})

    assert task["status"] == "complete"
    assert by_name(task)["issue_library_card"]["attempts"] == 2
    calls = await conn.fetch(
        "select status_code, called_at from campus.library_calls join campus.library_cards "
        "using (request_key) where email = $1 order by called_at",
        email,
    )
    assert [call["status_code"] for call in calls] == [503, 201]
    assert calls[1]["called_at"] - calls[0]["called_at"] >= timedelta(seconds=0.9)


async def test_a_blocked_reader_gets_no_card(campus, an_address):
    """403 is final; the other branch is done, and nothing after the join begins."""
    email = an_address().replace("@students.test", "@blocked.test")

    task = await campus.finished("/sign-ups", {"email": email, "full_name": "A student"})

    assert task["status"] == "blocked_by_failures"
    steps = by_name(task)
    card = steps["issue_library_card"]
    assert (card["state"], card["attempts"]) == ("error", 1)
    assert "has not brought back a book" in card["error"]
    assert steps["assign_tutor_group"]["state"] == "complete"
    assert steps["activate_account"]["attempts"] == 0


async def test_an_address_signs_up_once(campus, conn, an_address):
    """The second task with an address is refused, and the first one's account stays."""
    student = {"email": an_address(), "full_name": "A student"}
    await campus.finished("/sign-ups", student)

    task = await campus.finished("/sign-ups", student)

    assert by_name(task)["create_account"]["error_code"] == "EMAIL_TAKEN"
    assert (
        await conn.fetchval(
            "select count(*) from campus.accounts where email = $1", student["email"]
        )
        == 1
    )
