"""Who follows what happens misses nothing and hears nothing twice."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.flows import CHAIN, DIAMOND, NO_REST, begin, begin_one, by_name, template
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.history import (
    Snapshot,
    TaskChange,
    TaskEvent,
    current_snapshot,
    follow_tasks,
    task_changes,
)
from tasker_core.engine.operate import cancel_task, reset_step, resolve_step
from tasker_core.engine.register import TemplateShelf, register_template

pytestmark = pytest.mark.usefixtures("consistent")


def told(events: list[TaskEvent]) -> list[tuple[str | None, str]]:
    return [(event.step, event.to_state) for event in events]


async def history(conn, task: UUID, seen: int = 0) -> list[TaskEvent]:
    news = await follow_tasks(conn, {task: seen})
    return [event for one in news for event in one.events if event.position > seen]


def changed(changes: list[TaskChange]) -> list[tuple[UUID, str]]:
    return [(change.task_uuid, change.to_state) for change in changes]


# --- one task ---------------------------------------------------------------------------


async def test_a_history_has_attempts_changes_and_actions_in_order(conn, worker):
    """A retry, a failure for good, an operator's words and the end, each once."""
    flow = template(CHAIN, retry=NO_REST | {"max_attempts": 2})
    task = await begin_one(conn, flow)
    await worker.succeed(await worker.claim_one())
    await worker.fail(await worker.claim_one())
    await worker.fail(await worker.claim_one())
    step_b = UUID(int=task.int | 2)
    await reset_step(conn, task, step_b, actor="ann", reason="again")
    await worker.fail(await worker.claim_one(), retryable=False)
    await resolve_step(conn, task, step_b, actor="ann", reason="by hand")
    await worker.succeed(await worker.claim_one())

    events = await history(conn, task)

    assert told(events) == [
        ("a", "complete"),
        ("b", "waiting_for_retry"),
        (None, "waiting_for_retry"),
        (None, "steps_in_process"),
        ("b", "error"),
        (None, "blocked_by_failures"),
        ("b", "pending"),
        (None, "steps_in_process"),
        ("b", "error"),
        (None, "blocked_by_failures"),
        ("b", "resolved_manually"),
        (None, "steps_in_process"),
        ("c", "complete"),
        (None, "complete"),
    ]
    assert [event.position for event in events] == list(range(1, 15))
    assert (events[1].attempt, events[1].error["message"]) == (1, "no")
    assert (events[6].actor, events[6].reason) == ("ann", "again")


async def test_news_begin_with_the_last_event_that_was_known(conn, worker):
    """So that who goes on there can see that it is still the same."""
    task = await begin_one(conn, template(CHAIN))
    await worker.succeed(await worker.claim_one())
    (first,) = await history(conn, task)
    await worker.succeed(await worker.claim_one())

    (news,) = await follow_tasks(conn, {task: 1})
    assert (news.events[0], told(news.events)) == (first, [("a", "complete"), ("b", "complete")])
    assert await follow_tasks(conn, {task: 2}) == []


async def test_what_is_not_there_is_told(conn):
    """Of tasks that have left, and of ids that were never one."""
    unknown = uuid4()
    (news,) = await follow_tasks(conn, {unknown: 3})

    assert (news.task_uuid, news.is_there, news.events) == (unknown, False, [])


async def test_a_long_history_comes_in_pages(conn, worker):
    """Each begins with the event that the page before ended with."""
    task = await begin_one(conn, template(DIAMOND))
    while claims := await worker.claim():
        await worker.succeed(*claims)

    (news,) = await follow_tasks(conn, {task: 0}, max_events=2)
    assert [event.position for event in news.events] == [1, 2]
    (news,) = await follow_tasks(conn, {task: 2}, max_events=2)
    assert [event.position for event in news.events] == [2, 3, 4]


async def test_two_finishes_of_one_task_are_told_in_the_order_of_their_commits(
    conn, connect, worker
):
    """The one that waits for the task's lock stands behind the one that holds it."""
    task = await begin_one(conn, template(DIAMOND))
    await worker.succeed(await worker.claim_one())
    claims = by_name(await worker.claim())
    other = await connect()
    await other.execute("create temporary table began_early ()")  # an old transaction id
    early = other.transaction()
    await early.start()
    await other.execute("select pg_current_xact_id()")

    await worker.succeed(claims["c"])
    seen = await history(conn, task)
    worker.conn = other
    await worker.succeed(claims["b"])
    assert await history(conn, task, 2) == []
    await early.commit()
    worker.conn = conn

    assert told(seen) == [("a", "complete"), ("c", "complete")]
    assert told(await history(conn, task, 2)) == [("b", "complete")]
    assert told(await history(conn, task))[:2] == told(seen)


# --- all tasks --------------------------------------------------------------------------


async def test_changes_are_creations_and_states(conn, worker):
    """With who made them, and what the task is."""
    start = await current_snapshot(conn)
    task = await begin_one(conn, template(), initiator="web")
    other = await begin_one(conn, template(name="other", namespace="bank"))
    await cancel_task(conn, other, actor="ann", reason="no more")
    await worker.succeed(await worker.claim_one())
    until = await current_snapshot(conn)

    changes = await task_changes(conn, start, until)
    assert changed(changes) == [
        (task, "steps_in_process"),
        (other, "steps_in_process"),
        (other, "cancelled"),
        (task, "complete"),
    ]
    assert [(one.action, one.actor) for one in changes[:3]] == [
        ("create", "web"),
        ("create", "application"),
        ("cancel", "ann"),
    ]
    assert {(one.namespace, one.name) for one in changes} == {("shop", "flow"), ("bank", "other")}
    assert await task_changes(conn, until, until) == []


async def test_a_transaction_that_commits_late_is_not_passed_over(conn, connect):
    """Its id is the lower one, and a reader has been beyond it before it can be seen."""
    flow = template()
    await register_template(conn, flow)
    start = await current_snapshot(conn)
    late = await connect()
    transaction = late.transaction()
    await transaction.start()
    first = await create_task(late, TemplateShelf(), NewTask(name="flow", namespace="shop"))
    second = await begin_one(conn, flow)

    between = await current_snapshot(conn)
    before = await task_changes(conn, start, between)
    await transaction.commit()
    end = await current_snapshot(conn)
    after = await task_changes(conn, between, end)

    assert changed(before) == [(second, "steps_in_process")]
    assert changed(after) == [(first.task_uuid, "steps_in_process")]
    assert min(one.xid for one in after) < max(one.xid for one in before)
    assert await task_changes(conn, end, end) == []


async def test_a_transaction_of_the_past_is_told_with_its_savepoints(conn, connect):
    """A creation is a subtransaction of its own: what counts is when the whole commits."""
    await register_template(conn, template())
    late = await connect()
    new = NewTask(name="flow", namespace="shop")
    async with late.transaction():
        async with late.transaction():
            created = await create_task(late, TemplateShelf(), new)
        hidden = await current_snapshot(conn)
    shown = await current_snapshot(conn)

    assert changed(await task_changes(conn, hidden, shown)) == [
        (created.task_uuid, "steps_in_process")
    ]


async def test_changes_come_in_pages(conn):
    """A page begins where the one before ended, also within one moment."""
    start = await current_snapshot(conn)
    tasks = await begin(conn, template(), 5)
    until = await current_snapshot(conn)

    found: list[UUID] = []
    last: tuple[datetime, UUID, int] | None = None
    while page := await task_changes(conn, start, until, last=last, limit=2):
        found += [one.task_uuid for one in page]
        last = (page[-1].moved_at, page[-1].task_uuid, page[-1].change_no)

    assert found == sorted(tasks)


async def test_who_looks_in_turn_hears_everything_once(conn, connect, worker):
    """Writers whose transactions overlap in every way, and a reader between any two commits."""
    flow = template()
    await register_template(conn, flow)
    shelf, new = TemplateShelf(), NewTask(name="flow", namespace="shop")
    writers = [await connect() for _ in range(4)]
    open_at: dict[int, object] = {}
    begun = await current_snapshot(conn)
    heard: list[tuple[UUID, int]] = []
    made: set[UUID] = set()
    order = [0, 1, 2, 1, 3, 0, 1, 2, 0, 3, 2, 3, 1, 0, 2, 1]
    for turn in order:
        if turn in open_at:
            await open_at.pop(turn).commit()
        else:
            open_at[turn] = writers[turn].transaction()
            await open_at[turn].start()
            made.add((await create_task(writers[turn], shelf, new)).task_uuid)
        now = await current_snapshot(conn)
        heard += [(c.task_uuid, c.change_no) for c in await task_changes(conn, begun, now)]
        begun = now
    for transaction in open_at.values():
        await transaction.commit()
    now = await current_snapshot(conn)
    heard += [(c.task_uuid, c.change_no) for c in await task_changes(conn, begun, now)]

    assert sorted(heard) == sorted((task, 0) for task in made)


@given(st.data())
def test_a_snapshot_reads_what_it_writes(data):
    """And sees what was neither open nor to come."""
    xmin = data.draw(st.integers(1, 2**40))
    xmax = data.draw(st.integers(xmin, xmin + 50))
    xips = data.draw(st.frozensets(st.integers(xmin, max(xmin, xmax - 1)))) if xmax > xmin else ()
    snapshot = Snapshot(xmin, xmax, frozenset(xips))

    assert Snapshot.parse(str(snapshot)) == snapshot
    for xid in range(xmin - 1, xmax + 2):
        assert snapshot.sees(xid) == (xid < xmax and xid not in snapshot.open_xids)


@pytest.mark.parametrize("text", ["", "1:2", "2:1:", "1:5:7", "a:b:c", "0:3:", "1:2:3:4", "-1:2:"])
def test_what_is_no_snapshot_is_refused(text):
    """Before PostgreSQL gets to see it."""
    with pytest.raises(ValueError, match="is no"):
        Snapshot.parse(text)
