"""Ids are UUIDv7, and a step's id is its task's id plus its number."""

from __future__ import annotations

import time
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tasker_core.engine.ids import new_task_uuid, new_uuid, step_uuid, task_and_step_no
from tasker_core.templates.bounds import MAX_STEPS


def test_new_ids_are_uuid_version_seven():
    """Version and variant are those of RFC 9562, for tasks too."""
    for made in (new_uuid(), new_task_uuid()):
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"


def test_new_ids_begin_with_the_time():
    """The first 48 bits are the milliseconds of the clock: later ids are greater."""
    before = time.time_ns() // 1_000_000
    made = new_task_uuid()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after


def test_ids_do_not_repeat():
    """Of ten thousand ids made within milliseconds no two are equal."""
    assert len({new_task_uuid() for _ in range(10_000)}) == 10_000


@given(st.integers(1, MAX_STEPS))
def test_a_step_id_tells_its_task_and_number(step_no):
    """What was put together can be taken apart."""
    task = new_task_uuid()

    assert task_and_step_no(step_uuid(task, step_no)) == (task, step_no)


def test_a_task_id_is_no_step():
    """Its number is zero, which no step has."""
    task = new_task_uuid()

    assert task_and_step_no(task) == (task, 0)


async def test_the_database_makes_the_same_step_ids(conn):
    """SQL and Python agree, up to the last number."""
    task = UUID("01920000-0000-7000-8000-000000000000")
    for step_no in (1, 255, MAX_STEPS):
        made = await conn.fetchval("select tasker.step_uuid($1, $2)", task, step_no)
        assert made == step_uuid(task, step_no)
