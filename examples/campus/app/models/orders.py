"""An order of course material."""

from __future__ import annotations

from pydantic import BaseModel, Field


class OrderRequest(BaseModel):
    """What a student sends; the task's context is the same."""

    reference: str = Field(min_length=1, max_length=100)
    student_email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    course_code: str


class Material(BaseModel):
    sku: str
    title: str
    price_cents: int


class MaterialList(BaseModel):
    """What look_up_materials returns."""

    materials: list[Material]
    total_cents: int


class Reservation(BaseModel):
    """What reserve_copies returns."""

    skus: list[str]


class Charge(BaseModel):
    """What charge_account returns."""

    account: str
    amount_cents: int


class Confirmation(BaseModel):
    """What confirm_order returns."""

    order_number: str
    total_cents: int
