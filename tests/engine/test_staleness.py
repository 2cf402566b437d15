"""What is over a limit of its template is ended, or put aside; what moves is left alone."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from support.flows import (
    CHAIN,
    Worker,
    begin,
    begin_one,
    by_name,
    done,
    failed,
    names,
    state,
    states,
    step_id,
    template,
)
from tasker_core.engine.claim import list_lanes
from tasker_core.engine.dlq import DlqFilter, list_entries
from tasker_core.engine.inspect import (
    get_task,
    list_attempts,
    list_transitions,
)
from tasker_core.engine.lease import beat
from tasker_core.engine.operate import cancel_task, reset_step, resolve_step
from tasker_core.engine.staleness import list_staleness
from tasker_core.engine.sweep import sweep
from tasker_core.states import DlqReason, StepState, TaskState
from tasker_core.templates.limits import limits_of

pytestmark = pytest.mark.usefixtures("consistent")

S, T = StepState, TaskState
BY = {"actor": "ann", "reason": "I looked"}
HOUR = timedelta(hours=1)
DURATION = {"max_duration_minutes": 10}
IDLE = {"max_steps_in_process_minutes": 10}
RETRY = {"max_waiting_for_retry_minutes": 10}
GIVE_UP = {"give_up_after": 600}


@pytest.fixture
def worker(conn) -> Worker:
    """A worker whose loans do not end by themselves."""
    return Worker(conn, lease=timedelta(days=99))


async def entries(conn, task) -> list[DlqReason]:
    return [entry.dlq_reason for entry in await list_entries(conn, of(task), limit=9)]


def of(task) -> DlqFilter:
    return DlqFilter(task_uuid=task)


async def alive(conn, worker) -> None:
    """Say that the worker serves its lanes."""
    lanes = await worker.served()
    await beat(conn, worker.uuid, host="h", pid=1, version="1", concurrency=1, lanes=lanes)


async def watched(conn) -> list[tuple[datetime, datetime]]:
    rows = await conn.fetch("select since, look_at from tasker.watched order by task_uuid")
    return [(row["since"], row["look_at"]) for row in rows]


async def sweep_after(conn, clock, minutes: float) -> None:
    await clock.advance(60 * minutes)
    await sweep(conn)


# --- ending --------------------------------------------------------------------------------


async def test_a_task_that_takes_too_long_is_ended(conn, worker, clock, connect):
    """What runs has failed, what waits is parked, workers hear of it, late results are refused."""
    heard: list[Any] = []
    listener = await connect()
    await listener.add_listener("tasker_cancelled", lambda *facts: heard.append(facts[-1]))
    task = await begin_one(conn, template({"a": [], "b": [], "c": ["a"]}, lifecycle=DURATION))
    claims = by_name(await worker.claim())
    await worker.give_back(claims["b"])

    await sweep_after(conn, clock, 10)
    late = await worker.succeed(claims["a"])

    assert await state(conn, task) is T.ERROR
    assert (await get_task(conn, task)).completed_at == await clock.now()
    assert await states(conn, task) == {"a": S.ERROR, "b": S.PENDING, "c": S.PENDING}
    (past,) = await list_attempts(conn, task)
    assert (past.outcome, past.error["error_type"]) == (S.ERROR, "task_timeout")
    assert past.error["message"] == (
        "the task was ended: over its duration: 600 seconds, the limit is 600"
    )
    assert [one.reason for one in late.refusals] == ["the task ran out of time"]
    moves = await list_transitions(conn, task)
    (told,) = [move for move in moves if move.step_no is None]
    assert (told.from_state, told.to_state) == ("steps_in_process", "error")
    assert (told.action, told.actor) == ("task_timeout", None)
    assert told.reason == "over its duration: 600 seconds, the limit is 600"
    await listener.fetch("select")
    assert heard == [str(task)]
    assert await worker.claim() == []
    assert await watched(conn) == []


async def test_the_dead_letter_shows_the_task_as_it_was(conn, worker, clock):
    """Made in the same transaction, before anything is ended."""
    flow = template({"a": [], "b": ["a"]}, lifecycle=DURATION, retry={"backoff_base_ms": 100})
    task = await begin_one(conn, flow)
    await worker.fail(await worker.claim_one())
    await clock.advance(1)
    await worker.claim_one()
    await sweep_after(conn, clock, 10)

    (entry,) = await list_entries(conn, of(task), limit=9)
    assert (entry.original_state, entry.dlq_reason) == (T.STEPS_IN_PROCESS, "staleness_timeout")
    assert entry.metadata == {
        "action": "task_timeout",
        "detection_method": "sweep",
        "limit": "duration",
        "limit_seconds": 600,
        "seconds": 601.0,
        "state": "steps_in_process",
    }
    shown = entry.snapshot
    assert (shown["task"]["name"], shown["task"]["state"]) == ("flow", "steps_in_process")
    a, b = shown["steps"]
    assert (a["state"], a["attempts"], a["last_error"]["message"]) == ("in_progress", 2, "no")
    assert (b["state"], b["parents"], b["last_error"]) == ("pending", [1], None)
    assert shown["step_counts"] == {"in_progress": 1, "pending": 1}
    assert [move["to_state"] for move in shown["transitions"]][-1] == "steps_in_process"


@pytest.mark.parametrize(
    ("action", "ends", "written"),
    [
        ({}, True, True),
        ({"staleness_action": "dlq"}, True, True),
        ({"staleness_action": "error"}, True, False),
        ({"staleness_action": "none"}, False, False),
        ({"staleness_action": "none", "auto_fail_on_timeout": True}, True, False),
        ({"staleness_action": "none", "auto_dlq_on_timeout": True}, False, True),
        ({"staleness_action": "error", "auto_dlq_on_timeout": True}, True, True),
        ({"auto_fail_on_timeout": False}, False, True),
        ({"auto_dlq_on_timeout": False}, True, False),
    ],
)
@pytest.mark.parametrize("limit", [DURATION, IDLE])
async def test_the_template_says_what_happens(conn, clock, limit, action, ends, written):
    """An entry, the end, both, or nothing; a single switch overrules the action."""
    task = await begin_one(conn, template(lifecycle={**limit, **action}))
    assert len(await watched(conn)) == (ends or written)
    await sweep_after(conn, clock, 10)
    await sweep_after(conn, clock, 100)

    assert await state(conn, task) is (T.ERROR if ends else T.STEPS_IN_PROCESS)
    assert len(await entries(conn, task)) == written


async def test_a_template_without_limits_is_not_watched(conn, clock):
    """Its tasks may take as long as they like; so may those whose limits are reported only."""
    assert limits_of(template()) is None
    one = await begin_one(conn, template())
    two = await begin_one(
        conn, template(name="told", lifecycle={**IDLE, "staleness_action": "none"})
    )
    assert await watched(conn) == []
    await sweep_after(conn, clock, 1_000_000)
    assert {await state(conn, one), await state(conn, two)} == {T.STEPS_IN_PROCESS}


async def test_a_blocked_task_is_given_up(conn, worker, clock):
    """After `give_up_after` seconds in this state, and not in another one."""
    flow = template(CHAIN, give_up_after=600, retry={"max_attempts": 1})
    task = await begin_one(conn, flow)
    claim = await worker.claim_one()
    await sweep_after(conn, clock, 60)
    await worker.fail(claim)
    await sweep_after(conn, clock, 9.9)
    assert await state(conn, task) is T.BLOCKED_BY_FAILURES

    await sweep_after(conn, clock, 0.1)

    assert await state(conn, task) is T.ERROR
    assert (await list_transitions(conn, task))[-1].action == "give_up"
    assert await entries(conn, task) == ["max_retries_exceeded"]
    await reset_step(conn, task, await step_id(conn, task, "a"), **BY)
    assert names(await worker.claim()) == ["a"]


@pytest.mark.parametrize("limit", [GIVE_UP, {"lifecycle": RETRY}])
async def test_an_operators_word_moves_no_other_limit(conn, worker, clock, limit):
    """The time in a state goes on, unless the word has led out of it."""
    flow = template({"a": [], "b": ["a"]}, retry={"max_attempts": 1 + (limit != GIVE_UP)}, **limit)
    task = await begin_one(conn, flow)
    await worker.finish(failed(await worker.claim_one(), rest=HOUR))
    await clock.advance(300)
    await resolve_step(conn, task, await step_id(conn, task, "b"), **BY)

    await sweep_after(conn, clock, 4.9)
    assert await state(conn, task) in (T.BLOCKED_BY_FAILURES, T.WAITING_FOR_RETRY)
    await sweep_after(conn, clock, 0.1)

    assert await state(conn, task) is T.ERROR


# --- what keeps a task fresh ---------------------------------------------------------------


async def test_a_step_on_loan_keeps_its_task_fresh(conn, worker, clock):
    """However long the handler runs, as long as its lease lives."""
    task = await begin_one(conn, template(CHAIN, lifecycle=IDLE))
    claim = await worker.claim_one()
    for _ in range(5):
        await sweep_after(conn, clock, 9)
    await worker.succeed(claim)
    await sweep_after(conn, clock, 9)
    assert await state(conn, task) is T.STEPS_IN_PROCESS

    await sweep_after(conn, clock, 1)
    assert await state(conn, task) is T.ERROR


async def test_a_long_batch_with_checkpoints_is_not_ended(conn, worker, clock):
    """Each checkpoint is a sign of life."""
    task = await begin_one(conn, template(lifecycle=IDLE))
    for row in range(10):
        await sweep_after(conn, clock, 9)
        claim = await worker.claim_one()
        await worker.finish(replace(done(claim), checkpoint=f'{{"row": {row}}}'))
    await sweep_after(conn, clock, 9)

    assert await state(conn, task) is T.STEPS_IN_PROCESS
    await worker.succeed(await worker.claim_one())
    assert await state(conn, task) is T.COMPLETE


async def test_a_lost_worker_is_repaired_before_staleness_is_asked(conn, clock):
    """The sweep that finds the lease expired gives the step its next attempt."""
    flow = template(lifecycle={**IDLE, **RETRY}, retry={"backoff_base_ms": 1000})
    task = await begin_one(conn, flow)
    await Worker(conn).claim_one()

    await sweep_after(conn, clock, 500)
    assert await states(conn, task) == {"a": S.WAITING_FOR_RETRY}
    await sweep_after(conn, clock, 9)
    assert names(await Worker(conn).claim()) == ["a"]


async def test_a_retry_that_is_due_has_its_chance_first(conn, worker, clock):
    """A wait within the limit never ends a task, even if nobody looked for long."""
    task = await begin_one(conn, template(lifecycle=RETRY))
    await worker.finish(failed(await worker.claim_one(), rest=timedelta(minutes=9)))
    await sweep_after(conn, clock, 500)
    assert await states(conn, task) == {"a": S.ENQUEUED}

    await worker.finish(failed(await worker.claim_one(), rest=timedelta(minutes=11)))
    await sweep_after(conn, clock, 9.99)
    assert await state(conn, task) is T.WAITING_FOR_RETRY
    await sweep_after(conn, clock, 0.01)
    assert await state(conn, task) is T.ERROR
    assert await states(conn, task) == {"a": S.PENDING}


async def test_a_step_that_no_worker_can_run_is_told(conn, worker, clock):
    """The reason is another when a live worker has the handler, and is just too slow."""
    flow = template({"a": [], "b": []}, callables={"a": "shop.a", "b": "shop.b"}, lifecycle=IDLE)
    starved = await begin_one(conn, flow)
    await sweep_after(conn, clock, 10)
    (entry,) = await list_entries(conn, of(starved), limit=9)
    assert entry.dlq_reason is DlqReason.WORKER_UNAVAILABLE
    assert entry.metadata["missing_handlers"] == ["shop.a", "shop.b"]

    slow = await begin_one(conn, flow)
    await clock.advance(600)
    await alive(conn, worker)
    await sweep(conn)
    assert await entries(conn, slow) == ["staleness_timeout"]


# --- going on ------------------------------------------------------------------------------


async def test_a_reset_lets_an_ended_task_go_on(conn, worker, clock):
    """The step that was running runs again, and the task's time is counted anew."""
    task = await begin_one(conn, template(CHAIN, lifecycle=DURATION))
    await worker.claim_one()
    await sweep_after(conn, clock, 10)
    await clock.advance(1)

    await reset_step(conn, task, await step_id(conn, task, "a"), **BY)

    now = await clock.now()
    assert await watched(conn) == [(now, now + timedelta(minutes=10))]
    assert await state(conn, task) is T.STEPS_IN_PROCESS
    await sweep_after(conn, clock, 9.9)
    await worker.succeed(await worker.claim_one())
    assert await state(conn, task) is T.STEPS_IN_PROCESS
    await sweep_after(conn, clock, 0.1)
    assert await state(conn, task) is T.ERROR
    assert [entry.dlq_reason for entry in await list_entries(conn, of(task), limit=9)] == [
        "staleness_timeout"
    ]


async def test_a_task_that_ended_with_nothing_in_error_can_go_on(conn, worker, clock):
    """Whoever takes it out of its state and resumes it gets back all that was parked."""
    flow = template({"a": [], "b": [], "c": ["a"]}, lifecycle=DURATION)
    task = await begin_one(conn, flow)
    b = by_name(await worker.claim())
    await worker.give_back(b["a"])
    await clock.advance(300)
    await worker.finish(failed(b["b"], rest=HOUR))
    await sweep_after(conn, clock, 5)
    assert await states(conn, task) == dict.fromkeys("abc", S.PENDING)

    moment = await clock.now()
    await conn.execute(
        "select tasker.change_task($1, $2, 'steps_in_process', 'reset', 'ann', 'again')",
        moment,
        task,
    )
    await conn.execute("select tasker.resume_task($1, $2)", moment, task)

    waits = {"a": S.ENQUEUED, "b": S.WAITING_FOR_RETRY, "c": S.PENDING}
    assert await states(conn, task) == waits
    assert (await watched(conn))[0][0] == moment


async def test_a_step_settled_by_hand_lets_an_ended_task_go_on(conn, clock, worker):
    """Also when none is in error."""
    task = await begin_one(conn, template(CHAIN, lifecycle=DURATION))
    await sweep_after(conn, clock, 10)
    await resolve_step(conn, task, await step_id(conn, task, "a"), **BY)
    assert names(await worker.claim()) == ["b"]
    assert len(await watched(conn)) == 1


async def test_what_has_ended_is_watched_no_longer(conn, worker, clock):
    """The next look takes the row away; a deleted task takes it along."""
    tasks = await begin(conn, template(lifecycle=DURATION), 3)
    claims = {claim.task_uuid: claim for claim in await worker.claim()}
    await worker.succeed(claims[tasks[0]])
    await cancel_task(conn, tasks[1], **BY)
    assert len(await watched(conn)) == 3
    await sweep_after(conn, clock, 10)
    assert await watched(conn) == []
    assert [await state(conn, task) for task in tasks] == [T.COMPLETE, T.CANCELLED, T.ERROR]


async def test_one_task_that_cannot_be_ended_stops_nobody(conn, clock):
    """The others are ended, leases are taken back, and it is tried again later."""
    flow = template(lifecycle=IDLE)
    bad, good = await begin(conn, flow, 2)
    lost = await begin_one(conn, template(name="other"))
    await Worker(conn).claim(9)
    await conn.execute("delete from tasker.leases where task_uuid <> $1", lost)
    await conn.execute(
        "insert into tasker.ready select task_uuid, step_no, lane, 0, 0, tasker.now() "
        "from tasker.steps where task_uuid <> $1",
        lost,
    )
    await conn.execute(
        "create function refuse_one() returns trigger language plpgsql as $$ begin "
        f"if new.task_uuid = '{bad}' then raise 'no'; end if; return new; end $$; "
        "create trigger refuse_one before insert on tasker.dlq_entries "
        "for each row execute function refuse_one()"
    )
    try:
        await clock.advance(600)
        assert await sweep(conn) == 1
        assert await state(conn, bad) is T.STEPS_IN_PROCESS
        assert await state(conn, good) is T.ERROR
    finally:
        await conn.execute("drop function refuse_one cascade")
    await sweep_after(conn, clock, 10)
    assert await state(conn, bad) is T.ERROR


# --- the report ----------------------------------------------------------------------------


async def test_the_report_says_who_is_close_to_stale(conn, worker, clock):
    """From 80 % of the limit on; the worst first; what moves is healthy; what ended is absent."""
    flow = template(lifecycle={**IDLE, "staleness_action": "none"})
    stale = await begin_one(conn, flow)
    await clock.advance(60)
    late = await begin_one(conn, template(name="by_default"))
    await clock.advance(60)
    close = await begin_one(conn, flow)
    moving = await begin_one(conn, template({"x": []}, name="moving"))
    await begin_one(conn, template({"y": []}, name="done"))
    x_and_y = [lane.lane for lane in await list_lanes(conn) if lane.callable in "xy"]
    await worker.succeed(by_name(await Worker(conn, x_and_y, uuid=worker.uuid).claim())["y"])
    await clock.advance(8 * 60)

    found = await list_staleness(conn, limit=9, default_limit=timedelta(minutes=9))

    assert [(one.task_uuid, one.health) for one in found] == [
        (stale, "stale"),
        (late, "stale"),
        (close, "warning"),
        (moving, "healthy"),
    ]
    assert found[0].state_limit == timedelta(minutes=10)
    assert found[1].state_limit == timedelta(minutes=9)
    assert (found[0].missing_handlers, found[3].missing_handlers) == (["a"], [])
    assert found[3].idle_since is None  # its step is on loan
    assert len(await list_staleness(conn, limit=2, default_limit=HOUR)) == 2
    await alive(conn, worker)
    assert (await list_staleness(conn, limit=1, default_limit=HOUR))[0].missing_handlers == []


async def test_the_report_has_what_waits_and_what_will_be_given_up(conn, worker, clock):
    """A blocked task only if its template gives it up; a duration counts as well."""
    await begin(conn, template(name="forever", retry={"max_attempts": 1}))
    given_up = await begin_one(
        conn, template(name="given_up", give_up_after=60, retry={"max_attempts": 1})
    )
    waits = await begin_one(conn, template({"w": []}, name="waits", lifecycle=DURATION))
    claims = await worker.claim()
    await worker.fail(*(one for one in claims if one.name == "a"))
    await worker.finish(*(failed(one, rest=HOUR) for one in claims if one.name == "w"))
    await clock.advance(9 * 60)

    found = await list_staleness(conn, limit=9, default_limit=HOUR)

    assert [(one.task_uuid, one.state, one.health) for one in found] == [
        (given_up, T.BLOCKED_BY_FAILURES, "stale"),
        (waits, T.WAITING_FOR_RETRY, "warning"),
    ]


# --- any history ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_any_history_is_judged_as_a_plain_reading_of_it_would(conn, worker, clock, seed):
    """Random limits, random moves: a sweep ends exactly what its records say is over."""
    chance = random.Random(seed)
    await clock.tick()
    flow = template(
        {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
        lifecycle={
            name: minutes
            for name in ("max_duration_minutes", *IDLE, *RETRY)
            if (minutes := chance.choice([None, 5, 10]))
        }
        | chance.choice([{}, {"staleness_action": "error"}, {"auto_fail_on_timeout": False}]),
        give_up_after=chance.choice([None, 120, 900]),
        on_failure=chance.choice(["halt", "continue"]),
        retry={"max_attempts": 3},
    )
    tasks = await begin(conn, flow, 6)
    limits, acted = limits_of(flow) or {}, 0
    for _ in range(30):
        await clock.advance(60 * chance.choice([0.1, 1, 3, 4.999, 5, 8]))
        claims = await worker.claim(chance.randint(0, 4))
        for claim in claims:
            end = chance.choice(["done", "retry", "retry", "fail", "hold"])
            if end == "done":
                await worker.succeed(claim)
            elif end != "hold":
                rest = timedelta(minutes=chance.choice([1, 4, 20]))
                await worker.finish(failed(claim, end == "retry", rest=rest))
        await worker.claim(0)  # retries that are due are given their chance
        now = await clock.now()
        expected = {task: await judge(conn, task, limits, now) for task in tasks}
        before = {task: len(await entries(conn, task)) for task in tasks}
        was = {task: await state(conn, task) for task in tasks}
        await sweep(conn)
        for task, verdict in expected.items():
            fails = verdict == "give_up" or (verdict and limits["fails"])
            is_ended = was[task] is not T.ERROR and await state(conn, task) is T.ERROR
            assert is_ended == bool(fails), (verdict, was[task])
            is_written = bool(verdict and limits["files"] and not before[task])
            assert len(await entries(conn, task)) - before[task] == is_written, verdict
            acted += bool(verdict)
    assert acted or not limits


async def judge(conn, task, limits: dict[str, Any], now: datetime) -> str | None:
    """Read the records of a task, and say which limit it is over."""
    found = await get_task(conn, task)
    if found.completed_at is not None:
        return None
    moves = await list_transitions(conn, task)
    entered = max([m.moved_at for m in moves if m.step_no is None], default=found.created_at)
    steps = await conn.fetch("select * from tasker.step_states where task_uuid = $1", task)
    idle: datetime | None = entered
    if found.state is T.STEPS_IN_PROCESS:
        signs = [m.moved_at for m in moves] + [s["enqueued_at"] for s in steps if s["enqueued_at"]]
        idle = max([entered, *signs])
        if any(step["state"] == "in_progress" for step in steps):
            idle = None

    def over(name: str, since: datetime | None) -> bool:
        return (
            name in limits and since is not None and now - since >= timedelta(seconds=limits[name])
        )

    if found.state is T.BLOCKED_BY_FAILURES and over("blocked_by_failures", idle):
        return "give_up"
    if not (limits.get("fails") or limits.get("files")):
        return None
    if over("duration", found.created_at):
        return "task_timeout"
    if found.state is not T.BLOCKED_BY_FAILURES and over(str(found.state), idle):
        return "staleness_timeout"
    return None


async def test_what_a_sweep_ended_is_logged_once(conn, worker, clock):
    """How many, and a handful of them: not for every look."""
    for action in ("dlq", "error", "none"):
        flow = template(lifecycle=DURATION | {"staleness_action": action}, name=action)
        await begin(conn, flow, 6)
    await clock.advance(660)

    with capture_logs() as logs:
        await sweep(conn)
        await sweep(conn)

    (line,) = [log for log in logs if log["event"] == "tasks_over_limit"]
    assert (line["ended"], line["put_aside"], len(line["task_uuids"])) == (12, 6, 10)


async def test_a_task_that_is_only_put_aside_is_told_once(conn, worker, clock):
    """It goes on, is over its limit at the next look, too, and has its dead letter already."""
    kept = {"staleness_action": "none", "auto_dlq_on_timeout": True}
    task = await begin_one(conn, template(lifecycle=DURATION | kept))

    with capture_logs() as logs:
        for _ in range(3):
            await sweep_after(conn, clock, 11)

    (line,) = [log for log in logs if log["event"] == "tasks_over_limit"]
    assert (line["ended"], line["put_aside"], line["task_uuids"]) == (0, 1, [str(task)])
