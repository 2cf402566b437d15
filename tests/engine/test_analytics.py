"""What is measured is what happened: known tasks give known figures."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from support.clock import Clock
from support.flows import CHAIN, ONE, Worker, begin_one, done, template
from tasker_core.engine.analytics import (
    Timing,
    count_by_namespace,
    find_bottlenecks,
    measure_performance,
)
from tasker_core.engine.finish import Finished
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.operate import cancel_task, complete_step, reset_step, resolve_step
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.payload import encode
from tasker_core.states import StepState, TaskState

BY = {"actor": "ann", "reason": "-"}
NOTHING = Timing(None, None, None, None, None)

T, S = TaskState, StepState


@pytest.fixture
async def clock(clock: Clock) -> Clock:
    """Frozen at the real moment, in whole seconds: ids are made by the real clock."""
    await clock.freeze(datetime.now(UTC).replace(microsecond=0))
    return clock


class Shop:
    """Does what a test says, each thing in so many seconds."""

    def __init__(self, conn: asyncpg.Connection, clock: Clock) -> None:
        self.conn, self.clock, self.worker = conn, clock, Worker(conn)

    async def begin(self, graph: dict = ONE, attempts: int = 3, **more: object):
        """Create a task whose retries wait for nothing."""
        retry = {"max_attempts": attempts, "backoff": "none"}
        return await begin_one(self.conn, template(graph, retry=retry, **more))

    async def run(self, waits: float, runs: float, *, fails: bool = False, final: bool = False):
        """Let the one ready step wait and run so many seconds, well or badly."""
        await self.clock.advance(waits)
        claim = await self.worker.claim_one()
        await self.clock.advance(runs)
        if fails:
            await self.worker.fail(claim, retryable=not final)
        else:
            await self.worker.succeed(claim)


@pytest.fixture
def shop(conn: asyncpg.Connection, clock: Clock) -> Shop:
    return Shop(conn, clock)


async def history(shop: Shop) -> None:
    """Tasks with every kind of end.

    ======= ================== ==================================== ========================
    flow    state              executions (seconds waiting+running) what else
    ======= ================== ==================================== ========================
    flow    complete, 12 s     a 1+2 failed, a 0+3, b 0+4, c 1+1
    helped  complete, 45 s     a 0+8 failed, a lost (31 s), c 0+6   a, b by an operator
    flow    blocked            a 2+5 failed for good
    flow    cancelled                                               while a ran for 100 s
    other   complete, 10 s     a 0+10
    other   steps_in_process                                        a is running
    ======= ================== ==================================== ========================
    """
    conn, clock, worker = shop.conn, shop.clock, shop.worker

    await shop.begin(CHAIN)
    await shop.run(1, 2, fails=True)
    await shop.run(0, 3)
    await shop.run(0, 4)
    await shop.run(1, 1)

    helped = await shop.begin(CHAIN, attempts=2, name="helped")
    await shop.run(0, 8, fails=True)
    await worker.claim_one()
    await clock.advance(31)
    assert await sweep(conn) == 1
    await reset_step(conn, helped, step_uuid(helped, 1), **BY)
    await worker.claim_one()
    await complete_step(
        conn, TemplateShelf(), helped, step_uuid(helped, 1), result={}, force=True, **BY
    )
    await resolve_step(conn, helped, step_uuid(helped, 2), **BY)
    await shop.run(0, 6)

    await shop.begin(CHAIN)
    await shop.run(2, 5, fails=True, final=True)

    cancelled = await shop.begin(CHAIN)
    await worker.claim_one()
    await clock.advance(100)
    await cancel_task(conn, cancelled, **BY)

    await shop.begin(name="other", namespace="back")
    await shop.run(0, 10)
    await shop.begin(name="other", namespace="back")
    await worker.claim_one()


async def test_a_known_history_gives_known_figures(conn, shop):
    """Executions are counted, not steps; what others ended is none; all ratios are 0 to 1."""
    await history(shop)

    found = await measure_performance(conn, hours=10)

    assert found.tasks == {T.COMPLETE: 3, T.BLOCKED_BY_FAILURES: 1, T.CANCELLED: 1} | {
        T.STEPS_IN_PROCESS: 1
    }
    counted = (found.total_tasks, found.active_tasks, found.completed_tasks, found.failed_tasks)
    assert counted == (6, 2, 3, 1)
    assert (found.completion_ratio, found.error_ratio, found.health_score) == (3 / 6, 1 / 6, 3 / 4)
    # a a b c, a (lost) a c, a, a
    assert (found.executions, found.failed_executions, found.retries) == (9, 4, 2)
    assert (found.tasks_per_hour, found.steps_per_hour) == (0.3, 0.5)
    runs, waits = [2, 3, 4, 1, 8, 6, 5, 10], [1, 0, 0, 1, 0, 0, 0, 2, 0]
    assert found.step_duration.average == sum(runs) / len(runs)
    assert (found.step_duration.longest, found.step_duration.p50) == (10, 4.5)
    assert found.queue_wait.average == pytest.approx(sum(waits) / len(waits))
    assert found.queue_wait.longest == 2
    assert found.task_duration.average == pytest.approx((12 + 45 + 10) / 3)
    assert (found.task_duration.longest, found.task_duration.p50) == (45, 12)


async def test_the_slowest_come_first_by_template_and_step(conn, shop):
    """Each with its own executions, failures and times."""
    await history(shop)

    found = await find_bottlenecks(conn, hours=10, min_executions=1)

    steps = [
        (one.task_name, one.step_name, one.executions, one.failures, one.duration.average)
        for one in found.slow_steps
    ]
    assert steps == [
        ("other", "a", 1, 0, 10.0),
        ("helped", "a", 2, 2, 8.0),
        ("helped", "c", 1, 0, 6.0),
        ("flow", "b", 1, 0, 4.0),
        ("flow", "a", 3, 2, 10 / 3),
        ("flow", "c", 1, 0, 1.0),
    ]
    a = found.slow_steps[4]
    assert (a.error_ratio, a.duration.longest, a.queue_wait.average) == (2 / 3, 5.0, 1.0)
    tasks = [
        (one.task_name, one.executions, one.failures, one.duration.average, one.error_ratio)
        for one in found.slow_tasks
    ]
    assert tasks == [
        ("helped", 1, 0, 45.0, 0.0),
        ("flow", 2, 1, 12.0, 0.5),
        ("other", 1, 0, 10.0, 0.0),
    ]
    assert [one.average_step_count for one in found.slow_tasks] == [3, 3, 1]
    assert found.tasks == (await measure_performance(conn, hours=10)).tasks
    assert found.steps == {
        S.COMPLETE: 6,
        S.RESOLVED_MANUALLY: 1,
        S.ERROR: 1,
        S.PENDING: 2,
        S.CANCELLED: 3,
        S.IN_PROGRESS: 1,
    }


async def test_few_executions_and_other_namespaces_are_left_out(conn, shop):
    """By `min_executions`, for steps and tasks each; by `namespace`, everywhere."""
    await history(shop)

    often = await find_bottlenecks(conn, hours=10, min_executions=2)
    back = await find_bottlenecks(conn, hours=10, min_executions=1, namespace="back")
    measured = await measure_performance(conn, hours=10, namespace="back")

    assert [(one.task_name, one.step_name) for one in often.slow_steps] == [
        ("helped", "a"),
        ("flow", "a"),
    ]
    assert [one.task_name for one in often.slow_tasks] == ["flow"]
    assert [one.namespace for one in back.slow_steps + back.slow_tasks] == ["back", "back"]
    assert (back.tasks, back.steps) == (measured.tasks, {S.COMPLETE: 1, S.IN_PROGRESS: 1})
    assert (measured.total_tasks, measured.executions) == (2, 1)


async def test_a_template_whose_tasks_all_failed_has_no_duration(conn, shop):
    """It comes last; no figure is made up."""
    await shop.begin()
    await shop.run(0, 5, fails=True, final=True)
    await shop.begin(name="good")
    await shop.run(0, 1)

    found = await find_bottlenecks(conn, hours=1, min_executions=1)

    assert [one.task_name for one in found.slow_tasks] == ["good", "flow"]
    assert found.slow_tasks[1].duration == NOTHING
    assert found.slow_tasks[1].last_executed_at is None
    assert found.slow_tasks[1].error_ratio == 1.0


async def test_a_yield_is_no_retry(conn, shop, clock):
    """An attempt that goes on from a checkpoint leaves no execution of its own."""
    await shop.begin()
    claim = await shop.worker.claim_one()
    await shop.worker.finish(
        Finished(claim.task_uuid, claim.step_no, claim.attempt, None, None, checkpoint=encode({}))
    )
    await shop.worker.finish(done(await shop.worker.claim_one()))

    found = await measure_performance(conn, hours=1)

    assert (found.executions, found.retries, found.failed_executions) == (1, 0, 0)


async def test_steps_of_a_batch_are_one_step(conn, shop):
    """Under the template's name, however many there were."""
    await shop.begin()
    await shop.run(0, 2)
    await conn.execute("update tasker.steps set name = 'a_001', template_step = 'a'")
    await shop.begin()
    await shop.run(0, 4)

    (step,) = (await find_bottlenecks(conn, hours=1, min_executions=2)).slow_steps

    assert (step.step_name, step.executions, step.duration.average) == ("a", 2, 3.0)


async def test_tasks_are_counted_by_namespace_and_state(conn, shop, clock):
    """Those of the window, in the namespaces that are asked for."""
    assert await count_by_namespace(conn, hours=1) == {}
    await shop.begin(namespace="bank")
    await shop.run(0, 1)
    await shop.begin(namespace="bank")
    await shop.begin()
    counts = {"bank": {T.COMPLETE: 1, T.STEPS_IN_PROCESS: 1}, "shop": {T.STEPS_IN_PROCESS: 1}}

    assert await count_by_namespace(conn, hours=1) == counts
    assert await count_by_namespace(conn, hours=1, namespaces=["shop"]) == {"shop": counts["shop"]}
    assert await count_by_namespace(conn, hours=1, namespaces=[]) == {}
    await clock.advance(3601)
    assert await count_by_namespace(conn, hours=1) == {}


async def test_an_empty_database_has_nothing_to_measure(conn, clock):
    """Counts are nought, durations are not known, and nothing is ill."""
    found = await measure_performance(conn, hours=24)
    slow = await find_bottlenecks(conn, hours=24, min_executions=1)

    assert (found.tasks, found.executions, found.retries) == ({}, 0, 0)
    assert (found.completion_ratio, found.error_ratio, found.health_score) == (0.0, 0.0, 1.0)
    assert found.task_duration == found.step_duration == found.queue_wait == NOTHING
    assert (slow.slow_steps, slow.slow_tasks, slow.tasks, slow.steps) == ([], [], {}, {})


async def test_the_window_begins_so_many_hours_ago_and_no_later(conn, shop, clock):
    """A task that was created at its very beginning counts, one before it does not."""
    await shop.begin()
    await shop.run(0, 0)

    await clock.advance(3600)
    assert (await measure_performance(conn, hours=1)).executions == 1
    assert len((await find_bottlenecks(conn, hours=1, min_executions=1)).slow_steps) == 1
    await clock.advance(0.000_001)
    assert (await measure_performance(conn, hours=1)).total_tasks == 0
    assert (await find_bottlenecks(conn, hours=1, min_executions=1)).slow_steps == []
    found = await measure_performance(conn, hours=2)
    assert (found.total_tasks, found.hours) == (1, 2)
    assert (found.calculated_at - found.began_at).total_seconds() == 7200
