"""A result is recorded in the caller's transaction: with it, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from support.flows import CHAIN, NO_REST, Worker, begin_one, done, failed, state, states, template
from tasker_core.db.asking import ask
from tasker_core.engine.operate import cancel_task
from tasker_core.engine.sweep import sweep
from tasker_core.engine.transaction import (
    begin_transaction,
    finish_in_transaction,
    transaction_outcome,
)
from tasker_core.states import StepState, TaskState
from tasker_core.worker.broken import BROKEN

pytestmark = pytest.mark.usefixtures("consistent")


class Inside:
    """A transaction of an attempt, on a connection of its own."""

    def __init__(self, conn, worker, claim):
        self.conn, self.worker, self.claim = conn, worker, claim
        self.id = ""

    async def begin(self):
        await self.conn.execute("begin")
        self.id = await ask(self.conn, begin_transaction(self.worker.uuid, self.claim))
        return self.id

    async def finish(self, end=None):
        end = end or done(self.claim, {"n": 1})
        return await ask(self.conn, finish_in_transaction(self.worker.uuid, self.id, end))


@pytest.fixture
async def inside(conn, worker, connect):
    """The first step of a chain on loan, and its transaction begun."""
    await begin_one(conn, template(CHAIN, retry=NO_REST))
    made = Inside(await connect(), worker, await worker.claim_one())
    assert await made.begin() is not None
    return made


async def test_nothing_is_seen_before_the_commit(conn, inside, heard):
    """Then the step is complete, its child ready, and whoever listens is told."""
    task = inside.claim.task_uuid
    assert await inside.finish() == ("recorded", None)
    assert (await states(conn, task))["a"] == StepState.IN_PROGRESS
    await inside.conn.execute("commit")

    assert (await states(conn, task))["a"] == StepState.COMPLETE
    assert (await states(conn, task))["b"] == StepState.ENQUEUED
    assert await transaction_outcome(conn, inside.id) == "committed"
    assert "shop" in await heard()


async def test_a_rollback_leaves_the_step_on_loan(conn, inside):
    """As if nothing had been said: the attempt may still end in another way."""
    assert await inside.finish() == ("recorded", None)
    assert await transaction_outcome(conn, inside.id) == "in progress"
    await inside.conn.execute("rollback")

    assert await transaction_outcome(conn, inside.id) == "aborted"
    await inside.worker.fail(inside.claim, retryable=False)
    assert await state(conn, inside.claim.task_uuid) == TaskState.BLOCKED_BY_FAILURES


async def test_a_result_that_comes_too_late_is_refused(conn, inside):
    """Cancelled, taken back, or ended by another result of the same attempt: nothing is changed."""
    await cancel_task(conn, inside.claim.task_uuid, actor="ann", reason="-")
    assert await inside.finish() == ("refused", "the task was cancelled")


async def test_a_recorded_failure_of_the_same_attempt_refuses_too(conn, inside):
    """To finish_steps a repeated result counts as done; here its writes would be new."""
    await inside.worker.finish(failed(inside.claim))
    assert await inside.finish() == ("refused", "another result of this attempt is recorded")


async def test_a_lease_that_ended_refuses(conn, inside):
    """Before the transaction begins there is no id, later no result."""
    await conn.execute("update tasker.leases set ends_at = tasker.now() - interval '1 s'")
    assert await sweep(conn) == 1
    assert await inside.finish() == ("refused", "its lease had ended")
    await inside.conn.execute("rollback")
    assert await inside.begin() is None


async def test_another_transaction_than_the_first_records_nothing(conn, inside):
    """The caller has committed or rolled back in between, and may not know it."""
    await inside.conn.execute("commit; begin")
    assert await inside.finish() == ("ended", None)
    await inside.conn.execute("commit")
    assert (await states(conn, inside.claim.task_uuid))["a"] == StepState.IN_PROGRESS


async def test_whichever_end_takes_the_lock_first_counts(conn, inside, connect):
    """A failure that waits for the transaction is refused by its commit, not by its rollback."""
    other = Worker(await connect(), uuid=inside.worker.uuid)
    assert await inside.finish() == ("recorded", None)
    waiting = asyncio.ensure_future(other.finish(failed(inside.claim)))
    pid = other.conn.get_server_pid()
    while not await conn.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        assert not waiting.done()
    await inside.conn.execute("commit")
    await waiting

    assert (await states(conn, inside.claim.task_uuid))["a"] == StepState.COMPLETE


async def test_other_tasks_do_not_wait_for_the_commit(conn, worker, inside, clock):
    """A retry that has become due is nothing that a handler's transaction looks after."""
    rest = {"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 100}
    await begin_one(conn, template(name="other", retry=rest))
    (other,) = [one for one in await worker.claim() if one.task_uuid != inside.claim.task_uuid]
    await worker.fail(other)
    await clock.advance(1)

    assert await inside.finish() == ("recorded", None)

    (again,) = await worker.claim()
    assert (again.task_uuid, again.attempt) == (other.task_uuid, 2)


async def test_the_next_attempt_ends_the_session_of_the_one_before(conn, inside, connect):
    """Else it would wait for rows that a worker which hangs has locked."""
    await conn.execute("update tasker.leases set ends_at = tasker.now() - interval '1 s'")
    await sweep(conn)
    again = Inside(await connect(), inside.worker, await inside.worker.claim_one())

    assert await again.begin() is not None
    with pytest.raises(BROKEN):
        await inside.conn.fetch("select 1")
    assert await again.finish() == ("recorded", None)
    await again.conn.execute("commit")


async def test_whoever_falls_silent_with_the_lock_is_ended(inside):
    """Only from the result to the commit; while the handler works there is no limit."""
    ask = "select current_setting('idle_in_transaction_session_timeout')"
    assert await inside.conn.fetchval(ask) == "0"
    await inside.finish()
    assert await inside.conn.fetchval(ask) == "10s"
    await inside.conn.execute("commit")
    assert await inside.conn.fetchval(ask) == "0"


async def test_a_transaction_of_another_server_is_not_known(conn):
    """A replica that took over may have lost the last commits: it says so, and does not fail."""
    assert await transaction_outcome(conn, str(2**40)) is None
