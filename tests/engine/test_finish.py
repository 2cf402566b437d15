"""Results are recorded once, children released, tasks moved on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.flows import (
    CHAIN,
    DIAMOND,
    NO_REST,
    WIDE,
    Worker,
    begin,
    begin_one,
    by_name,
    done,
    failed,
    names,
    state,
    states,
    template,
)
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.inspect import get_step, get_task, list_attempts, list_transitions
from tasker_core.engine.operate import cancel_task
from tasker_core.engine.sweep import sweep
from tasker_core.payload import decode, encode
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

S = StepState
FORK = {"bad": [], "good": [], "after_bad": ["bad"], "after_good": ["good"]}


async def test_a_result_is_stored_as_it_was_given(conn, worker):
    """And the step is complete."""
    task = await begin_one(conn, template())
    result = {"é": [1, 2.5, None, {"x": "\n"}], "big": 2**60}

    await worker.succeed(await worker.claim_one(), result=result)

    step = await get_step(conn, task, 1)
    assert (step.state, step.result, step.attempts) == (S.COMPLETE, result, 1)
    assert step.completed_at is not None
    assert await state(conn, task) is TaskState.COMPLETE


async def test_a_task_is_complete_with_its_last_step_and_not_before(conn, worker):
    """It is in process until then, and the moment of its end is recorded."""
    task = await begin_one(conn, template(DIAMOND))

    for step in ("a", "b", "c"):
        await worker.run(step)
        assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    await worker.run("d")

    record = await get_task(conn, task)
    assert record.state is TaskState.COMPLETE
    assert record.completed_at == (await list_attempts(conn, task))[-1].finished_at
    assert record.step_counts == {S.COMPLETE: 4}


async def test_a_child_is_released_by_its_last_parent(conn, worker):
    """Not by the first."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.run("a")
    await worker.run("b")
    assert (await states(conn, task))["d"] is S.PENDING
    assert (await get_step(conn, task, 4)).parents_left == 1

    await worker.run("c")

    assert (await states(conn, task))["d"] is S.ENQUEUED


async def test_parents_that_finish_in_one_call_release_their_child(conn, worker):
    """All of them at once, and once only."""
    await begin_one(conn, template(WIDE))
    await worker.succeed(await worker.claim_one())

    work = await worker.succeed(*await worker.claim(), claim=10)

    assert names(work.claims) == ["join"]
    assert len(decode(work.claims[0].parent_results)) == 8


async def test_one_call_finishes_and_claims(conn, worker):
    """A released child is in the answer to the result that released it."""
    await begin_one(conn, template(CHAIN))

    work = await worker.succeed(await worker.claim_one(), claim=1)
    work = await worker.succeed(*work.claims, claim=1)

    assert (names(work.claims), work.refusals) == (["c"], [])


async def test_one_call_carries_results_of_many_tasks(conn, worker):
    """Successes and failures of several templates side by side."""
    chains = await begin(conn, template(CHAIN), 3)
    await begin(conn, template(FORK, name="fork"), 3)
    claims = await worker.claim()

    work = await worker.finish(
        *(failed(claim, False) if claim.name == "bad" else done(claim) for claim in claims),
        claim=100,
    )

    assert names(work.claims) == ["b"] * 3
    assert {claim.task_uuid for claim in work.claims} == set(chains)


async def test_a_call_without_results_only_claims(conn, worker):
    """As the first of a worker, or after a pause."""
    await begin_one(conn, template())

    assert names((await worker.finish(claim=5)).claims) == ["a"]


# --- which results count -------------------------------------------------------------------


async def test_another_worker_cannot_finish_a_step(conn, worker):
    """It is told so, and nothing changes."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()

    work = await Worker(conn).succeed(claim)

    (refusal,) = work.refusals
    assert (refusal.task_uuid, refusal.step_no, refusal.attempt) == (task, 1, 1)
    assert await states(conn, task) == {"a": S.IN_PROGRESS}
    assert (await worker.succeed(claim)).refusals == []


@pytest.mark.parametrize("attempt", [0, 2, 99])
async def test_another_attempt_cannot_finish_a_step(conn, worker, attempt):
    """Neither an earlier nor a later one."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()

    work = await worker.succeed(claim._replace(attempt=attempt))

    assert len(work.refusals) == 1
    assert await states(conn, task) == {"a": S.IN_PROGRESS}


async def test_a_result_of_a_lease_that_was_taken_back_is_refused(conn, connect, worker, clock):
    """The attempt that follows is the only one that counts."""
    await clock.tick()
    task = await begin_one(conn, template(retry=NO_REST))
    late = await worker.claim_one()
    await clock.advance(31)
    assert await sweep(conn) == 1
    other = Worker(await connect())
    claim = await other.claim_one()

    work = await worker.succeed(late, result="late")
    await other.succeed(claim, result="in time")

    assert [refusal.reason for refusal in work.refusals] == ["its lease had ended"]
    assert (await get_step(conn, task, 1)).result == "in time"


@pytest.mark.parametrize("error_type", ["worker_lost", "task_timeout", "cancelled"])
@pytest.mark.parametrize("retryable", [True, False])
async def test_a_handler_may_fail_with_the_engines_words(conn, worker, error_type, retryable):
    """Who ended an attempt is told by the engine alone, not by what its error says."""
    await begin_one(conn, template(retry=NO_REST))
    error = encode({"message": "no", "error_type": error_type, "retryable": retryable})
    end = replace(failed(await worker.claim_one(), retryable), error=error)

    assert (await worker.finish(end)).refusals == []
    assert (await worker.finish(end)).refusals == []
    assert await conn.fetchval("select run_seconds from tasker.executions") is not None


async def test_a_late_result_is_accepted_while_nobody_took_the_lease_back(conn, worker, clock):
    """No other worker has the step: the work is not thrown away."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()
    await clock.advance(3600)

    assert (await worker.succeed(claim)).refusals == []
    assert await sweep(conn) == 0
    assert await state(conn, task) is TaskState.COMPLETE


@pytest.mark.parametrize("how", [done, failed, lambda claim: failed(claim, False)])
async def test_a_call_may_be_repeated(conn, worker, how):
    """When its commit is unknown: it is accepted, and changes nothing the second time."""
    task = await begin_one(conn, template(DIAMOND))
    end = how(await worker.claim_one())
    await worker.finish(end)
    before = await list_attempts(conn, task), await states(conn, task)

    work = await worker.finish(end)

    assert work.refusals == []
    assert (await list_attempts(conn, task), await states(conn, task)) == before
    assert len(before[0]) == 1


async def test_what_is_recorded_is_not_changed_by_another_result(conn, worker):
    """The first one counts."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()
    await worker.succeed(claim, result=1)

    await worker.finish(failed(claim, False), done(claim, 2))

    assert (await get_step(conn, task, 1)).result == 1
    assert await state(conn, task) is TaskState.COMPLETE


async def test_one_result_twice_in_a_call_counts_once(conn, worker):
    """Its children are released once."""
    task = await begin_one(conn, template(DIAMOND))
    claim = await worker.claim_one()

    work = await worker.succeed(claim, claim)

    assert work.refusals == []
    assert (await states(conn, task))["b"] is S.ENQUEUED


async def test_a_refused_result_does_not_hold_up_the_others(conn, worker):
    """They are recorded in the same call."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    claims = by_name(await worker.claim())

    work = await worker.succeed(claims["a"], claims["b"]._replace(attempt=7), claim=5)

    assert [(refusal.step_no, refusal.attempt) for refusal in work.refusals] == [(2, 7)]
    assert await states(conn, task) == {"a": S.COMPLETE, "b": S.IN_PROGRESS}


async def test_a_result_for_a_cancelled_task_is_refused(conn, worker):
    """With the reason."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()
    await cancel_task(conn, task, actor="ann", reason="no need")

    work = await worker.succeed(claim)

    assert [refusal.reason for refusal in work.refusals] == ["the task was cancelled"]
    assert await states(conn, task) == {"a": S.CANCELLED}


# --- failure -------------------------------------------------------------------------------


async def test_a_retryable_failure_waits(conn, worker, clock):
    """The error is kept with the attempt, and the task waits if nothing else is to be done."""
    task = await begin_one(conn, template())

    await worker.fail(await worker.claim_one())

    step = await get_step(conn, task, 1)
    assert (step.state, step.attempts, step.result) == (S.WAITING_FOR_RETRY, 1, None)
    assert step.last_attempt.error["message"] == "no"
    assert step.due_at == step.last_attempt.due_at
    assert await state(conn, task) is TaskState.WAITING_FOR_RETRY


async def test_a_task_waits_for_a_retry_only_when_nothing_else_is_to_be_done(conn, worker, clock):
    """While another step is ready or running it is in process."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    claims = by_name(await worker.claim())

    await worker.fail(claims["a"])
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    await worker.succeed(claims["b"])
    assert await state(conn, task) is TaskState.WAITING_FOR_RETRY


async def test_a_permanent_failure_halts_the_task(conn, worker, clock):
    """What is enqueued or delayed is parked; what runs may end, and releases nothing."""
    graph = {
        **{name: [] for name in ("bad", "delayed", "enqueued", "running")},
        "child": ["running"],
        "never": ["bad"],
    }
    task = await begin_one(conn, template(graph))
    claims = by_name(await worker.claim())
    await worker.fail(claims["delayed"])
    await worker.give_back(claims["enqueued"])

    await worker.fail(claims["bad"], retryable=False)

    assert await states(conn, task) == {
        "bad": S.ERROR,
        "delayed": S.PENDING,
        "enqueued": S.PENDING,
        "running": S.IN_PROGRESS,
        "child": S.PENDING,
        "never": S.PENDING,
    }
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS

    work = await worker.succeed(claims["running"], claim=10)

    assert work.claims == []
    assert work.due_in is None
    assert (await states(conn, task))["running"] is S.COMPLETE
    assert (await states(conn, task))["child"] is S.PENDING
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


async def test_a_running_step_of_a_halted_task_may_fail_too(conn, worker, clock):
    """For good, and two steps are in error; for the moment, and it is parked."""
    task = await begin_one(conn, template({"a": [], "b": [], "c": []}))
    claims = by_name(await worker.claim())
    await worker.fail(claims["a"], retryable=False)

    await worker.fail(claims["b"], retryable=False)
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    await worker.fail(claims["c"])

    assert await states(conn, task) == {"a": S.ERROR, "b": S.ERROR, "c": S.PENDING}
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


async def test_success_and_failure_in_one_call_release_nothing(conn, worker):
    """The failure halts the task, in whatever order the results stand."""
    task = await begin_one(conn, template(FORK))
    claims = by_name(await worker.claim())

    work = await worker.finish(done(claims["good"]), failed(claims["bad"], False), claim=10)

    assert work.claims == []
    assert (await states(conn, task))["after_good"] is S.PENDING
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


async def test_a_task_may_go_on_in_spite_of_a_failure(conn, worker):
    """With `on_failure: continue` all runs but what depends on the failed step."""
    task = await begin_one(conn, template(FORK, on_failure="continue"))
    claims = by_name(await worker.claim())
    await worker.fail(claims["bad"], retryable=False)
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS

    work = await worker.succeed(claims["good"], claim=10)
    assert names(work.claims) == ["after_good"]
    await worker.succeed(*work.claims)

    assert await states(conn, task) == {
        "bad": S.ERROR,
        "good": S.COMPLETE,
        "after_bad": S.PENDING,
        "after_good": S.COMPLETE,
    }
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


async def test_a_task_that_goes_on_waits_for_retries_too(conn, worker, clock):
    """A failure beside them does not stop them."""
    task = await begin_one(conn, template({"a": [], "b": []}, on_failure="continue"))
    claims = by_name(await worker.claim())
    await worker.fail(claims["a"], retryable=False)
    await worker.fail(claims["b"])
    assert await state(conn, task) is TaskState.WAITING_FOR_RETRY

    await clock.advance(60)
    await worker.succeed(*await worker.claim())

    assert await states(conn, task) == {"a": S.ERROR, "b": S.COMPLETE}
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


# --- history -------------------------------------------------------------------------------


async def test_history_has_one_row_an_attempt_and_one_a_change(conn, worker, clock):
    """Every transition of the task and its steps can be told from them."""
    await clock.tick()
    task = await begin_one(conn, template(retry=NO_REST))
    await worker.fail(await worker.claim_one())
    await worker.succeed(await worker.claim_one())

    assert [(past.attempt, past.outcome) for past in await list_attempts(conn, task)] == [
        (1, S.WAITING_FOR_RETRY),
        (2, S.COMPLETE),
    ]
    moves = await list_transitions(conn, task)
    assert [(m.from_state, m.to_state) for m in moves if m.step_no == 1] == [
        ("pending", "enqueued"),
        ("enqueued", "in_progress"),
        ("in_progress", "waiting_for_retry"),
        ("waiting_for_retry", "enqueued"),
        ("enqueued", "in_progress"),
        ("in_progress", "complete"),
    ]
    assert [(m.from_state, m.to_state) for m in moves if m.step_no is None] == [
        ("steps_in_process", "waiting_for_retry"),
        ("waiting_for_retry", "steps_in_process"),
        ("steps_in_process", "complete"),
    ]
    assert moves == sorted(moves, key=lambda move: move.moved_at)


async def test_an_attempt_is_recorded_with_worker_and_metadata(conn, worker):
    """Also a success may have metadata."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()

    await worker.finish(replace(done(claim), metadata='{"took": "long"}'))

    (past,) = await list_attempts(conn, task)
    assert (past.worker_uuid, past.metadata) == (worker.uuid, {"took": "long"})
    assert past.error is None


# --- who is told ---------------------------------------------------------------------------


@pytest.mark.parametrize("room", [1, 2, 10])
async def test_nobody_is_told_of_a_child_that_the_call_claims_itself(conn, worker, heard, room):
    """However little room the worker has."""
    await begin_one(conn, template(CHAIN))
    claim = await worker.claim_one()
    await heard()

    await worker.succeed(claim, claim=room)

    assert await heard() == []


async def test_others_are_told_of_children_that_are_left(conn, worker, heard):
    """Once, however many there are."""
    await begin_one(conn, template(WIDE))
    claim = await worker.claim_one()
    await heard()

    await worker.succeed(claim, claim=2)

    assert await heard() == ["shop"]


async def test_others_are_told_of_children_that_the_worker_cannot_run(conn, worker, heard):
    """Although it has room."""
    await begin_one(conn, template(CHAIN))
    claim = await worker.claim_one()
    await heard()

    worker.lanes = (await worker.served())[:1]
    await worker.succeed(claim, claim=10)

    assert await heard() == ["shop"]


async def test_others_are_told_when_older_work_is_claimed_before_the_child(conn, worker, heard):
    """The child is left, although the call claimed something."""
    await begin_one(conn, template(CHAIN))
    claim = await worker.claim_one()
    await begin_one(conn, template(name="other"), priority=9)
    await heard()

    work = await worker.succeed(claim, claim=1)

    assert names(work.claims) == ["a"]
    assert await heard() == ["shop"]


async def test_nobody_is_told_when_nothing_became_ready(conn, worker, heard):
    """A last step, a failure, and a parent that was not the last."""
    await begin_one(conn, template(DIAMOND))
    await worker.run("a")
    claims = by_name(await worker.claim())
    await heard()

    await worker.succeed(claims["b"])
    await worker.fail(claims["c"], retryable=False)

    assert await heard() == []


async def test_a_released_step_goes_from_hand_to_hand(conn, worker):
    """The worker that finished the last parent goes on with the child, before older tasks."""
    old = await begin_one(conn, template(CHAIN))
    young = await begin_one(conn, template(CHAIN))
    first = next(one for one in await worker.claim() if one.task_uuid == young)
    assert old < young

    work = await worker.succeed(first, claim=1)

    assert [(one.task_uuid, one.name) for one in work.claims] == [(young, "b")]


async def test_what_is_more_urgent_goes_before_the_next_step(conn, worker):
    """A finish hands nothing over while a step of higher priority waits."""
    task = await begin_one(conn, template(CHAIN))
    first = await worker.claim_one()
    urgent = await begin_one(conn, template(CHAIN), priority=10)

    work = await worker.succeed(first, claim=1)

    assert [one.task_uuid for one in work.claims] == [urgent]
    assert (await states(conn, task))["b"] is StepState.ENQUEUED


async def test_a_worker_without_room_is_handed_nothing(conn, worker):
    """The released step is enqueued for others."""
    task = await begin_one(conn, template(CHAIN))
    first = await worker.claim_one()

    work = await worker.succeed(first, claim=0)

    assert work.claims == []
    assert (await states(conn, task))["b"] is StepState.ENQUEUED


async def test_nothing_is_handed_over_while_another_namespace_waits(conn, worker):
    """Else one that has long chains would keep every slot."""
    chain = await begin_one(conn, template(CHAIN))
    first = await worker.claim_one()
    other = await begin_one(conn, template(CHAIN, namespace="other"))
    worker.lanes = [lane.lane for lane in await list_lanes(conn)][::-1]

    work = await worker.succeed(first, claim=1)

    assert [one.task_uuid for one in work.claims] == [other]
    assert (await states(conn, chain))["b"] is StepState.ENQUEUED


def yielded(claim, cursor):
    """Yield at a checkpoint."""
    return replace(done(claim), result=None, checkpoint=encode({"cursor": cursor}))


async def test_a_yield_is_no_attempt_and_keeps_what_it_says(conn, worker, clock):
    """The step goes on from its checkpoint, as often as it likes, also after a failure."""
    task = await begin_one(conn, template(retry={"max_attempts": 2}))
    for cursor in range(4):
        await worker.finish(yielded(await worker.claim_one(), cursor))
    await worker.fail(await worker.claim_one())
    await clock.advance(60)

    claim = await worker.claim_one()

    assert decode(claim.checkpoint) == {"cursor": 3}
    assert claim.attempt - claim.forgiven == 2
    await worker.fail(claim)
    assert await states(conn, task) == {"a": StepState.ERROR}


async def test_a_late_yield_is_refused(conn, worker, clock):
    """It changes nothing."""
    task = await begin_one(conn, template())
    claim = await worker.claim_one()
    await cancel_task(conn, task, actor="ann", reason="-")

    work = await worker.finish(yielded(claim, 1))

    assert [one.reason for one in work.refusals] == ["the task was cancelled"]
    assert (await get_step(conn, task, 1)).checkpoint is None


async def test_a_recorded_yield_is_not_refused(conn, worker):
    """Neither beside a result that comes too late, nor when its call is repeated."""
    late, goes_on = await begin(conn, template(), 2)
    claims = {claim.task_uuid: claim for claim in await worker.claim()}
    await cancel_task(conn, late, actor="ann", reason="-")
    ends = done(claims[late]), yielded(claims[goes_on], 1)

    first = await worker.finish(*ends)
    again = await worker.finish(*ends)
    await worker.succeed(await worker.claim_one())
    later = await worker.finish(*ends)

    for work in first, again, later:
        assert [one.task_uuid for one in work.refusals] == [late]
