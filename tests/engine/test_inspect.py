"""What may be read, and that it agrees with itself."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from support.clock import START
from support.flows import CHAIN, DIAMOND, begin_one, by_name, failed, template
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.inspect import (
    get_step,
    get_task,
    list_attempts,
    list_steps,
    list_transitions,
)
from tasker_core.engine.operate import cancel_task
from tasker_core.errors import UnknownStep, UnknownTask
from tasker_core.states import StepState

pytestmark = pytest.mark.usefixtures("consistent")

S = StepState


async def test_a_task_counts_its_steps_by_state(conn, worker, clock):
    """Only states that occur are told."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.run("a")
    claims = by_name(await worker.claim())
    await worker.fail(claims["b"])

    record = await get_task(conn, task)

    assert record.step_counts == {
        S.COMPLETE: 1,
        S.WAITING_FOR_RETRY: 1,
        S.IN_PROGRESS: 1,
        S.PENDING: 1,
    }
    assert record.total_steps == 4
    assert record.count(S.COMPLETE, S.PENDING, S.ERROR) == 2


async def test_a_task_was_updated_when_something_of_it_last_changed(conn, worker, clock):
    """An attempt that ended, or a change of the task."""
    task = await begin_one(conn, template(CHAIN))
    assert (await get_task(conn, task)).updated_at == START

    await clock.advance(5)
    await worker.run("a")
    assert (await get_task(conn, task)).updated_at == START + timedelta(seconds=5)

    await clock.advance(5)
    await cancel_task(conn, task, actor="ann", reason="-")
    record = await get_task(conn, task)
    assert record.updated_at == record.completed_at == START + timedelta(seconds=10)


async def test_steps_are_listed_parents_first(conn, worker, clock):
    """With their edges as numbers, and the state that each is in."""
    task = await begin_one(conn, template(DIAMOND))

    steps = await list_steps(conn, task)

    assert [(s.name, s.parents, s.children, s.parents_left) for s in steps] == [
        ("a", [], [2, 3], 0),
        ("b", [1], [4], 1),
        ("c", [1], [4], 1),
        ("d", [2, 3], [], 2),
    ]
    assert [s.step_uuid for s in steps] == [step_uuid(task, n) for n in (1, 2, 3, 4)]
    assert await get_step(conn, task, 3) == steps[2]


async def test_a_delayed_step_tells_when_it_is_due(conn, worker, clock):
    """And what its last attempt was."""
    task = await begin_one(conn, template())
    await worker.finish(failed(await worker.claim_one(), rest=timedelta(seconds=40)))

    step = await get_step(conn, task, 1)

    assert step.due_at == START + timedelta(seconds=40)
    assert (step.claimed_at, step.worker_uuid) == (None, None)
    assert step.last_attempt == (await list_attempts(conn, task))[0]
    assert step.last_attempt.duration == timedelta(0)


async def test_what_does_not_exist_is_told(conn):
    """A task, its steps, and one step of a task that does."""
    task = await begin_one(conn, template())

    with pytest.raises(UnknownTask):
        await get_task(conn, uuid4())
    with pytest.raises(UnknownTask):
        await list_steps(conn, uuid4())
    with pytest.raises(UnknownStep):
        await get_step(conn, task, 2)


async def test_transitions_are_in_the_order_of_time(conn, worker, clock):
    """Of one moment, in the order in which one follows from the other."""
    await clock.tick()
    task = await begin_one(conn, template(CHAIN))
    for _ in range(3):
        await worker.succeed(await worker.claim_one())

    moves = await list_transitions(conn, task)

    assert [(move.step_no, move.to_state) for move in moves] == [
        (1, "enqueued"),
        (1, "in_progress"),
        (1, "complete"),
        (2, "enqueued"),
        (2, "in_progress"),
        (2, "complete"),
        (3, "enqueued"),
        (3, "in_progress"),
        (3, "complete"),
        (None, "complete"),
    ]
    assert [move.attempt for move in moves] == [1] * 9 + [None]
    assert moves[-1].action == "advance"
