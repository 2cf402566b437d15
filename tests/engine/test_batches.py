"""How many workers of a batch run at a time, and what becomes of them when one fails."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest

from support.flows import Worker, begin_one, done, failed, names, state, states, step_id
from support.invariants import check_invariants
from tasker_core.engine.claim import Claim
from tasker_core.engine.dlq import DlqEntry, DlqFilter, list_entries
from tasker_core.engine.expand import plan_expansion
from tasker_core.engine.finish import Finished
from tasker_core.engine.operate import cancel_task, reset_step, reset_task, resolve_step
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.engine.why import why
from tasker_core.payload import decode, encode
from tasker_core.states import StepState, TaskState
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

pytestmark = pytest.mark.usefixtures("consistent")

BY = {"actor": "ann", "reason": "I looked"}


def flow(
    parallelism: int,
    strategy: str = "continue_on_failure",
    on_failure: str = "halt",
    lifecycle: str = "{}",
):
    """A batch beside a chain, and what joins the two."""
    report = parse_template(f"""
name: batch
namespace_name: shop
version: 1.0.0
on_failure: {on_failure}
lifecycle: {lifecycle}
steps:
  - {{name: analyze, type: batchable, handler: {{callable: x}}}}
  - name: work
    type: batch_worker
    handler: {{callable: x}}
    dependencies: [analyze]
    retry: {{max_attempts: 2, backoff: linear, backoff_base_ms: 100}}
    batch_config: {{parallelism: {parallelism}, failure_strategy: {strategy}}}
  - {{name: total, type: deferred_convergence, handler: {{callable: x}}, dependencies: [work]}}
  - {{name: first, handler: {{callable: x}}, retry: {{max_attempts: 1}}}}
  - {{name: second, handler: {{callable: x}}, dependencies: [first], retry: {{max_attempts: 1}}}}
  - {{name: report, handler: {{callable: x}}, dependencies: [total, second]}}
""")
    assert report.template is not None, report.findings
    return report.template


async def cut(conn: asyncpg.Connection, own: TaskTemplate, claim: Claim, size: int) -> Finished:
    """End the analyzer with this many batches."""
    cursors = [{"batch_id": f"{n:03}"} for n in range(1, size + 1)]
    outcome = {"type": "create_batches", "worker_template_name": "work", "cursor_configs": cursors}
    result = {"batch_processing_outcome": outcome}
    step = own.step("analyze")
    expansion = await plan_expansion(conn, own, step, claim.task_uuid, result)
    return Finished(
        claim.task_uuid, claim.step_no, claim.attempt, encode(result), None, expansion=expansion
    )


@pytest.fixture
async def begun(conn, worker):
    """Begin a task and cut its batch; give the task. The chain is left to others."""

    async def begin(own: TaskTemplate, size: int):
        task = await begin_one(conn, own)
        claims = {claim.name: claim for claim in await worker.claim()}
        await worker.finish(await cut(conn, own, claims["analyze"], size))
        await worker.give_back(claims["first"])
        return task

    return begin


async def workers_of(worker: Worker) -> list[Claim]:
    """Claim what is ready of the batch, in order; give back the rest."""
    claims = await worker.claim()
    await worker.give_back(*(one for one in claims if one.template_step != "work"))
    return sorted((one for one in claims if one.template_step == "work"), key=lambda c: c.step_no)


async def test_no_more_run_at_a_time_than_parallelism_says(worker, begun):
    """The others follow in order, one for each that has ended."""
    await begun(flow(3), 6)
    claims = await workers_of(worker)
    assert names(claims) == ["work_001", "work_002", "work_003"]

    await worker.succeed(claims[1])
    (fourth,) = await workers_of(worker)
    await worker.succeed(claims[0], claims[2])
    last = await workers_of(worker)

    assert (fourth.name, names(last)) == ("work_004", ["work_005", "work_006"])


async def test_a_worker_that_retries_keeps_its_place(worker, begun, clock):
    """A rest is a part of the work, also when a sibling leaves."""
    await begun(flow(2), 4)
    first, second = await workers_of(worker)
    await worker.fail(first)
    assert await workers_of(worker) == []
    await worker.succeed(second)
    (third,) = await workers_of(worker)
    await clock.advance(1)

    assert names([third, *await workers_of(worker)]) == ["work_001", "work_003"]


async def test_what_follows_a_batch_waits_for_all_of_it(conn, worker, begun):
    """Those that are held count, too."""
    task = await begun(flow(1), 3)
    for _ in range(3):
        assert (await states(conn, task))["total"] is StepState.PENDING
        await worker.succeed(*await workers_of(worker))

    assert (await states(conn, task))["total"] is StepState.ENQUEUED


@pytest.mark.parametrize("strategy", ["continue_on_failure", "isolate"])
async def test_siblings_run_on_after_a_failure(conn, worker, begun, strategy):
    """All but what failed is done; then the task is blocked, and nothing is skipped."""
    task = await begun(flow(2, strategy), 4)
    claims = await workers_of(worker)

    await worker.fail(claims[0], retryable=False)
    await worker.succeed(claims[1])
    assert (await states(conn, task))["first"] is StepState.PENDING, "no sibling: it is halted"
    rest = await workers_of(worker)
    await worker.succeed(*rest)

    assert names(rest) == ["work_003", "work_004"]
    assert (await states(conn, task))["total"] is StepState.PENDING
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES


@pytest.mark.parametrize("on_failure", ["halt", "continue"])
async def test_fail_fast_holds_back_what_has_not_begun(conn, worker, begun, on_failure):
    """Running siblings run on; the others wait until the failure is dealt with."""
    task = await begun(flow(2, "fail_fast", on_failure), 4)
    claims = await workers_of(worker)

    await worker.fail(claims[0], retryable=False)
    await worker.succeed(claims[1])
    assert await workers_of(worker) == []

    await reset_step(conn, task, await step_id(conn, task, "work_001"), **BY)
    assert names(await workers_of(worker)) == ["work_001", "work_003"]


async def test_isolate_puts_the_failed_ranges_aside(conn, worker, begun):
    """One dead letter, with all of them; the other strategies make none."""
    task = await begun(flow(2, "isolate"), 3)
    claims = await workers_of(worker)
    await worker.fail(claims[1], retryable=False)
    (entry,) = await list_entries(conn, DlqFilter(task_uuid=task), limit=9, offset=0)
    assert entry.dlq_reason == "max_retries_exceeded"

    await worker.fail(claims[0], retryable=False)

    (entry,) = await list_entries(conn, DlqFilter(task_uuid=task), limit=9, offset=0)
    assert entry.metadata == {
        "failed_ranges": [
            {"step": f"work_{batch}", "cursor": {"batch_id": batch}, "checkpoint": None}
            for batch in ("001", "002")
        ]
    }


async def test_what_is_told_of_failed_ranges_is_bounded(conn, worker, begun):
    """The first hundred, and no long cursor: what fails after that costs no write."""
    task = await begun(flow(200, "isolate"), 120)
    claims = [claim for _ in range(2) for claim in await workers_of(worker)]
    claims.sort(key=lambda claim: claim.step_no)  # those of one task come in any order
    await conn.execute(
        "update tasker.steps set checkpoint = json_build_object('cursor', repeat('x', $1)) "
        "where name = 'work_001'",
        2000,
    )
    await worker.fail(*claims[:101], retryable=False)
    entry = await entry_of(conn, task)
    ranges = entry.metadata["failed_ranges"]
    assert [one["step"] for one in ranges] == [f"work_{n:03}" for n in range(1, 101)]
    assert entry.metadata["has_more_ranges"] is True
    assert ranges[0] == {"step": "work_001", "cursor": {"batch_id": "001"}, "checkpoint": None}

    written = "select xmin from tasker.dlq_entries"
    before = await conn.fetchval(written)
    await worker.fail(*claims[101:], retryable=False)
    assert await conn.fetchval(written) == before

    for name in ("work_001", *(f"work_{n}" for n in range(102, 121))):
        await reset_step(conn, task, await step_id(conn, task, name), **BY)
    await worker.fail((await workers_of(worker))[-1], retryable=False)
    told = [one["step"] for one in (await entry_of(conn, task)).metadata["failed_ranges"]]
    assert (told[0], len(told)) == ("work_002", 100)


@pytest.mark.parametrize("strategy", ["isolate", "fail_fast"])
@pytest.mark.parametrize("action", ["dlq", "error"])
async def test_a_limit_puts_the_ranges_aside_that_it_ends(
    conn, worker, begun, clock, strategy, action
):
    """With the task's dead letter, if there is one, else with their own."""
    own = flow(2, strategy, lifecycle=f"{{max_duration_minutes: 1, staleness_action: {action}}}")
    task = await begun(own, 3)
    await workers_of(Worker(conn, lease=timedelta(hours=1)))

    await clock.advance(61)
    await sweep(conn)

    assert await state(conn, task) is TaskState.ERROR
    if (strategy, action) == ("fail_fast", "error"):
        assert await list_entries(conn, DlqFilter(task_uuid=task), limit=9) == []
        return
    metadata = (await entry_of(conn, task)).metadata
    assert metadata.get("action") == ("task_timeout" if action == "dlq" else None)
    told = [one["step"] for one in metadata.get("failed_ranges", [])]
    assert told == (["work_001", "work_002"] if strategy == "isolate" else [])


async def entry_of(conn: asyncpg.Connection, task: Any) -> DlqEntry:
    (entry,) = await list_entries(conn, DlqFilter(task_uuid=task), limit=9)
    return entry


@pytest.mark.parametrize("whole", [True, False])
async def test_a_worker_that_is_reset_waits_for_its_turn(conn, worker, begun, whole):
    """Its batch is full: it is held as any other, and goes first when there is room."""
    task = await begun(flow(2), 5)
    first, second = await workers_of(worker)
    await worker.fail(first, retryable=False)
    (third,) = await workers_of(worker)

    if whole:
        await reset_task(conn, task, **BY)
    else:
        await reset_step(conn, task, await step_id(conn, task, "work_001"), **BY)
    assert await workers_of(worker) == []
    found = {one.name: one.cause for one in await why(conn, TemplateShelf(), task)}
    assert found["work_001"] == "waits_for_batch"

    await worker.succeed(second)
    assert names(await workers_of(worker)) == ["work_001"]
    await worker.succeed(third)
    assert names(await workers_of(worker)) == ["work_004"]


@pytest.mark.parametrize("strategy", ["continue_on_failure", "fail_fast"])
async def test_other_strategies_put_nothing_aside(conn, worker, begun, strategy):
    """The task is blocked, which is seen anyway."""
    task = await begun(flow(2, strategy), 3)
    await worker.fail(*await workers_of(worker), retryable=False)

    assert await list_entries(conn, DlqFilter(task_uuid=task), limit=9, offset=0) == []


async def test_another_failure_halts_the_batch(conn, worker, begun):
    """Siblings are let off for each other only."""
    task = await begun(flow(2), 4)
    claims = {claim.name: claim for claim in await worker.claim()}

    await worker.fail(claims["first"], retryable=False)
    await worker.succeed(claims["work_001"], claims["work_002"])

    assert await workers_of(worker) == []
    assert await state(conn, task) is TaskState.BLOCKED_BY_FAILURES
    await resolve_step(conn, task, await step_id(conn, task, "first"), **BY)
    assert names(await workers_of(worker)) == ["work_003", "work_004"]


async def test_a_held_worker_can_be_settled_by_hand(conn, worker, begun):
    """It never runs then; its place goes to the next."""
    task = await begun(flow(1), 3)
    await resolve_step(conn, task, await step_id(conn, task, "work_002"), **BY)

    await worker.succeed(*await workers_of(worker))

    assert names(await workers_of(worker)) == ["work_003"]


async def test_a_large_batch_with_failures_is_not_read_through(conn, worker, begun):
    """Whether a failure halts a step is asked for each that is ready, at every end."""
    task = await begun(flow(1000), 3000)
    claims = await workers_of(worker)
    await worker.fail(*claims[:20], retryable=False)

    question = f"select tasker.is_halted('{task}', true, 1, 'continue_on_failure')"
    (plan,) = decode(await conn.fetchval(f"explain (analyze, buffers, format json) {question}"))

    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100


async def test_cancel_ends_what_is_held(conn, worker, begun):
    """Like every step that has not ended."""
    task = await begun(flow(1), 3)

    await cancel_task(conn, task, **BY)

    assert (await states(conn, task))["work_003"] is StepState.CANCELLED


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_the_bound_holds_and_the_task_ends(conn, worker, clock, seed):
    """Random ends in random order, by several workers, some of which are lost."""
    dice = Random(seed)
    strategy = dice.choice(["continue_on_failure", "fail_fast", "isolate"])
    bound = dice.randint(1, 4)
    own = flow(bound, strategy, dice.choice(["halt", "continue"]))
    task = await begin_one(conn, own)
    hands = [worker, Worker(conn), Worker(conn)]
    held: list[tuple[Worker, Claim]] = []

    async def move() -> None:
        hand = dice.choice(hands)
        own_claims = [claim for holder, claim in held if holder is hand]
        ends = dice.sample(own_claims, dice.randint(0, len(own_claims)))
        held[:] = [one for one in held if one[1] not in ends]
        for claim in ends:
            if claim.name == "analyze":
                await hand.finish(await cut(conn, own, claim, 9))
        rest = [claim for claim in ends if claim.name != "analyze"]
        work = await hand.finish(
            *(done(c) if dice.random() < 0.7 else failed(c, dice.random() < 0.5) for c in rest),
            claim=dice.randint(0, 4),
        )
        held.extend((hand, claim) for claim in work.claims)
        if dice.random() < 0.1:
            held.clear()
            await clock.advance(60)
            await sweep(conn)
        broken = [n for n, s in (await states(conn, task)).items() if s is StepState.ERROR]
        if broken and dice.random() < 0.3:
            await clock.advance(1)
            await reset_step(conn, task, await step_id(conn, task, dice.choice(broken)), **BY)

    for _ in range(300):
        if await state(conn, task) is TaskState.COMPLETE:
            break
        await move()
        await clock.advance(1)
        alive = await alive_workers(conn, task)
        assert alive <= bound
        await check_invariants(conn)
    assert await state(conn, task) is TaskState.COMPLETE


async def alive_workers(conn: asyncpg.Connection, task: Any) -> int:
    seen = await states(conn, task)
    return sum(
        name.startswith("work_")
        and step in (StepState.ENQUEUED, StepState.IN_PROGRESS, StepState.WAITING_FOR_RETRY)
        for name, step in seen.items()
    )
