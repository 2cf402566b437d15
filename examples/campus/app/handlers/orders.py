"""An order of course material: one step after the other."""

from __future__ import annotations

from app.models.orders import Charge, Confirmation, MaterialList, Reservation
from app.services import orders
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.types import StepContext


@step_handler("look_up_materials")
@inputs("course_code")
async def look_up_materials(course_code: str) -> MaterialList:
    return await orders.look_up_materials(course_code)


@step_handler("reserve_copies")
@depends_on(wanted=("look_up_materials", MaterialList))
async def reserve_copies(wanted: MaterialList, context: StepContext) -> Reservation:
    return await orders.reserve_copies(wanted, task_uuid=context.task_uuid)


# Two steps back: a step sees the results of everything before it, not of its parents alone.
@step_handler("charge_account")
@depends_on(wanted=("look_up_materials", MaterialList))
@inputs("student_email")
async def charge_account(wanted: MaterialList, student_email: str, context: StepContext) -> Charge:
    return await orders.charge_account(student_email, wanted, step_uuid=context.step_uuid)


@step_handler("confirm_order")
@depends_on(charge=("charge_account", Charge))
async def confirm_order(charge: Charge, context: StepContext) -> Confirmation:
    return await orders.confirm_order(
        charge, task_uuid=context.task_uuid, step_uuid=context.step_uuid
    )
