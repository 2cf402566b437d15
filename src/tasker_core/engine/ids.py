"""Ids: UUIDv7, made by whoever creates.

The last 20 bits of a task's id are zero. A step's id is its task's id plus the
step's number, counted from 1, so either can be told from the other.

Source: RFC 9562, section 5.7.
"""

from __future__ import annotations

import os
import time
from uuid import UUID

from tasker_core.templates.bounds import MAX_STEPS

STEP_BITS = MAX_STEPS.bit_length()

_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_BITS = 12 + 62


def new_uuid() -> UUID:
    """Make a UUIDv7 from the clock's milliseconds and 74 random bits."""
    drawn = int.from_bytes(os.urandom(10)) & ((1 << _RANDOM_BITS) - 1)
    high, low = drawn >> 62, drawn & ((1 << 62) - 1)
    moment = (time.time_ns() // 1_000_000) & ((1 << 48) - 1)
    return UUID(int=moment << 80 | _VERSION | high << 64 | _VARIANT | low)


def new_task_uuid() -> UUID:
    """Make a UUIDv7 with room for the numbers of the task's steps."""
    return UUID(int=new_uuid().int >> STEP_BITS << STEP_BITS)


def step_uuid(task_uuid: UUID, step_no: int) -> UUID:
    """Give the public id of a step.

    >>> task = UUID("01920000-0000-7000-8000-000000000000")
    >>> str(step_uuid(task, 3))
    '01920000-0000-7000-8000-000000000003'
    """
    return UUID(int=task_uuid.int | step_no)


def task_and_step_no(step: UUID) -> tuple[UUID, int]:
    """Tell a step's task and number from its id; the number is 0 for a task's own id."""
    return UUID(int=step.int >> STEP_BITS << STEP_BITS), step.int & MAX_STEPS
