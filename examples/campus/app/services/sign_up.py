"""Accounts of students."""

from __future__ import annotations

from uuid import UUID

from app.database import connect
from app.models.sign_up import Account, ActiveAccount, Card, Group, SignUpRequest, Welcome
from app.services import mail
from tasker_core.errors import PermanentError


async def create_account(wish: SignUpRequest, *, task_uuid: UUID) -> Account:
    async with connect() as conn:
        await conn.execute(
            "insert into campus.accounts (task_uuid, email, full_name) values ($1, $2, $3) "
            "on conflict do nothing",
            task_uuid,
            wish.email,
            wish.full_name,
        )
        student_no = await conn.fetchval(
            "select student_no from campus.accounts where task_uuid = $1", task_uuid
        )
    if student_no is None:  # the address belongs to an account of another task
        raise PermanentError(f"{wish.email} has an account", error_code="EMAIL_TAKEN")
    return Account(student_no=student_no, email=wish.email, full_name=wish.full_name)


async def assign_tutor_group(account: Account) -> Group:
    """Put a student into the smallest group; into one, however often it is asked."""
    async with connect() as conn, conn.transaction():
        tutor_group = await conn.fetchval(
            "select tutor_group from campus.accounts where student_no = $1 for update",
            account.student_no,
        )
        if tutor_group is None:
            tutor_group = await conn.fetchval(
                "update campus.tutor_groups set member_count = member_count + 1 where name = "
                "(select name from campus.tutor_groups order by member_count, name "
                "limit 1 for update) returning name"
            )
            await conn.execute(
                "update campus.accounts set tutor_group = $2 where student_no = $1",
                account.student_no,
                tutor_group,
            )
    return Group(tutor_group=tutor_group)


async def activate_account(account: Account, group: Group, card: Card) -> ActiveAccount:
    async with connect() as conn:
        await conn.execute(
            "update campus.accounts set card_number = $2, is_active = true where student_no = $1",
            account.student_no,
            card.card_number,
        )
    return ActiveAccount(
        student_no=account.student_no,
        tutor_group=group.tutor_group,
        card_number=card.card_number,
    )


async def send_welcome(account: Account, active: ActiveAccount, *, step_uuid: UUID) -> Welcome:
    subject = f"Welcome, {account.full_name}: you are in group {active.tutor_group}"
    await mail.send(account.email, subject, step_uuid=step_uuid)
    return Welcome(sent_to=account.email, subject=subject)
