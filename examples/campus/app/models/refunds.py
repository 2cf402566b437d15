"""A refund: what the support team decides, and what the payments team pays."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from tasker_core.errors import PermanentError

Role = Literal["lead", "finance"]


class RefundRequest(BaseModel):
    """What a student sends; the task's context is the same."""

    reference: str = Field(min_length=1, max_length=100)
    order_number: str
    amount_cents: int | None = None  # None is all of it
    reason: str = ""


class Wish(BaseModel):
    """A refund request as support's steps read it.

    A task can be created by anyone who reaches the Tasker server, so the route's checks
    are not enough. PermanentError passes through pydantic as it is: the step fails for
    good, with the code.
    """

    reference: str | None = None
    order_number: str | None = None
    amount_cents: int | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def is_complete(self) -> Wish:
        if not self.reference or not self.order_number:
            raise PermanentError(
                "a refund needs a reference and an order_number", error_code="INCOMPLETE_REQUEST"
            )
        if self.amount_cents is not None and self.amount_cents <= 0:
            raise PermanentError("a refund must be above 0", error_code="INVALID_AMOUNT")
        return self


class Claim(BaseModel):
    """What support's check_request returns: a wish that fits to an order."""

    reference: str
    order_number: str
    student_email: str
    amount_cents: int  # 0: everything has been paid back before


class Answer(BaseModel):
    """What each approval returns. A no is an answer, not a failure."""

    role: str
    approved: bool


class Verdict(BaseModel):
    """What conclude returns."""

    approved: bool
    answered_by: list[str]


class HandOver(BaseModel):
    """What hand_to_payments returns."""

    payment_task_uuid: str | None  # None if the refund was not approved


class Payout(BaseModel):
    """A refund as the payments team's steps read it: the context of their task."""

    reference: str | None = None
    order_number: str | None = None
    account: str | None = None
    amount_cents: int | None = None


class CheckedPayout(BaseModel):
    """What payments' check_request returns."""

    order_number: str
    account: str
    amount_cents: int


class PaidBack(BaseModel):
    """What pay_back returns."""

    account: str
    amount_cents: int


class Mail(BaseModel):
    """What both notify steps return."""

    sent_to: str
    subject: str
