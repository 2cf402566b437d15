"""Course material: what there is, who gets it, and what it costs."""

from __future__ import annotations

from uuid import UUID

from app.database import connect
from app.models.orders import Charge, Confirmation, Material, MaterialList, Reservation
from app.services import bank, mail
from tasker_core.errors import BusinessLogicError, PermanentError


async def look_up_materials(course_code: str) -> MaterialList:
    async with connect() as conn:
        rows = await conn.fetch(
            "select sku, title, price_cents from campus.materials "
            "where course_code = $1 order by sku",
            course_code,
        )
    if not rows:
        raise PermanentError(f"there is no course {course_code!r}", error_code="UNKNOWN_COURSE")
    materials = [Material(**row) for row in rows]
    return MaterialList(materials=materials, total_cents=sum(one.price_cents for one in materials))


async def reserve_copies(wanted: MaterialList, *, task_uuid: UUID) -> Reservation:
    """Take one copy of each, all or none, and none a second time."""
    async with connect() as conn, conn.transaction():
        for material in wanted.materials:  # sorted, so two orders never wait in a ring
            is_new = await conn.fetchval(
                "insert into campus.reservations (task_uuid, sku) values ($1, $2) "
                "on conflict do nothing returning true",
                task_uuid,
                material.sku,
            )
            if is_new and not await conn.fetchval(
                "update campus.materials set copies = copies - 1 "
                "where sku = $1 and copies > 0 returning true",
                material.sku,
            ):
                raise BusinessLogicError(
                    f"no copy of {material.title!r} is left", error_code="NO_COPIES"
                )
    return Reservation(skus=[material.sku for material in wanted.materials])


async def charge_account(account: str, wanted: MaterialList, *, step_uuid: UUID) -> Charge:
    await bank.book(account, -wanted.total_cents, "course material", step_uuid=step_uuid)
    return Charge(account=account, amount_cents=wanted.total_cents)


async def confirm_order(charge: Charge, *, task_uuid: UUID, step_uuid: UUID) -> Confirmation:
    async with connect() as conn:
        await conn.execute(
            "insert into campus.orders (task_uuid, student_email, total_cents) "
            "values ($1, $2, $3) on conflict (task_uuid) do nothing",
            task_uuid,
            charge.account,
            charge.amount_cents,
        )
        order_number = await conn.fetchval(
            "select order_number from campus.orders where task_uuid = $1", task_uuid
        )
    await mail.send(charge.account, f"Your material: order {order_number}", step_uuid=step_uuid)
    return Confirmation(order_number=order_number, total_cents=charge.amount_cents)
