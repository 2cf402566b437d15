"""Many tasks at once: named, or found by what they have in common; each for itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from support.flows import begin, begin_one, by_name, state, states, template
from support.invariants import check_history, check_invariants
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.inspect import list_transitions
from tasker_core.engine.operate import cancel_task, reset_task
from tasker_core.engine.operate_many import TaskSelection, act_on_tasks, select_tasks
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

BY = {"actor": "ann", "reason": "I looked"}
ONCE = {"max_attempts": 1}


async def failed_tasks(conn, worker, count, **more):
    """Begin tasks of one step, which fails for good."""
    tasks = await begin(conn, template(retry=ONCE, **more), count)
    await worker.fail(*await worker.claim(), retryable=False)
    return tasks


def outcomes(acted):
    """Give what became of each."""
    return [one.outcome for one in acted]


async def test_one_refusal_does_not_keep_the_others(conn, worker):
    """Every task has an answer of its own, with the state that it is in."""
    one, done, two = await begin(conn, template(), 3)
    (claim,) = [c for c in await worker.claim() if c.task_uuid == done]
    await worker.succeed(claim)
    nobody = uuid4()

    acted = await act_on_tasks(conn, "cancel", [one, done, nobody, two, one], **BY)

    assert [one.task_uuid for one in acted] == [one, done, nobody, two]
    assert outcomes(acted) == ["done", "refused", "not_found", "done"]
    assert [one.state for one in acted] == ["cancelled", "complete", None, "cancelled"]
    assert acted[1].detail == f"cannot cancel task {done}: it is complete"
    assert (acted[0].namespace, acted[0].name, acted[0].version) == ("shop", "flow", "1.0.0")
    assert outcomes(await act_on_tasks(conn, "cancel", [one, done], **BY)) == [
        "unchanged",
        "refused",
    ]


@pytest.mark.parametrize("action", ["cancel", "resolve", "reset"])
async def test_a_dry_run_says_what_would_be_done(conn, worker, action):
    """With the state that would follow; nothing changes, and nothing is recorded."""
    (task,) = await failed_tasks(conn, worker, 1)
    before = await list_transitions(conn, task)

    told = await act_on_tasks(conn, action, [task], dry_run=True, **BY)

    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    assert await list_transitions(conn, task) == before
    assert told == await act_on_tasks(conn, action, [task], **BY)
    assert await state(conn, task) is told[0].state


async def test_tasks_are_found_by_how_they_failed(conn, worker):
    """By the step that failed, by the type of its last error, by state, name and age."""
    flow = template({"a": [], "b": []}, retry=ONCE, name="two", on_failure="continue")
    task = await begin_one(conn, flow)
    await worker.fail(by_name(await worker.claim())["b"], retryable=False)
    (other,) = await failed_tasks(conn, worker, 1)

    async def found(action="cancel", **wanted):
        return await select_tasks(conn, action, TaskSelection(**wanted), limit=10)

    assert await found(failed_step="b") == [task]
    assert await found(error_type="handler_error") == [task, other]
    assert await found(error_type="handler_error", failed_step="a", name="flow") == [other]
    assert await found(error_type="timeout") == []
    assert await found(states=[TaskState.BLOCKED_BY_FAILURES]) == [other]
    assert await found("reset") == [other]  # the first one is still at work
    moment = await conn.fetchval("select tasker.now()")
    assert await found(created_after=moment - timedelta(hours=1), version="1.0.0") == [task, other]
    assert await found(created_before=moment - timedelta(hours=1)) == []
    assert await found(namespace="bank") == []


async def test_a_step_made_at_run_time_is_found_by_its_name_in_the_template(conn, worker):
    """All workers of a batch are one name there."""
    (task,) = await failed_tasks(conn, worker, 1)
    await conn.execute("update tasker.steps set name = 'a_001', template_step = 'a'")

    for name in ("a", "a_001"):
        wanted = TaskSelection(failed_step=name)
        assert await select_tasks(conn, "reset", wanted, limit=10) == [task]
    await conn.execute("update tasker.steps set name = 'a', template_step = null")


async def test_a_selection_is_read_in_pages(conn):
    """The oldest first; each page goes on after the last task of the one before."""
    tasks = await begin(conn, template(), 5)
    wanted = TaskSelection(namespace="shop")

    first = await select_tasks(conn, "cancel", wanted, limit=3)
    second = await select_tasks(conn, "cancel", wanted, limit=3, after=first[-1])

    assert [*first, *second] == sorted(tasks)


async def test_what_does_not_fit_any_more_is_left_alone(conn, worker):
    """Between the look and the action a task may have moved on."""
    one, two = sorted(await failed_tasks(conn, worker, 2))
    wanted = TaskSelection(states=[TaskState.BLOCKED_BY_FAILURES])
    found = await select_tasks(conn, "cancel", wanted, limit=10)
    await reset_task(conn, one, **BY)

    acted = await act_on_tasks(conn, "cancel", found, wanted=wanted, **BY)

    assert outcomes(acted) == ["skipped", "done"]
    assert acted[0].detail == "it is steps_in_process, not blocked_by_failures"
    assert await state(conn, one) is TaskState.STEPS_IN_PROCESS
    assert await state(conn, two) is TaskState.CANCELLED


@pytest.mark.parametrize(
    ("wanted", "detail"),
    [
        (TaskSelection(namespace="bank"), "its namespace is shop, not bank"),
        (TaskSelection(name="other"), "its name is flow, not other"),
        (TaskSelection(version="9.9.9"), "its version is 1.0.0, not 9.9.9"),
        (TaskSelection(failed_step="b"), "no step b of it is in error"),
        (TaskSelection(error_type="x"), "no step of it is in error with error type x"),
        (TaskSelection(created_before=datetime(2020, 1, 1, tzinfo=UTC)), "it was created at "),
        (TaskSelection(created_after=datetime(2220, 1, 1, tzinfo=UTC)), "it was created at "),
    ],
)
async def test_what_is_skipped_says_why(conn, worker, wanted, detail):
    """Which of the wishes it does not meet, with what it has instead."""
    (task,) = await failed_tasks(conn, worker, 1)
    (acted,) = await act_on_tasks(conn, "reset", [task], wanted=wanted, **BY)
    assert acted.outcome == "skipped"
    assert acted.detail.startswith(detail)
    (acted,) = await act_on_tasks(conn, "reset", [uuid4()], wanted=wanted, **BY)
    assert acted.outcome == "not_found"


async def test_what_another_operator_holds_is_looked_at_again(conn, connect, worker):
    """The second waits for the first, and leaves alone what that one has changed."""
    (task,) = await failed_tasks(conn, worker, 1)
    other = await connect()
    wanted = TaskSelection(states=[TaskState.BLOCKED_BY_FAILURES])

    transaction = conn.transaction()
    await transaction.start()
    await reset_task(conn, task, **BY)
    acting = asyncio.ensure_future(act_on_tasks(other, "cancel", [task], wanted=wanted, **BY))
    pid = other.get_server_pid()
    while not await conn.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        assert not acting.done()
    await transaction.commit()

    assert outcomes(await acting) == ["skipped"]
    assert await states(conn, task) == {"a": StepState.ENQUEUED}


async def test_a_task_with_overrides_is_found_by_its_template(conn):
    """Whatever environment it was created in."""
    flow = template(environments={"test": {"steps": [{"name": "ALL", "timeout_seconds": 5}]}})
    await register_template(conn, flow)
    shelf = TemplateShelf(environment="test")
    task = (await create_task(conn, shelf, NewTask(name="flow", namespace="shop"))).task_uuid

    wanted = TaskSelection(name="flow", version="1.0.0")
    assert await select_tasks(conn, "cancel", wanted, limit=10) == [task]


async def test_two_operators_at_once_on_many_tasks(conn, connect):
    """Each task is cancelled once, whoever comes first; neither waits in a ring."""
    tasks = await begin(conn, template(), 20)
    one, two = await connect(), await connect()

    both = await asyncio.gather(
        act_on_tasks(one, "cancel", tasks, **BY),
        act_on_tasks(two, "cancel", tasks[::-1], **BY),
    )

    assert sorted(outcomes(both[0]) + outcomes(both[1])) == ["done"] * 20 + ["unchanged"] * 20
    await check_invariants(conn)
    await check_history(conn)


async def test_cancelled_tasks_are_not_reset(conn, worker):
    """The refusal names the state."""
    (task,) = await failed_tasks(conn, worker, 1)
    await cancel_task(conn, task, **BY)

    (acted,) = await act_on_tasks(conn, "reset", [task], **BY)

    assert (acted.outcome, acted.state) == ("refused", TaskState.CANCELLED)
    assert acted.detail == f"cannot reset task {task}: it is cancelled"
