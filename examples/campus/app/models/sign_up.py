"""A student signs up."""

from __future__ import annotations

from pydantic import BaseModel, Field


class SignUpRequest(BaseModel):
    """What a student sends; the task's context is the same."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    full_name: str = Field(min_length=1, max_length=200)


class Account(BaseModel):
    """What create_account returns."""

    student_no: int
    email: str
    full_name: str


class Group(BaseModel):
    """What assign_tutor_group returns."""

    tutor_group: str


class Card(BaseModel):
    """What issue_library_card returns; the library may add more."""

    card_number: str


class ActiveAccount(BaseModel):
    """What activate_account returns."""

    student_no: int
    tutor_group: str
    card_number: str


class Welcome(BaseModel):
    """What send_welcome returns."""

    sent_to: str
    subject: str
