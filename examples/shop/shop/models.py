"""What comes in, and what one step hands to the next. Money is in cents, and whole."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Item(BaseModel):
    sku: str
    quantity: int = Field(ge=1)


class OrderRequest(BaseModel):
    """An order as the customer sends it; the task's context is the same."""

    order_reference: str = Field(min_length=1, max_length=100)  # the customer's own number
    customer_email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    payment_token: str
    items: list[Item]  # may be empty: validate_cart has the say on that


class Line(BaseModel):
    sku: str
    name: str
    quantity: int
    price_cents: int


class Cart(BaseModel):
    """What validate_cart returns."""

    lines: list[Line]
    total_cents: int


class Payment(BaseModel):
    """What process_payment returns."""

    charge_id: str
    amount_cents: int


class Order(BaseModel):
    """What create_order returns."""

    order_number: str
    total_cents: int


class Confirmation(BaseModel):
    """What send_confirmation returns."""

    sent_to: str
    subject: str
