"""Several connections at once: nothing runs twice, nothing is lost, nobody waits in a ring.

First whole crowds of workers, then every pair of functions that may meet: one has done
its work and not yet committed, the other comes, then the first commits or rolls back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from support.clock import Clock
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
    step_id,
    template,
)
from support.invariants import check_history, check_invariants
from tasker_core.engine.claim import Claim, list_lanes
from tasker_core.engine.create import NewTask, create_tasks, identity_hash
from tasker_core.engine.dlq import add_entry, get_entry, update_entry
from tasker_core.engine.finish import Finished
from tasker_core.engine.inspect import list_attempts
from tasker_core.engine.operate import (
    cancel_task,
    complete_step,
    reset_step,
    reset_task,
    resolve_step,
    resolve_task,
)
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.engine.search import TaskFilter, count_tasks, list_tasks
from tasker_core.engine.sweep import sweep
from tasker_core.errors import DlqEntryPending, DuplicateTask, TemplateChanged, TransitionRefused
from tasker_core.states import DlqStatus, StepState, TaskState

S = StepState
BY = {"actor": "ann", "reason": "-"}
TERMINAL = [TaskState.COMPLETE, TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY]
MIXED = {
    **{f"in_{n}": [] for n in range(3)},
    "left": ["in_0", "in_1"],
    "right": ["in_1", "in_2"],
    "out": ["left", "right"],
}


# --- crowds --------------------------------------------------------------------------------


class Crowd:
    """Workers that share one database, and what they saw."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.running: dict[tuple[UUID, int], UUID] = {}
        self.accepted: Counter[tuple[UUID, int]] = Counter()
        self.is_over = False

    async def work(self, worker: Worker, fails: float, drops: float) -> None:
        """Claim and finish until all is over; now and then fail, or forget a step."""
        claims: list[Claim] = []
        while not self.is_over:
            for claim in claims:
                holder = self.running.setdefault((claim.task_uuid, claim.step_no), worker.uuid)
                assert holder == worker.uuid, "a step is running twice at once"
            await asyncio.sleep(0)
            ends = [self.end(claim, fails) for claim in claims if self.random.random() >= drops]
            self.random.shuffle(ends)
            for claim in claims:
                del self.running[claim.task_uuid, claim.step_no]
            work = await worker.finish(*ends, claim=self.random.randint(1, 9))
            refused = {(one.task_uuid, one.step_no) for one in work.refusals}
            for end in ends:
                key = (end.task_uuid, end.step_no)
                if end.error is None and key not in refused:
                    self.accepted[key] += 1
            claims = work.claims

    def end(self, claim: Claim, fails: float) -> Finished:
        """End an attempt, well or badly, as chance will have it."""
        if self.random.random() >= fails:
            return done(claim, [claim.name, claim.attempt])
        return failed(claim, retryable=self.random.random() < 0.7)


async def until_all_ended(conn: asyncpg.Connection, crowd: Crowd, help_out: Callable) -> None:
    """Sweep and help until every task has ended."""
    for _ in range(3000):
        if not await conn.fetchval("select true from tasker.tasks where completed_at is null"):
            break
        await help_out()
        await asyncio.sleep(0)
    else:
        pytest.fail("some tasks are stuck")
    crowd.is_over = True


@pytest.fixture
async def shop(conn) -> list[UUID]:
    """Two hundred and ten tasks of seven graphs."""
    tasks = []
    for number, graph in enumerate((CHAIN, DIAMOND, WIDE, MIXED, {"a": []}, {"a": [], "b": []})):
        flow = template(graph, name=f"flow_{number}", retry=NO_REST)
        tasks += await begin(conn, flow, 30)
    flow = template(MIXED, name="going_on", retry=NO_REST, on_failure="continue")
    return tasks + await begin(conn, flow, 30)


@pytest.mark.parametrize("count", [2, 4, 8])
async def test_workers_share_the_work(conn, connect, shop, count):
    """Every step is run by one of them, once, and every result is recorded once."""
    crowd = Crowd(count)
    workers = [Worker(await connect()) for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(crowd.work(worker, fails=0, drops=0))
        await until_all_ended(conn, crowd, lambda: asyncio.sleep(0.005))

    assert await count_tasks(conn, TaskFilter(states=[TaskState.COMPLETE])) == len(shop)
    steps = await conn.fetchval("select count(*) from tasker.steps")
    assert set(crowd.accepted.values()) == {1}
    assert len(crowd.accepted) == steps
    assert await conn.fetchval("select count(*) from tasker.attempts") == steps
    assert await conn.fetchval("select count(distinct worker_uuid) from tasker.attempts") == count
    await check_all(conn)


@pytest.mark.parametrize("count", [2, 4, 8])
async def test_crowds_survive_failures_losses_and_operators(conn, connect, clock, shop, count):
    """Failed, dropped, cancelled, reset and resolved in the middle: every task ends."""
    await clock.tick()
    crowd = Crowd(count)
    operator, sweepers = await connect(), [await connect(), await connect()]

    async def help_out() -> None:
        await clock.advance(5)
        await asyncio.gather(*(sweep(one) for one in sweepers))
        task, step, name = await operator.fetchrow(
            "select task_uuid, step_uuid, state from tasker.step_states "
            "where state not in ('complete', 'cancelled', 'resolved_manually') "
            "order by state <> 'error', random() limit 1"
        ) or (None, None, None)
        if task is None:
            return
        acts: list[Callable[[], Awaitable[None]]] = [
            lambda: reset_step(operator, task, step, **BY),
            lambda: resolve_step(operator, task, step, force=True, **BY),
            lambda: complete_step(
                operator, TemplateShelf(), task, step, result="by hand", force=True, **BY
            ),
        ]
        if name != "error":
            acts = [*acts[1:], lambda: cancel_task(operator, task, **BY)]
        with contextlib.suppress(TransitionRefused):  # somebody was quicker
            await crowd.random.choice(acts)()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            worker = Worker(await connect(), lease=timedelta(seconds=60))
            group.create_task(crowd.work(worker, fails=0.15, drops=0.05))
        await until_all_ended(conn, crowd, help_out)

    assert await count_tasks(conn, TaskFilter(states=TERMINAL)) == len(shop)
    assert set(crowd.accepted.values()) == {1}
    complete = await conn.fetch(
        "select step.task_uuid, step.step_no, past.worker_uuid, past.error, step.result "
        "from tasker.steps as step join tasker.attempts as past "
        "using (task_uuid, step_no, attempt) where past.outcome = 'complete'"
    )
    recorded = {(row["task_uuid"], row["step_no"]) for row in complete if row["error"] is None}
    assert recorded == set(crowd.accepted)
    await check_all(conn)


async def check_all(conn: asyncpg.Connection) -> None:
    # thousands of rows where the statistics may still say that there are none
    await conn.execute("analyze tasker.tasks, tasker.steps, tasker.attempts, tasker.changes")
    await check_invariants(conn)
    await check_history(conn)


async def test_a_wide_join_is_released_once_by_many(conn, connect):
    """Fifty parents, finished one by one on eight connections at once, have one child."""
    graph = {f"p{n}": [] for n in range(50)}
    await begin_one(conn, template({**graph, "join": list(graph)}))
    workers = [Worker(await connect()) for _ in range(8)]
    held = [await worker.claim(7) for worker in workers]

    async def finish_all(worker: Worker, claims: list[Claim]) -> None:
        for claim in claims:
            await worker.succeed(claim)

    await asyncio.gather(*map(finish_all, workers, held))

    assert names(await workers[0].claim()) == ["join"]
    await check_invariants(conn)


async def test_calls_that_carry_the_same_tasks_in_any_order_never_wait_in_a_ring(conn, connect):
    """Results of thirty tasks in each call of four workers, shuffled."""
    await begin(conn, template({f"s{n}": [] for n in range(8)}), 30)
    workers = [Worker(await connect()) for _ in range(4)]
    held = [await worker.claim(60) for worker in workers]
    for claims in held:
        random.Random(1).shuffle(claims)

    async def finish_all(worker: Worker, claims: list[Claim]) -> None:
        await worker.succeed(*claims[:30])
        await worker.succeed(*claims[30:])

    await asyncio.gather(*map(finish_all, workers, held))

    assert await count_tasks(conn, TaskFilter(states=[TaskState.COMPLETE])) == 30
    await check_invariants(conn)


# --- pairs ---------------------------------------------------------------------------------


Call = Callable[[], Awaitable[Any]]


class Meeting:
    """Two connections: the first has not committed yet when the second comes."""

    def __init__(self, one: asyncpg.Connection, two: asyncpg.Connection) -> None:
        self.one, self.two = one, two
        self.waited = False

    async def hold(self, first: Call, second: Call, commits: bool) -> tuple[Any, Any]:
        """Run the first, then the second until it is done or waits; then end the first.

        Gives what both brought; an error of the second is a result too.
        """
        transaction = self.one.transaction()
        await transaction.start()
        brought = await first()
        pending = asyncio.ensure_future(second())
        self.waited = await self.waits(pending)
        await (transaction.commit() if commits else transaction.rollback())
        outcome = (await asyncio.gather(pending, return_exceptions=True))[0]
        assert not isinstance(outcome, asyncpg.PostgresError), outcome
        return brought, outcome

    async def waits(self, pending: asyncio.Future[Any]) -> bool:
        """Look from the first connection until the second is done, or waits for a lock."""
        pid = self.two.get_server_pid()
        while not pending.done():
            if await self.one.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
                return True
        return False


@pytest.fixture
async def meeting(connect) -> Meeting:
    """Two connections, of which none waits for longer than five seconds."""
    one, two = await connect(), await connect()
    for conn in (one, two):
        await conn.execute("set lock_timeout = '5s'; set statement_timeout = '10s'")
    return Meeting(one, two)


@pytest.fixture(params=[True, False], ids=["commit", "rollback"])
def commits(request) -> bool:
    """Whether the first of two transactions commits, or rolls back."""
    return request.param


@pytest.fixture
async def consistent(conn, clock: Clock) -> Any:
    """After the meeting the tables contradict nothing, and what is left can be driven home."""
    await clock.tick()
    yield
    await check_invariants(conn)
    await check_history(conn)
    await drive_home(conn, clock)


async def drive_home(conn: asyncpg.Connection, clock: Clock) -> None:
    """Finish all that is left, as a worker would that knows of nothing; nothing is stuck."""
    worker = Worker(conn)
    for _ in range(20):
        await clock.advance(4000)
        await sweep(conn)
        await worker.succeed(*await worker.claim(1000))
        failures = await conn.fetch(
            "select task_uuid, step_uuid from tasker.step_states where state = 'error'"
        )
        if not failures:  # a task that time has ended goes on with whatever is settled
            failures = await conn.fetch(
                "select distinct on (task_uuid) task_uuid, step_uuid "
                "from tasker.step_states as step join tasker.tasks as task using (task_uuid) "
                "where task.state = 'error' and step.state = 'pending'"
            )
        for row in failures:
            await resolve_step(conn, row["task_uuid"], row["step_uuid"], **BY)
    left = await list_tasks(conn, TaskFilter(), limit=100, offset=0)
    assert [task.state for task in left if task.state not in TERMINAL] == []
    await check_invariants(conn)
    await check_history(conn)


pairs = pytest.mark.usefixtures("consistent")


@pairs
async def test_two_parents_finish_at_once(conn, meeting, commits):
    """The second waits for the first, and the child is released exactly once, to somebody."""
    task = await begin_one(conn, template(DIAMOND))
    one, two = Worker(meeting.one), Worker(meeting.two)
    await one.run("a")
    left = (await one.claim(1))[0]
    right = (await two.claim(1))[0]

    first, second = await meeting.hold(
        lambda: one.succeed(left, claim=5), lambda: two.succeed(right, claim=5), commits
    )

    assert meeting.waited
    assert (first.claims, second.refusals) == ([], [])
    assert names(second.claims) == (["d"] if commits else [])
    left_state = S.COMPLETE if commits else S.IN_PROGRESS
    assert sorted((await states(conn, task)).values()) == sorted(
        [S.COMPLETE, left_state, S.COMPLETE, S.IN_PROGRESS if commits else S.PENDING]
    )


@pairs
async def test_the_last_two_steps_finish_at_once(conn, meeting, commits):
    """The task completes with the second, unless the first is undone."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    one, two = Worker(meeting.one), Worker(meeting.two)
    claim, other = (await one.claim(1))[0], (await two.claim(1))[0]

    await meeting.hold(lambda: one.succeed(claim), lambda: two.succeed(other), commits)

    assert await state(conn, task) is (
        TaskState.COMPLETE if commits else TaskState.STEPS_IN_PROCESS
    )


@pairs
async def test_success_meets_permanent_failure(conn, meeting, commits):
    """No child of the success is released once the failure is committed."""
    task = await begin_one(conn, template({"bad": [], "good": [], "child": ["good"]}))
    one, two = Worker(meeting.one), Worker(meeting.two)
    claims = by_name(await one.claim(1) + await two.claim(1))
    owner = {"bad": one, "good": two} if claims["bad"].step_no == 1 else None
    assert owner is not None

    _, second = await meeting.hold(
        lambda: one.fail(claims["bad"], retryable=False),
        lambda: two.succeed(claims["good"], claim=5),
        commits,
    )

    assert names(second.claims) == ([] if commits else ["child"])
    assert await state(conn, task) is (
        TaskState.BLOCKED_BY_FAILURES if commits else TaskState.STEPS_IN_PROCESS
    )


@pairs
async def test_permanent_failure_meets_success(conn, meeting, commits):
    """A child that the success released is parked by the failure, unless it runs already."""
    task = await begin_one(conn, template({"bad": [], "good": [], "child": ["good"]}))
    one, two = Worker(meeting.one), Worker(meeting.two)
    claims = by_name(await two.claim(1) + await one.claim(1))

    await meeting.hold(
        lambda: one.succeed(claims["good"]),
        lambda: two.fail(claims["bad"], retryable=False),
        commits,
    )

    assert (await states(conn, task))["child"] is S.PENDING


@pairs
async def test_one_result_is_sent_twice_at_once(conn, connect, meeting, commits):
    """By one worker over two connections, as after a time-out: it is recorded once."""
    task = await begin_one(conn, template(CHAIN))
    one = Worker(meeting.one)
    two = Worker(meeting.two, uuid=one.uuid)
    claim = await one.claim_one()

    first, second = await meeting.hold(
        lambda: one.succeed(claim), lambda: two.succeed(claim), commits
    )

    assert (first.refusals, second.refusals) == ([], [])
    assert len(await list_attempts(conn, task)) == 1
    assert (await states(conn, task))["b"] is S.ENQUEUED


@pairs
async def test_cancel_meets_finish(conn, meeting, commits):
    """The result waits, and is refused if the task is cancelled."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.two)
    claim = await worker.claim_one()

    _, work = await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY),
        lambda: worker.succeed(claim, claim=5),
        commits,
    )

    assert meeting.waited
    assert len(work.refusals) == (1 if commits else 0)
    assert names(work.claims) == ([] if commits else ["b"])


@pairs
async def test_finish_meets_cancel(conn, meeting, commits):
    """The cancellation waits, keeps the result, and cancels the child that was released."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.one)
    claim = await worker.claim_one()

    await meeting.hold(
        lambda: worker.succeed(claim, claim=5),
        lambda: cancel_task(meeting.two, task, **BY),
        commits,
    )

    assert await states(conn, task) == {
        "a": S.COMPLETE if commits else S.CANCELLED,
        "b": S.CANCELLED,
        "c": S.CANCELLED,
    }
    assert await state(conn, task) is TaskState.CANCELLED


@pairs
async def test_the_last_finish_meets_cancel(conn, meeting, commits):
    """A task that has just completed is not cancelled; one whose end is undone is."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.one)
    claim = await worker.claim_one()

    _, refusal = await meeting.hold(
        lambda: worker.succeed(claim), lambda: cancel_task(meeting.two, task, **BY), commits
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert await state(conn, task) is (TaskState.COMPLETE if commits else TaskState.CANCELLED)


@pairs
async def test_claim_meets_cancel(conn, meeting, commits):
    """A step that is being claimed is cancelled with the rest; its result is refused."""
    task = await begin_one(conn, template({"a": [], "b": ["a"]}))
    worker = Worker(meeting.one)

    claims, _ = await meeting.hold(
        worker.claim, lambda: cancel_task(meeting.two, task, **BY), commits
    )

    assert meeting.waited
    assert await states(conn, task) == {"a": S.CANCELLED, "b": S.CANCELLED}
    assert await state(conn, task) is TaskState.CANCELLED
    assert len((await worker.succeed(*claims)).refusals) == 1


@pairs
async def test_cancel_meets_claim(conn, meeting, commits):
    """The claim does not wait; it passes over what is being cancelled."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.two)

    _, claims = await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY), worker.claim, commits
    )

    assert not meeting.waited
    assert claims == []
    assert names(await worker.claim()) == ([] if commits else ["a"])


@pairs
async def test_cancel_meets_cancel(conn, meeting, commits):
    """One of them cancels; the other hears that it is done."""
    task = await begin_one(conn, template())

    _, refusal = await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY),
        lambda: cancel_task(meeting.two, task, **BY),
        commits,
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert await state(conn, task) is TaskState.CANCELLED


@pairs
async def test_finish_meets_claim(conn, meeting, commits):
    """A child is not seen by others before its parent's result is committed."""
    await begin_one(conn, template(CHAIN))
    one, two = Worker(meeting.one), Worker(meeting.two)
    claim = await one.claim_one()

    _, claims = await meeting.hold(lambda: one.succeed(claim), two.claim, commits)

    assert not meeting.waited
    assert claims == []
    assert names(await two.claim()) == (["b"] if commits else [])


@pairs
async def test_claim_meets_failure_of_a_sibling(conn, meeting, commits):
    """The failure waits for the claim: a step is either running or parked, never both."""
    task = await begin_one(conn, template({"bad": [], "other": []}))
    one, two = Worker(meeting.one), Worker(meeting.two)
    bad = (await two.claim(1))[0]

    await meeting.hold(one.claim, lambda: two.fail(bad, retryable=False), commits)

    assert await states(conn, task) == {
        "bad": S.ERROR,
        "other": S.IN_PROGRESS if commits else S.PENDING,
    }
    assert await state(conn, task) is (
        TaskState.STEPS_IN_PROCESS if commits else TaskState.BLOCKED_BY_FAILURES
    )


@pairs
async def test_sweep_meets_finish(conn, clock, meeting, commits):
    """A result that comes while its lease is taken back waits, and is refused then."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.two)
    claim = await worker.claim_one()
    await clock.advance(31)

    taken_back, work = await meeting.hold(
        lambda: sweep(meeting.one), lambda: worker.succeed(claim), commits
    )

    assert (taken_back, len(work.refusals)) == (1, 1 if commits else 0)
    assert await state(conn, task) is (
        TaskState.WAITING_FOR_RETRY if commits else TaskState.COMPLETE
    )


@pairs
async def test_finish_meets_sweep(conn, clock, meeting, commits):
    """The sweep passes over a task that is being finished; the next one takes back the rest."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.one)
    claim = await worker.claim_one()
    await clock.advance(31)

    _, taken_back = await meeting.hold(
        lambda: worker.succeed(claim), lambda: sweep(meeting.two), commits
    )

    assert taken_back == 0
    assert await sweep(conn) == (0 if commits else 1)
    assert await state(conn, task) is (
        TaskState.COMPLETE if commits else TaskState.WAITING_FOR_RETRY
    )


# --- time runs out -------------------------------------------------------------------------

TEN_MINUTES = {"lifecycle": {"max_duration_minutes": 10}}


@pytest.fixture
async def late(conn, clock, meeting) -> tuple[UUID, Worker, Claim]:
    """A task that is over its duration while a step of it runs; its worker is the second."""
    task = await begin_one(conn, template(CHAIN, **TEN_MINUTES))
    worker = Worker(meeting.two, lease=timedelta(hours=1))
    claim = await worker.claim_one()
    await clock.advance(600)
    return task, worker, claim


@pairs
async def test_timeout_meets_finish(conn, late, meeting, commits):
    """The result waits, and is refused if the task is ended."""
    task, worker, claim = late
    _, work = await meeting.hold(
        lambda: sweep(meeting.one), lambda: worker.succeed(claim, claim=5), commits
    )

    assert meeting.waited
    assert [one.reason for one in work.refusals] == ["the task ran out of time"] * commits
    assert names(work.claims) == ([] if commits else ["b"])
    assert await state(conn, task) is (TaskState.ERROR if commits else TaskState.STEPS_IN_PROCESS)


@pairs
async def test_finish_meets_timeout(conn, late, meeting, commits):
    """The sweep passes over a task that is being finished, and ends it the next time."""
    task, worker, claim = late
    worker.conn = meeting.one
    await meeting.hold(lambda: worker.succeed(claim), lambda: sweep(meeting.two), commits)

    assert not meeting.waited
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    await sweep(conn)
    assert (await states(conn, task))["a"] is (S.COMPLETE if commits else S.ERROR)
    assert await state(conn, task) is TaskState.ERROR


@pairs
async def test_claim_meets_timeout(conn, clock, meeting, commits):
    """The sweep waits until it knows where the step is; nobody keeps it."""
    task = await begin_one(conn, template(CHAIN, **TEN_MINUTES))
    await clock.advance(600)
    one = Worker(meeting.one)
    claims, _ = await meeting.hold(one.claim, lambda: sweep(meeting.two), commits)

    assert names(claims) == ["a"]
    assert (await states(conn, task))["a"] is (S.ERROR if commits else S.PENDING)
    assert await state(conn, task) is TaskState.ERROR


@pairs
async def test_timeout_meets_cancel(conn, late, meeting, commits):
    """Whoever comes first ends the task; a cancel that comes second is refused."""
    task, _, _ = late
    _, refusal = await meeting.hold(
        lambda: sweep(meeting.one), lambda: cancel_task(meeting.two, task, **BY), commits
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert await state(conn, task) is (TaskState.ERROR if commits else TaskState.CANCELLED)


@pairs
async def test_cancel_meets_timeout(conn, late, meeting, commits):
    """The sweep passes over a task that is being cancelled; the next one sees what became of it."""
    task, _, _ = late
    await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY), lambda: sweep(meeting.two), commits
    )
    await sweep(conn)
    assert await state(conn, task) is (TaskState.CANCELLED if commits else TaskState.ERROR)
    assert await conn.fetchval("select count(*) from tasker.dlq_entries") == (not commits)


@pytest.fixture
async def blocked(conn, clock) -> tuple[UUID, UUID]:
    """A task that is to be given up by now, and its step in error."""
    task = await begin_one(conn, template(CHAIN, give_up_after=60))
    worker = Worker(conn)
    await worker.fail(await worker.claim_one(), retryable=False)
    await clock.advance(60)
    return task, await step_id(conn, task, "a")


@pairs
async def test_giving_up_meets_reset(conn, blocked, meeting, commits):
    """The reset waits, and lets the task go on either way."""
    task, step = blocked
    _, error = await meeting.hold(
        lambda: sweep(meeting.one), lambda: reset_step(meeting.two, task, step, **BY), commits
    )

    assert error is None
    await sweep(conn)  # the look that was due finds nothing to do
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    assert await conn.fetchval("select look_at > tasker.now() from tasker.watched")


@pairs
async def test_reset_meets_giving_up(conn, blocked, meeting, commits):
    """The sweep passes over the task; the next one gives it up unless it was reset."""
    task, step = blocked
    await meeting.hold(
        lambda: reset_step(meeting.one, task, step, **BY), lambda: sweep(meeting.two), commits
    )
    await sweep(conn)

    assert await state(conn, task) is (TaskState.STEPS_IN_PROCESS if commits else TaskState.ERROR)


@pairs
async def test_timeout_meets_timeout(conn, late, meeting, commits):
    """Two sweeps make one entry."""
    task, _, _ = late
    await meeting.hold(lambda: sweep(meeting.one), lambda: sweep(meeting.two), commits)
    await sweep(conn)

    assert await state(conn, task) is TaskState.ERROR
    assert await conn.fetchval("select count(*) from tasker.dlq_entries") == 1


@pairs
async def test_two_operators_put_one_task_aside(conn, meeting, commits):
    """The second waits, and is told of the first one's entry."""
    task = await begin_one(conn, template())
    _, second = await meeting.hold(
        lambda: add_entry(meeting.one, task, **BY),
        lambda: add_entry(meeting.two, task, **BY),
        commits,
    )

    assert meeting.waited
    assert isinstance(second, DlqEntryPending) == commits
    assert await conn.fetchval("select count(*) from tasker.dlq_entries") == 1


@pairs
async def test_two_operators_resolve_one_entry(conn, meeting, commits):
    """The second is refused, unless the first is undone."""
    entry = await add_entry(conn, await begin_one(conn, template()), **BY)
    _, second = await meeting.hold(
        lambda: update_entry(meeting.one, entry, status=DlqStatus.CANCELLED, actor="ann"),
        lambda: update_entry(meeting.two, entry, status=DlqStatus.MANUALLY_RESOLVED, actor="bob"),
        commits,
    )

    assert meeting.waited
    assert isinstance(second, TransitionRefused) == commits
    assert (await get_entry(conn, entry)).resolved_by == ("ann" if commits else "bob")


@pairs
async def test_renewal_meets_sweep(conn, clock, meeting, commits):
    """A lease that is being renewed is not taken back."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.one)
    claim = await worker.claim_one()
    await clock.advance(31)

    lost, taken_back = await meeting.hold(
        lambda: worker.renew(claim), lambda: sweep(meeting.two), commits
    )

    assert (lost, taken_back) == ([], 0 if commits else 1)
    assert (await states(conn, task))["a"] is (S.IN_PROGRESS if commits else S.WAITING_FOR_RETRY)


@pairs
async def test_sweep_meets_renewal(conn, clock, meeting, commits):
    """The renewal does not wait; what is being taken back is told lost the next time."""
    await begin_one(conn, template())
    worker = Worker(meeting.two)
    claim = await worker.claim_one()
    await clock.advance(31)

    _, lost = await meeting.hold(lambda: sweep(meeting.one), lambda: worker.renew(claim), commits)

    assert not meeting.waited
    assert lost == []
    assert len(await worker.renew(claim)) == (1 if commits else 0)


@pairs
async def test_sweep_does_not_wait_in_a_ring_with_finish(conn, clock, meeting):
    """It waits for nobody, and takes back what nobody holds."""
    dropped, delayed = sorted(await begin(conn, template({"a": [], "b": []}), 2))
    worker = Worker(conn)
    claims = [claim for claim in await worker.claim() if claim.task_uuid == delayed]
    await worker.finish(failed(claims[0], rest=timedelta(seconds=20)), done(claims[1]))
    await clock.advance(31)

    # as a call that carries results of both: it has the first lock, the sweep comes,
    # and then it wants the second
    lock = "select * from tasker.lock_tasks($1)"
    async with meeting.one.transaction():
        await meeting.one.fetch(lock, [dropped])
        assert await sweep(meeting.two) == 0
        await meeting.one.fetch(lock, [delayed])

    assert await sweep(meeting.two) == 2


@pairs
async def test_give_back_meets_cancel(conn, meeting, commits):
    """The cancellation waits; whether given back or not, the step is cancelled."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.one)
    claim = await worker.claim_one()

    await meeting.hold(
        lambda: worker.give_back(claim), lambda: cancel_task(meeting.two, task, **BY), commits
    )

    assert await states(conn, task) == {"a": S.CANCELLED}
    assert await conn.fetchval("select count(*) from tasker.attempts") == (0 if commits else 1)


@pairs
async def test_cancel_meets_give_back(conn, meeting, commits):
    """What is cancelled does not come back."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.two)
    claim = await worker.claim_one()

    await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY), lambda: worker.give_back(claim), commits
    )

    assert await states(conn, task) == {"a": S.CANCELLED if commits else S.ENQUEUED}


@pairs
async def test_give_back_meets_claim(conn, meeting, commits):
    """The step can be claimed again from the commit on."""
    await begin_one(conn, template())
    one, two = Worker(meeting.one), Worker(meeting.two)
    claim = await one.claim_one()

    _, claims = await meeting.hold(lambda: one.give_back(claim), two.claim, commits)

    assert claims == []
    assert names(await two.claim()) == (["a"] if commits else [])


@pairs
async def test_sweep_meets_give_back(conn, clock, meeting, commits):
    """A step that is taken back is not given back a second time."""
    task = await begin_one(conn, template(retry=NO_REST))
    worker = Worker(meeting.two)
    claim = await worker.claim_one()
    await clock.advance(31)

    await meeting.hold(lambda: sweep(meeting.one), lambda: worker.give_back(claim), commits)

    attempts = await conn.fetchval("select count(*) from tasker.attempts")
    assert attempts == (1 if commits else 0)
    assert names(await Worker(conn).claim()) == ["a"]
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


@pairs
async def test_sweep_meets_sweep(conn, clock, meeting, commits):
    """The second leaves it to the first, and finds what that one did not do later."""
    await begin_one(conn, template())
    await Worker(conn).claim_one()
    await clock.advance(31)

    first, second = await meeting.hold(
        lambda: sweep(meeting.one), lambda: sweep(meeting.two), commits
    )

    assert (first, second, meeting.waited) == (1, 0, False)
    assert await sweep(conn) == (0 if commits else 1)


@pairs
@pytest.mark.parametrize("act", ["resolve", "complete"])
async def test_settling_by_force_meets_finish(conn, meeting, commits, act):
    """The operator's word counts once it is committed; the worker is told."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.two)
    claim = await worker.claim_one()
    step = await step_id(conn, task, "a")

    _, work = await meeting.hold(
        lambda: settle(meeting.one, act, task, step),
        lambda: worker.succeed(claim, claim=5),
        commits,
    )

    assert [one.reason for one in work.refusals] == (["an operator settled it"] * commits)
    assert names(work.claims) == ["b"]


async def settle(conn: asyncpg.Connection, act: str, task: UUID, step: UUID) -> None:
    if act == "resolve":
        await resolve_step(conn, task, step, force=True, **BY)
    else:
        await complete_step(
            conn, TemplateShelf(), task, step, result={"by": "hand"}, force=True, **BY
        )


@pairs
@pytest.mark.parametrize("act", ["resolve", "complete"])
async def test_finish_meets_settling_by_force(conn, meeting, commits, act):
    """A step that has just ended is not settled any more."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.one)
    claim = await worker.claim_one()
    step = await step_id(conn, task, "a")

    _, refusal = await meeting.hold(
        lambda: worker.succeed(claim),
        lambda: settle(meeting.two, act, task, step),
        commits,
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert (await states(conn, task))["b"] is S.ENQUEUED


@pairs
@pytest.mark.parametrize("force", [True, False])
async def test_claim_meets_settling(conn, meeting, commits, force):
    """A step that is being claimed runs, and then force is needed."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.one)
    step = await step_id(conn, task, "a")

    claims, refusal = await meeting.hold(
        worker.claim,
        lambda: resolve_step(meeting.two, task, step, force=force, **BY),
        commits,
    )

    is_refused = commits and not force
    assert isinstance(refusal, TransitionRefused) == is_refused
    assert (await states(conn, task))["a"] is (S.IN_PROGRESS if is_refused else S.RESOLVED_MANUALLY)
    assert len((await worker.succeed(*claims)).refusals) == (0 if is_refused else 1)


@pairs
async def test_settling_meets_claim(conn, meeting, commits):
    """The claim passes over a step that is being settled."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.two)
    step = await step_id(conn, task, "a")

    _, claims = await meeting.hold(
        lambda: resolve_step(meeting.one, task, step, **BY), worker.claim, commits
    )

    assert (claims, meeting.waited) == ([], False)
    assert names(await worker.claim()) == (["b"] if commits else ["a"])


@pairs
async def test_reset_meets_finish_of_a_sibling(conn, meeting, commits):
    """The child of the sibling is released by whichever comes last."""
    task = await begin_one(conn, template({"bad": [], "good": [], "child": ["good"]}))
    worker = Worker(meeting.two)
    claims = by_name(await worker.claim())
    await worker.fail(claims["bad"], retryable=False)
    step = await step_id(conn, task, "bad")

    _, work = await meeting.hold(
        lambda: reset_step(meeting.one, task, step, **BY),
        lambda: worker.succeed(claims["good"], claim=5),
        commits,
    )

    assert names(work.claims) == (["bad", "child"] if commits else [])


@pairs
async def test_finish_of_a_sibling_meets_reset(conn, meeting, commits):
    """The same the other way round: nothing that may run is left parked."""
    task = await begin_one(conn, template({"bad": [], "good": [], "child": ["good"]}))
    worker = Worker(meeting.one)
    claims = by_name(await worker.claim())
    await worker.fail(claims["bad"], retryable=False)
    step = await step_id(conn, task, "bad")

    await meeting.hold(
        lambda: worker.succeed(claims["good"]),
        lambda: reset_step(meeting.two, task, step, **BY),
        commits,
    )

    assert names(await worker.claim()) == (["bad", "child"] if commits else ["bad"])


@pairs
async def test_failure_of_a_sibling_meets_reset(conn, meeting, commits):
    """Two failed steps: the reset of one does not resume the task."""
    task = await begin_one(conn, template({"one": [], "two": []}))
    worker = Worker(meeting.one)
    claims = by_name(await worker.claim())
    await worker.fail(claims["one"], retryable=False)
    step = await step_id(conn, task, "one")

    await meeting.hold(
        lambda: worker.fail(claims["two"], retryable=False),
        lambda: reset_step(meeting.two, task, step, **BY),
        commits,
    )

    assert names(await worker.claim()) == ([] if commits else ["one"])


@pairs
async def test_reset_meets_reset(conn, meeting, commits):
    """It is reset once."""
    task = await begin_one(conn, template())
    worker = Worker(conn)
    await worker.fail(await worker.claim_one(), retryable=False)
    step = await step_id(conn, task, "a")

    _, refusal = await meeting.hold(
        lambda: reset_step(meeting.one, task, step, **BY),
        lambda: reset_step(meeting.two, task, step, **BY),
        commits,
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert names(await worker.claim()) == ["a"]


@pairs
async def test_reset_of_a_task_meets_reset(conn, meeting, commits):
    """Its steps are reset once; the other hears that none is in error."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    worker = Worker(conn)
    await worker.fail(*await worker.claim(), retryable=False)

    _, refusal = await meeting.hold(
        lambda: reset_task(meeting.one, task, **BY),
        lambda: reset_task(meeting.two, task, **BY),
        commits,
    )

    assert meeting.waited
    assert isinstance(refusal, TransitionRefused) == commits
    assert [(claim.name, claim.attempt) for claim in await worker.claim()] == [("a", 2), ("b", 2)]


@pairs
async def test_reset_of_a_task_meets_cancel(conn, meeting, commits):
    """Whatever the reset enqueued is cancelled with the rest."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    worker = Worker(conn)
    await worker.fail(*await worker.claim(), retryable=False)

    await meeting.hold(
        lambda: reset_task(meeting.one, task, **BY),
        lambda: cancel_task(meeting.two, task, **BY),
        commits,
    )

    assert await states(conn, task) == {"a": S.CANCELLED, "b": S.CANCELLED}
    assert await worker.claim() == []


@pairs
async def test_cancel_meets_reset_of_a_task(conn, meeting, commits):
    """A cancelled task is not reset; one whose cancellation is undone is."""
    task = await begin_one(conn, template())
    worker = Worker(conn)
    await worker.fail(await worker.claim_one(), retryable=False)

    _, refusal = await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY),
        lambda: reset_task(meeting.two, task, **BY),
        commits,
    )

    assert isinstance(refusal, TransitionRefused) == commits
    assert names(await worker.claim()) == ([] if commits else ["a"])


@pairs
async def test_failure_of_a_sibling_meets_reset_of_a_task(conn, meeting, commits):
    """The reset waits, and takes the step along that has just failed."""
    task = await begin_one(conn, template({"a": [], "b": []}))
    worker = Worker(meeting.one)
    claims = by_name(await worker.claim())
    await worker.fail(claims["a"], retryable=False)

    await meeting.hold(
        lambda: worker.fail(claims["b"], retryable=False),
        lambda: reset_task(meeting.two, task, **BY),
        commits,
    )

    assert meeting.waited
    assert await states(conn, task) == {
        "a": S.ENQUEUED,
        "b": S.ENQUEUED if commits else S.IN_PROGRESS,
    }


@pairs
async def test_resolving_a_task_meets_finish(conn, meeting, commits):
    """The result waits, and is refused if the task is resolved."""
    task = await begin_one(conn, template(CHAIN))
    worker = Worker(meeting.two)
    claim = await worker.claim_one()

    _, work = await meeting.hold(
        lambda: resolve_task(meeting.one, task, **BY),
        lambda: worker.succeed(claim, claim=5),
        commits,
    )

    assert meeting.waited
    assert len(work.refusals) == (1 if commits else 0)
    assert names(work.claims) == ([] if commits else ["b"])


@pairs
async def test_claim_meets_resolving_a_task(conn, meeting, commits):
    """A step that is being claimed does not run on: its result is refused."""
    task = await begin_one(conn, template({"a": [], "b": ["a"]}))
    worker = Worker(meeting.one)

    claims, _ = await meeting.hold(
        worker.claim, lambda: resolve_task(meeting.two, task, **BY), commits
    )

    assert meeting.waited
    assert await state(conn, task) is TaskState.RESOLVED_MANUALLY
    assert await states(conn, task) == {"a": S.CANCELLED if commits else S.PENDING, "b": S.PENDING}
    assert len((await worker.succeed(*claims)).refusals) == 1


@pairs
async def test_enqueueing_meets_cancel(conn, clock, meeting, commits):
    """A retry that comes due while its task is cancelled does not run."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.one)
    await worker.fail(await worker.claim_one())
    await clock.advance(60)

    await meeting.hold(
        lambda: worker.claim(0), lambda: cancel_task(meeting.two, task, **BY), commits
    )

    assert meeting.waited
    assert await states(conn, task) == {"a": S.CANCELLED}
    assert await worker.claim() == []


@pairs
async def test_cancel_meets_enqueueing(conn, clock, meeting, commits):
    """The claim does not wait for the task; should the cancellation be undone, it is due."""
    task = await begin_one(conn, template())
    worker = Worker(meeting.two)
    await worker.fail(await worker.claim_one())
    await clock.advance(60)

    _, claims = await meeting.hold(
        lambda: cancel_task(meeting.one, task, **BY), worker.claim, commits
    )

    assert (claims, meeting.waited) == ([], False)
    assert names(await worker.claim()) == ([] if commits else ["a"])


@pairs
async def test_enqueueing_meets_claim(conn, clock, meeting, commits):
    """What one enqueues and claims, another does not see, nor wait for."""
    await begin_one(conn, template())
    one, two = Worker(meeting.one), Worker(meeting.two)
    await one.fail(await one.claim_one())
    await clock.advance(60)

    first, second = await meeting.hold(one.claim, two.claim, commits)

    assert (names(first), second, meeting.waited) == (["a"], [], False)
    assert names(await two.claim()) == ([] if commits else ["a"])


@pairs
async def test_enqueueing_meets_failure_of_a_sibling(conn, clock, meeting, commits):
    """A due retry and a permanent failure of one task: the retry is parked or not, once."""
    task = await begin_one(conn, template({"late": [], "bad": []}))
    one, two = Worker(meeting.one), Worker(meeting.two)
    claims = by_name(await two.claim())
    await two.fail(claims["late"])
    await clock.advance(60)

    await meeting.hold(
        lambda: one.claim(0), lambda: two.fail(claims["bad"], retryable=False), commits
    )

    assert await states(conn, task) == {"late": S.PENDING, "bad": S.ERROR}


@pairs
async def test_creations_with_crossing_identities_do_not_wait_in_a_ring(conn, meeting, commits):
    """Two calls that create the same tasks in opposite orders: one does, the other hears it."""
    await register_template(conn, template(identity_strategy="strict"))
    new = [NewTask(name="flow", namespace="shop", context={"n": n}) for n in range(20)]
    shelf = TemplateShelf()

    _, second = await meeting.hold(
        lambda: create_tasks(meeting.one, shelf, new),
        lambda: create_tasks(meeting.two, shelf, new[::-1]),
        commits,
    )

    assert meeting.waited
    assert isinstance(second, DuplicateTask) == commits
    assert await conn.fetchval("select count(*) from tasker.tasks") == 20


async def test_creations_that_both_wait_for_a_third_do_not_wait_in_a_ring(conn, connect):
    """Everybody takes identities in one order, whatever the order of the requests (I2)."""
    flow = template(identity_strategy="strict")
    await register_template(conn, flow)
    new = [NewTask(name="flow", namespace="shop", context={"n": n}) for n in range(3)]
    low, middle, high = sorted(new, key=lambda one: identity_hash(flow, one))
    shelf = TemplateShelf()
    one, two, three = await connect(), await connect(), await connect()

    third = three.transaction()
    await third.start()
    await create_tasks(three, shelf, [middle])
    first = asyncio.ensure_future(create_tasks(one, shelf, [low, middle, high]))
    assert await Meeting(three, one).waits(first)
    second = asyncio.ensure_future(create_tasks(two, shelf, [high, middle, low]))
    assert await Meeting(three, two).waits(second)
    await third.rollback()

    assert len(await first) == 3
    with pytest.raises(DuplicateTask):
        await second


@pairs
async def test_two_register_one_definition(conn, meeting, commits):
    """One row, one id, whoever comes first."""
    first, second = await meeting.hold(
        lambda: register_template(meeting.one, template()),
        lambda: register_template(meeting.two, template()),
        commits,
    )

    assert meeting.waited
    assert second.outcome == ("unchanged" if commits else "registered")
    assert (first.template_uuid == second.template_uuid) == commits
    assert await conn.fetchval("select count(*) from tasker.templates") == 1


@pairs
async def test_two_register_two_definitions(conn, meeting, commits):
    """The later one is in force, as nobody has used the earlier one."""
    await meeting.hold(
        lambda: register_template(meeting.one, template()),
        lambda: register_template(meeting.two, template(CHAIN)),
        commits,
    )

    found = await TemplateShelf().find(conn, "shop", "flow")
    assert len(found.template.steps) == 3


@pairs
async def test_creation_meets_registration(conn, meeting, commits):
    """A task that begins while its version is changed keeps what it began with."""
    await register_template(conn, template(CHAIN))
    shelf = TemplateShelf()
    new = NewTask(name="flow", namespace="shop")

    (created,), outcome = await meeting.hold(
        lambda: create_tasks(meeting.one, shelf, [new]),
        lambda: register_template(meeting.two, template({"x": []})),
        commits,
    )

    assert not isinstance(outcome, TemplateChanged)
    if commits:
        assert list(await states(conn, created.task_uuid)) == ["a", "b", "c"]


@pairs
async def test_workers_that_cannot_run_the_child_leave_it_to_those_that_can(conn, meeting, heard):
    """No child is released to nobody: the others are told when the parent is committed."""
    await begin_one(conn, template(CHAIN))
    lanes = {lane.callable: lane.lane for lane in await list_lanes(conn)}
    one = Worker(meeting.one, lanes=[lanes["a"]])
    two = Worker(meeting.two, lanes=[lanes["b"]])
    claim = await one.claim_one()
    await heard()

    _, claims = await meeting.hold(lambda: one.succeed(claim, claim=5), two.claim, True)

    assert claims == []
    assert await heard() == ["shop"]
    assert names(await two.claim()) == ["b"]
