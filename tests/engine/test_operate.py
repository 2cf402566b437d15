"""What operators do: cancel, resolve or reset a task; reset, resolve or complete a step."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from support.flows import (
    CHAIN,
    DIAMOND,
    NO_REST,
    Worker,
    begin_one,
    by_name,
    failed,
    names,
    state,
    states,
    step_id,
    template,
)
from tasker_core.engine.inspect import (
    get_step,
    get_task,
    list_attempts,
    list_steps,
    list_transitions,
)
from tasker_core.engine.operate import (
    cancel_task,
    complete_step,
    reset_step,
    reset_task,
    resolve_step,
    resolve_task,
)
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import NotStorable, TransitionRefused, UnknownStep, UnknownTask
from tasker_core.payload import decode
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

S = StepState
BY = {"actor": "ann", "reason": "I looked"}
ONCE = {"max_attempts": 1}


@pytest.fixture
async def clock(clock):
    """A clock that ticks: history is told in one order only."""
    await clock.tick()
    return clock


async def reset(conn, task, name, **more) -> None:
    await reset_step(conn, task, await step_id(conn, task, name), **BY, **more)


async def resolve(conn, task, name, **more) -> None:
    await resolve_step(conn, task, await step_id(conn, task, name), **BY, **more)


async def complete(conn, task, name, result, **more) -> None:
    await complete_step(
        conn, TemplateShelf(), task, await step_id(conn, task, name), result=result, **BY, **more
    )


async def in_every_state(conn, worker) -> tuple:
    """A task with one step in each state that a step of an open task can have."""
    graph = {name: [] for name in ("complete", "waiting", "running", "enqueued", "failed")}
    graph["pending"] = ["running"]
    graph["resolved"] = ["running"]
    flow = template(graph, on_failure="continue")
    task = await begin_one(conn, flow)
    claims = by_name(await worker.claim())
    await worker.succeed(claims["complete"])
    await worker.finish(failed(claims["waiting"]), failed(claims["failed"], False))
    await worker.give_back(claims["enqueued"])
    await resolve(conn, task, "resolved")
    assert await states(conn, task) == {
        "complete": S.COMPLETE,
        "waiting": S.WAITING_FOR_RETRY,
        "running": S.IN_PROGRESS,
        "enqueued": S.ENQUEUED,
        "failed": S.ERROR,
        "pending": S.PENDING,
        "resolved": S.RESOLVED_MANUALLY,
    }
    return task, claims["running"]


# --- cancel --------------------------------------------------------------------------------


async def test_cancelling_ends_every_step_that_has_not_ended(conn, worker, clock):
    """What is complete or resolved stays so; nothing of the task can be claimed any more."""
    task, running = await in_every_state(conn, worker)

    await cancel_task(conn, task, **BY)

    assert await states(conn, task) == {
        "complete": S.COMPLETE,
        "waiting": S.CANCELLED,
        "running": S.CANCELLED,
        "enqueued": S.CANCELLED,
        "failed": S.CANCELLED,
        "pending": S.CANCELLED,
        "resolved": S.RESOLVED_MANUALLY,
    }
    record = await get_task(conn, task)
    assert record.state is TaskState.CANCELLED
    assert record.completed_at <= await clock.now()
    await clock.advance(3600)
    assert await worker.claim() == []
    assert len((await worker.succeed(running)).refusals) == 1
    assert (await states(conn, task))["running"] is S.CANCELLED


async def test_a_cancellation_tells_who_and_why_and_from_where(conn, worker, clock):
    """For the task, and for every step that was not running."""
    task, _ = await in_every_state(conn, worker)

    await cancel_task(conn, task, **BY)

    moves = [m for m in await list_transitions(conn, task) if m.action == "cancel"]
    assert {(m.actor, m.reason, m.to_state) for m in moves} == {("ann", "I looked", "cancelled")}
    told = {m.step_no: m.from_state for m in moves}
    names_ = {step.step_no: step.name for step in await list_steps(conn, task)}
    assert told.pop(None) == "steps_in_process"
    assert {names_[step_no]: before for step_no, before in told.items()} == {
        "waiting": "waiting_for_retry",
        "enqueued": "pending",
        "failed": "error",
        "pending": "pending",
    }


@pytest.mark.parametrize("ended", ["cancelled", "complete"])
async def test_an_ended_task_cannot_be_cancelled(conn, worker, ended):
    """The refusal names the state that it is in, and nothing changes."""
    task = await begin_one(conn, template())
    if ended == "cancelled":
        await cancel_task(conn, task, **BY)
    else:
        await worker.succeed(await worker.claim_one())
    before = await get_task(conn, task), await list_transitions(conn, task)

    with pytest.raises(TransitionRefused, match=f"it is {ended}"):
        await cancel_task(conn, task, **BY)

    assert (await get_task(conn, task), await list_transitions(conn, task)) == before


async def test_a_blocked_task_can_be_cancelled(conn, worker):
    """And has no failed step then."""
    task = await begin_one(conn, template(retry=ONCE))
    await worker.fail(await worker.claim_one())

    await cancel_task(conn, task, **BY)

    assert await states(conn, task) == {"a": S.CANCELLED}
    assert (await list_transitions(conn, task))[-1].from_state == "blocked_by_failures"


async def test_workers_are_told_of_a_cancellation(conn, connect):
    """So that they can stop the handlers that run for nothing."""
    listener = await connect()
    payloads = []
    await listener.add_listener("tasker_cancelled", lambda *facts: payloads.append(facts[-1]))
    task = await begin_one(conn, template())

    await cancel_task(conn, task, **BY)

    await listener.fetch("select")
    assert payloads == [str(task)]


async def test_workers_are_told_of_what_was_settled_while_it_ran(conn, connect, worker):
    """A step by its own id, a task by its own; of a step that does not run nobody is told."""
    listener = await connect()
    payloads = []
    await listener.add_listener("tasker_cancelled", lambda *facts: payloads.append(facts[-1]))
    task = await begin_one(conn, template({"a": [], "b": ["a"]}))
    await worker.claim()

    await resolve(conn, task, "b")
    await resolve(conn, task, "a", force=True)
    other = await begin_one(conn, template(name="other"))
    await resolve_task(conn, other, **BY)

    await listener.fetch("select")
    assert payloads == [str(await step_id(conn, task, "a")), str(other)]


async def test_an_unknown_task_cannot_be_cancelled(conn):
    """The error says that there is none."""
    with pytest.raises(UnknownTask):
        await cancel_task(conn, uuid4(), **BY)


# --- resolve a task ------------------------------------------------------------------------


async def test_a_resolved_task_leaves_its_steps_as_they_are(conn, worker, clock):
    """But for the one that ran, which is cancelled; nothing of the task can be claimed."""
    task, running = await in_every_state(conn, worker)

    await resolve_task(conn, task, **BY)

    assert await states(conn, task) == {
        "complete": S.COMPLETE,
        "waiting": S.PENDING,
        "running": S.CANCELLED,
        "enqueued": S.PENDING,
        "failed": S.ERROR,
        "pending": S.PENDING,
        "resolved": S.RESOLVED_MANUALLY,
    }
    record = await get_task(conn, task)
    assert record.state is TaskState.RESOLVED_MANUALLY
    assert record.completed_at <= await clock.now()
    await clock.advance(3600)
    assert await worker.claim() == []
    (refusal,) = (await worker.succeed(running)).refusals
    assert refusal.reason == "an operator resolved the task"
    last = (await list_transitions(conn, task))[-1]
    assert (last.step_no, last.action, last.actor, last.reason) == (
        None,
        "resolve",
        "ann",
        "I looked",
    )


@pytest.mark.parametrize("act", [resolve_task, cancel_task, reset_task])
async def test_a_resolved_task_is_final(conn, worker, act):
    """The refusal names the state, of its steps as well."""
    task = await begin_one(conn, template(retry=ONCE))
    await worker.fail(await worker.claim_one())
    await resolve_task(conn, task, **BY)

    with pytest.raises(TransitionRefused, match="it is resolved_manually"):
        await act(conn, task, **BY)
    with pytest.raises(TransitionRefused, match="it is resolved_manually"):
        await reset(conn, task, "a")


# --- reset a task --------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["halt", "continue"])
async def test_a_reset_task_runs_all_its_failed_steps_again(conn, worker, on_failure):
    """In one go: no step waits for another one to be reset; each is told for itself."""
    flow = template({"a": [], "b": [], "c": ["a"]}, retry=ONCE, on_failure=on_failure)
    task = await begin_one(conn, flow)
    await worker.fail(*await worker.claim())
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES

    await reset_task(conn, task, **BY)

    assert await states(conn, task) == {"a": S.ENQUEUED, "b": S.ENQUEUED, "c": S.PENDING}
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    moves = [m for m in await list_transitions(conn, task) if m.actor == "ann"]
    assert [(m.step_no, m.from_state, m.to_state, m.action) for m in moves] == [
        (1, "error", "pending", "reset"),
        (2, "error", "pending", "reset"),
    ]
    while claims := await worker.claim():
        await worker.succeed(*claims)
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_task_that_is_still_at_work_can_be_reset(conn, worker):
    """The step that runs goes on; the failed one begins with what was parked."""
    task = await begin_one(conn, template({"a": [], "b": [], "c": []}, retry=ONCE))
    claims = by_name(await worker.claim())
    await worker.give_back(claims["c"])
    await worker.fail(claims["a"])

    await reset_task(conn, task, **BY)

    assert await states(conn, task) == {"a": S.ENQUEUED, "b": S.IN_PROGRESS, "c": S.ENQUEUED}
    assert (await worker.succeed(claims["b"])).refusals == []


async def test_a_task_that_was_given_up_without_a_failed_step_goes_on(conn, worker, clock):
    """What was parked is enqueued again; what waited for a retry waits on."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    claims = by_name(await worker.claim())
    await worker.finish(failed(claims["b"], rest=timedelta(minutes=5)))
    await worker.give_back(claims["a"])
    await conn.execute("delete from tasker.ready")
    await conn.execute("delete from tasker.delayed")
    await give_up(conn, task)

    await reset_task(conn, task, **BY)

    assert await states(conn, task) == {"a": S.ENQUEUED, "b": S.WAITING_FOR_RETRY}
    move = next(m for m in await list_transitions(conn, task) if m.actor == "ann")
    assert (move.step_no, move.from_state, move.to_state) == (None, "error", "steps_in_process")


@pytest.mark.parametrize("drops", [True, False])
async def test_a_reset_task_keeps_checkpoints_unless_told(conn, worker, drops):
    """For all of its failed steps."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one(), retryable=False)
    await conn.execute("update tasker.steps set checkpoint = '{\"cursor\": 7}'")

    await reset_task(conn, task, drop_checkpoints=drops, **BY)

    checkpoint = (await worker.claim_one()).checkpoint
    assert decode(checkpoint) == (None if drops else {"cursor": 7})


async def test_a_task_without_a_failed_step_is_not_reset(conn, worker):
    """Not while it is at work, and not when it is complete."""
    task = await begin_one(conn, template())

    with pytest.raises(TransitionRefused, match="steps_in_process; no step of it is in error"):
        await reset_task(conn, task, **BY)
    await worker.succeed(await worker.claim_one())
    with pytest.raises(TransitionRefused, match=r"it is complete$"):
        await reset_task(conn, task, **BY)
    with pytest.raises(UnknownTask):
        await reset_task(conn, uuid4(), **BY)


# --- reset a step --------------------------------------------------------------------------


async def test_a_reset_step_has_all_its_attempts_again(conn, worker):
    """However often it ran before; each execution keeps a number of its own."""
    task = await begin_one(conn, template(retry={"max_attempts": 2, "backoff": "none"}))
    for _ in range(2):
        await worker.fail(await worker.claim_one())
    assert await states(conn, task) == {"a": S.ERROR}

    await reset(conn, task, "a")

    assert (await get_step(conn, task, 1)).attempts == 0
    claim = await worker.claim_one()
    assert (claim.attempt, claim.forgiven) == (3, 2)
    await worker.fail(claim)
    await worker.fail(await worker.claim_one())
    assert await states(conn, task) == {"a": S.ERROR}
    assert [past.attempt for past in await list_attempts(conn, task)] == [1, 2, 3, 4]


async def test_a_reset_begins_the_backoff_anew(conn, worker, clock):
    """The first rest after it is as short as the first rest of all."""
    flow = template(retry={"max_attempts": 2, "backoff": "exponential", "backoff_base_ms": 1000})
    task = await begin_one(conn, flow)
    await worker.fail(await worker.claim_one())
    await clock.advance(2)
    await worker.fail(await worker.claim_one())
    await reset(conn, task, "a")

    await worker.fail(await worker.claim_one())

    last = (await list_attempts(conn, task))[-1]
    assert last.due_at - last.finished_at <= timedelta(seconds=1.15)


async def test_a_reset_resumes_what_was_parked(conn, worker, heard):
    """The task is at work again, and somebody idle is told."""
    task = await begin_one(conn, template({"a": [], "b": [], "c": ["b"]}, retry=ONCE))
    claims = by_name(await worker.claim())
    await worker.fail(claims["a"])
    await worker.succeed(claims["b"])
    assert await states(conn, task) == {"a": S.ERROR, "b": S.COMPLETE, "c": S.PENDING}
    await heard()

    await reset(conn, task, "a")

    assert await states(conn, task) == {"a": S.ENQUEUED, "b": S.COMPLETE, "c": S.ENQUEUED}
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    assert await heard() == ["shop"]


async def test_a_parked_retry_is_not_early_after_a_reset(conn, worker, clock):
    """It waits for the time that it waited for when it was parked (I8)."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    claims = by_name(await worker.claim())
    await worker.finish(failed(claims["b"], rest=timedelta(minutes=5)))
    await worker.fail(claims["a"], retryable=False)
    assert (await states(conn, task))["b"] is S.PENDING
    await clock.advance(60)

    await reset(conn, task, "a")

    assert (await states(conn, task))["b"] is S.WAITING_FOR_RETRY
    assert names(await worker.claim()) == ["a"]
    await clock.advance(240)
    assert names(await worker.claim()) == ["b"]


async def test_two_failed_steps_need_two_resets(conn, worker):
    """After the first the task is still blocked, and the reset step waits with it."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    await worker.fail(*await worker.claim(), retryable=False)

    await reset(conn, task, "a")
    assert await states(conn, task) == {"a": S.PENDING, "b": S.ERROR}
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    assert await worker.claim() == []

    await reset(conn, task, "b")
    assert names(await worker.claim()) == ["a", "b"]
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_a_reset_step_of_a_task_that_goes_on_runs_at_once(conn, worker):
    """With `on_failure: continue` it does not wait for the other failed step."""
    task = await begin_one(conn, template({"a": [], "b": []}, on_failure="continue"))
    await worker.fail(*await worker.claim(), retryable=False)

    await reset(conn, task, "a")

    assert names(await worker.claim()) == ["a"]
    assert await states(conn, task) == {"a": S.IN_PROGRESS, "b": S.ERROR}


@pytest.mark.parametrize("drops", [True, False])
async def test_a_reset_keeps_the_checkpoint_unless_told(conn, worker, drops):
    """What the step had done is not done again."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one(), retryable=False)
    await conn.execute("update tasker.steps set checkpoint = '{\"cursor\": 7}'")

    await reset(conn, task, "a", drop_checkpoint=drops)

    checkpoint = (await worker.claim_one()).checkpoint
    assert decode(checkpoint) == (None if drops else {"cursor": 7})


async def test_a_reset_is_told_with_actor_and_reason(conn, worker):
    """Between the failure and the next attempt."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one(), retryable=False)
    await reset(conn, task, "a")
    await worker.succeed(await worker.claim_one())

    moves = [m for m in await list_transitions(conn, task) if m.step_no == 1]
    assert [(m.from_state, m.to_state) for m in moves[2:5]] == [
        ("in_progress", "error"),
        ("error", "pending"),
        ("pending", "enqueued"),
    ]
    assert (moves[3].action, moves[3].actor, moves[3].reason) == ("reset", "ann", "I looked")


async def test_a_task_that_was_given_up_is_open_again_after_a_reset(conn, worker):
    """The one way out of `error`."""
    task = await begin_one(conn, template())
    await worker.fail(await worker.claim_one(), retryable=False)
    await give_up(conn, task)

    await reset(conn, task, "a")

    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    await worker.succeed(await worker.claim_one())
    assert await state(conn, task) is TaskState.COMPLETE


async def give_up(conn, task) -> None:
    await conn.execute(
        "select tasker.change_task(tasker.now(), $1, 'error', 'give_up', null, null)", task
    )


# --- resolve and complete ------------------------------------------------------------------


async def test_a_resolved_step_lets_its_children_go_on_without_a_result(conn, worker):
    """They see nothing of it."""
    task = await begin_one(conn, template(CHAIN))
    await worker.fail(await worker.claim_one(), retryable=False)

    await resolve(conn, task, "a")

    claim = await worker.claim_one()
    assert (claim.name, claim.parent_results) == ("b", None)
    step = await get_step(conn, task, 1)
    assert (step.state, step.result) == (S.RESOLVED_MANUALLY, None)
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_a_step_completed_by_hand_gives_its_children_a_result(conn, worker):
    """As if a handler had."""
    task = await begin_one(conn, template(CHAIN))
    await worker.fail(await worker.claim_one(), retryable=False)

    await complete(conn, task, "a", {"by": "hand"}, metadata={"ticket": 7})

    assert decode((await worker.claim_one()).parent_results) == {"a": {"by": "hand"}}
    step = await get_step(conn, task, 1)
    assert (step.state, step.result) == (S.COMPLETE, {"by": "hand"})
    kept = await conn.fetchval("select metadata from tasker.changes where action = 'complete'")
    assert decode(kept) == {"ticket": 7}


async def test_the_last_step_settled_by_hand_completes_the_task(conn, worker):
    """Nobody has to run anything any more."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    await worker.fail(*await worker.claim(), retryable=False)

    await resolve(conn, task, "a")
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    await complete(conn, task, "b", None)

    assert await state(conn, task) is TaskState.COMPLETE


@pytest.mark.parametrize("act", [resolve, lambda *facts: complete(*facts, {"x": 1})])
@pytest.mark.parametrize("name", ["waiting", "enqueued", "failed", "pending"])
async def test_steps_that_have_not_ended_and_do_not_run_can_be_settled(
    conn, worker, clock, act, name
):
    """They are not handed out then, at no time."""
    task, _ = await in_every_state(conn, worker)

    await act(conn, task, name)

    assert (await states(conn, task))[name] in {S.COMPLETE, S.RESOLVED_MANUALLY}
    await clock.advance(3600)
    assert name not in names(await worker.claim())
    moves = [m for m in await list_transitions(conn, task) if m.actor == "ann"]
    assert (moves[-1].reason, moves[-1].to_state) == (
        "I looked",
        (await states(conn, task))[name],
    )


async def test_a_child_may_be_settled_before_its_parents(conn, worker):
    """Its own children do not wait then; the parent runs all the same."""
    task = await begin_one(conn, template(CHAIN))

    await resolve(conn, task, "b")

    claims = await worker.claim()
    assert names(claims) == ["a", "c"]
    await worker.succeed(*claims)
    assert await state(conn, task) is TaskState.COMPLETE
    assert await states(conn, task) == {
        "a": S.COMPLETE,
        "b": S.RESOLVED_MANUALLY,
        "c": S.COMPLETE,
    }


@pytest.mark.parametrize("act", [resolve, lambda *facts, **more: complete(*facts, 1, **more)])
async def test_a_running_step_is_settled_only_with_force(conn, worker, clock, act):
    """Then its worker's result is refused, and history tells who did it."""
    task = await begin_one(conn, template(CHAIN))
    claim = await worker.claim_one()
    with pytest.raises(TransitionRefused, match="only with force"):
        await act(conn, task, "a")
    assert (await states(conn, task))["a"] is S.IN_PROGRESS
    await clock.advance(1)

    await act(conn, task, "a", force=True)

    work = await worker.succeed(claim, result="late")
    assert [refusal.reason for refusal in work.refusals] == ["an operator settled it"]
    step = await get_step(conn, task, 1)
    assert step.state in {S.COMPLETE, S.RESOLVED_MANUALLY}
    assert step.result != "late"
    moves = [m for m in await list_transitions(conn, task) if m.step_no == 1]
    assert [(m.from_state, m.to_state) for m in moves] == [
        ("pending", "enqueued"),
        ("enqueued", "in_progress"),
        ("in_progress", step.state),
    ]
    assert (moves[-1].actor, moves[-1].reason) == ("ann", "I looked")
    assert names(await worker.claim()) == ["b"]


async def test_a_result_of_a_stranger_is_not_blamed_on_an_operator(conn, worker):
    """The reason of a refusal is the true one."""
    await begin_one(conn, template())
    claim = await worker.claim_one()
    await worker.succeed(claim)

    work = await Worker(conn).succeed(claim)

    assert [refusal.reason for refusal in work.refusals] == ["its lease had ended"]


async def test_a_result_that_cannot_be_stored_is_refused(conn):
    """And the step stays as it was."""
    task = await begin_one(conn, template())

    with pytest.raises(NotStorable):
        await complete(conn, task, "a", {"x": float("nan")})

    assert await states(conn, task) == {"a": S.ENQUEUED}


async def test_settling_a_step_of_a_task_that_was_given_up_opens_it_again(conn, worker):
    """And ends it, if that was the last one."""
    task = await begin_one(conn, template(retry=ONCE))
    await worker.fail(await worker.claim_one())
    await give_up(conn, task)

    await resolve(conn, task, "a")

    assert await state(conn, task) is TaskState.COMPLETE


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["complete", "waiting", "running", "enqueued", "pending", "resolved"]
)
async def test_only_a_step_in_error_can_be_reset(conn, worker, clock, name):
    """The refusal says which state it is in."""
    task, _ = await in_every_state(conn, worker)
    before = await states(conn, task)

    with pytest.raises(TransitionRefused, match=f"it is {before[name]}"):
        await reset(conn, task, name)

    assert await states(conn, task) == before


@pytest.mark.parametrize("name", ["complete", "resolved"])
async def test_a_step_that_has_ended_cannot_be_settled(conn, worker, clock, name):
    """Not even with force."""
    task, _ = await in_every_state(conn, worker)

    with pytest.raises(TransitionRefused):
        await resolve(conn, task, name, force=True)
    with pytest.raises(TransitionRefused):
        await complete(conn, task, name, {}, force=True)


async def test_nothing_can_be_done_to_steps_of_an_ended_task(conn, worker):
    """The refusal names the state of the task."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.fail(await worker.claim_one(), retryable=False)
    await cancel_task(conn, task, **BY)

    for act in (reset(conn, task, "a"), resolve(conn, task, "a"), complete(conn, task, "b", 1)):
        with pytest.raises(TransitionRefused, match="it is cancelled"):
            await act


async def test_steps_that_do_not_exist_are_told(conn):
    """A wrong number, another task's step, the task's own id; and a task that is none."""
    task = await begin_one(conn, template())
    other = await begin_one(conn, template())
    beyond = await step_id(conn, task, "a")
    beyond = UUID(int=beyond.int + 1)

    for wrong in (beyond, await step_id(conn, other, "a"), task):
        for act in (reset_step, resolve_step):
            with pytest.raises(UnknownStep):
                await act(conn, task, wrong, **BY)
    nobody = UUID(int=task.int + (1 << 40))
    with pytest.raises(UnknownTask):
        await resolve_step(conn, nobody, UUID(int=nobody.int + 1), **BY)


async def test_a_cancellation_of_a_wide_task_is_one_change_a_step(conn, worker):
    """Numbered after each other, and quick: the task's row is not rewritten for each."""
    graph = {f"s{n}": [] for n in range(500)}
    task = await begin_one(conn, template(graph, retry=NO_REST))

    await cancel_task(conn, task, **BY)

    numbers = await conn.fetch("select change_no from tasker.changes order by 1")
    assert [row["change_no"] for row in numbers] == list(range(1, 502))
    assert (await get_task(conn, task)).step_counts == {S.CANCELLED: 500}
