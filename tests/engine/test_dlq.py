"""Dead letters: one pending a task, resolved once, and never a change of the task."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from support.flows import CHAIN, begin, begin_one, state, step_id, template
from tasker_core.engine.dlq import (
    PRIORITY_WEIGHTS,
    DlqFilter,
    add_entry,
    count_entries,
    dlq_stats,
    find_entry,
    get_entry,
    investigation_queue,
    list_entries,
    update_entry,
)
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.operate import cancel_task, reset_step
from tasker_core.errors import (
    DlqEntryPending,
    InvalidRequest,
    NotStorable,
    TransitionRefused,
    UnknownDlqEntry,
    UnknownTask,
)
from tasker_core.states import DlqReason, DlqStatus, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

BY = {"actor": "ann", "reason": "odd"}
D = DlqStatus


async def test_an_operator_puts_a_task_aside(conn, clock):
    """With the reason; the task goes on as if nothing had happened."""
    task = await begin_one(conn, template(CHAIN))
    entry = await get_entry(conn, await add_entry(conn, task, **BY, metadata={"ticket": 7}))

    assert (entry.dlq_reason, entry.resolution_status) == (DlqReason.MANUAL_DLQ, D.PENDING)
    assert (entry.task_uuid, entry.original_state) == (task, TaskState.STEPS_IN_PROCESS)
    assert entry.entered_at == entry.updated_at == await clock.now()
    assert entry.metadata == {"ticket": 7, "entered_by": "ann", "reason": "odd"}
    assert entry.snapshot["taken_at"] == "2030-01-01T00:00:00+00:00"
    assert [step["name"] for step in entry.snapshot["steps"]] == ["a", "b", "c"]
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    assert await conn.fetchval("select count(*) from tasker.changes") == 0


async def test_a_task_has_one_pending_entry(conn):
    """A second one is refused with the id of the first; after that is resolved, it is made."""
    task = await begin_one(conn, template())
    first = await add_entry(conn, task, **BY)
    with pytest.raises(DlqEntryPending) as caught:
        await add_entry(conn, task, **BY)
    assert caught.value.dlq_entry_uuid == str(first)
    assert await conn.fetchval("select tasker.enter_dlq($1, 'manual_dlq', null)", task) is None

    await update_entry(conn, first, status=D.CANCELLED)
    second = await add_entry(conn, task, **BY)
    listed = await list_entries(conn, DlqFilter(task_uuid=task), limit=9)
    assert [entry.dlq_entry_uuid for entry in listed] == [second, first]
    with pytest.raises(UnknownTask):
        await add_entry(conn, uuid4(), **BY)


async def test_an_entry_is_resolved_once(conn, clock):
    """When, by whom, with which notes; the task stays as it is."""
    task = await begin_one(conn, template())
    uuid = await add_entry(conn, task, **BY)
    await clock.advance(60)
    noted = await update_entry(conn, uuid, notes="looking", metadata={"seen": True})
    assert (noted.resolution_status, noted.resolved_at) == (D.PENDING, None)

    done = await update_entry(conn, uuid, status=D.MANUALLY_RESOLVED, actor="bob")

    assert (done.resolved_at, done.resolved_by) == (await clock.now(), "bob")
    assert (done.resolution_notes, done.updated_at) == ("looking", await clock.now())
    assert done.metadata == {"entered_by": "ann", "reason": "odd", "seen": True}
    with pytest.raises(TransitionRefused, match="is manually_resolved; reopen it first"):
        await update_entry(conn, uuid, status=D.CANCELLED)
    assert (await update_entry(conn, uuid, notes="more")).resolved_at == done.resolved_at
    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS


async def test_only_reopening_makes_an_entry_pending_again(conn):
    """Its time and its resolver are gone then; a pending one and a second one are refused."""
    task = await begin_one(conn, template())
    uuid = await add_entry(conn, task, **BY)
    with pytest.raises(TransitionRefused, match="reopen"):
        await update_entry(conn, uuid, reopen=True)
    with pytest.raises(TransitionRefused):
        await update_entry(conn, uuid, status=D.PENDING)
    await update_entry(conn, uuid, status=D.PERMANENTLY_FAILED, actor="bob", notes="n")
    with pytest.raises(TransitionRefused):
        await update_entry(conn, uuid, status=D.PENDING)
    with pytest.raises(InvalidRequest):
        await update_entry(conn, uuid, status=D.CANCELLED, reopen=True)

    open_again = await update_entry(conn, uuid, reopen=True)
    assert (open_again.resolved_at, open_again.resolved_by) == (None, None)
    assert open_again.resolution_notes == "n"

    await update_entry(conn, uuid, status=D.PERMANENTLY_FAILED)
    other = await add_entry(conn, task, **BY)
    with pytest.raises(DlqEntryPending, match=str(other)):
        await update_entry(conn, uuid, reopen=True)
    with pytest.raises(UnknownDlqEntry):
        await update_entry(conn, uuid4(), notes="n")


async def test_what_is_kept_with_an_entry_is_bounded(conn):
    """However often something is added; what the engine writes does not count."""
    task = await begin_one(conn, template())
    with pytest.raises(NotStorable, match="the limit is 65,536"):
        await add_entry(conn, task, metadata={"x": "y" * 66_000}, **BY)
    uuid = await add_entry(conn, task, metadata={"failed_ranges": ["y" * 60_000]}, **BY)
    await update_entry(conn, uuid, metadata={"one": "y" * 60_000})

    with pytest.raises(NotStorable, match="more than 65,536 bytes with what is there"):
        await update_entry(conn, uuid, metadata={"two": "y" * 6_000}, notes="never")

    entry = await update_entry(conn, uuid, metadata={"one": "short"})
    assert entry.resolution_notes is None
    assert set(entry.metadata) == {"entered_by", "reason", "failed_ranges", "one"}


async def test_entries_are_filtered_and_counted(conn, clock):
    """By status, reason, namespace and task, the youngest first."""
    one, two = await begin(conn, template(), 2)
    other = await begin_one(conn, template(namespace="pay"))
    entries = []
    for task in (one, two, other):
        entries.append(await add_entry(conn, task, **BY))
        await clock.advance(0.001)
    await update_entry(conn, entries[0], status=D.CANCELLED)

    async def found(**wanted) -> list:
        filtered = DlqFilter(**wanted)
        listed = await list_entries(conn, filtered, limit=9)
        assert await count_entries(conn, filtered) == len(listed)
        return [entry.dlq_entry_uuid for entry in listed]

    assert await found() == entries[::-1]
    assert await found(status=D.PENDING) == [entries[2], entries[1]]
    assert await found(namespace="pay") == [entries[2]]
    assert await found(task_uuid=two) == [entries[1]]
    assert await found(reason=DlqReason.STALENESS_TIMEOUT) == []
    assert [
        entry.dlq_entry_uuid for entry in await list_entries(conn, DlqFilter(), limit=1, offset=1)
    ] == [entries[1]]


async def test_the_average_is_over_resolved_entries_only(conn, clock):
    """One that is still open says nothing of how long it takes."""
    tasks = await begin(conn, template(), 3)
    entries = [await add_entry(conn, task, **BY) for task in tasks]
    await clock.advance(600)
    await update_entry(conn, entries[0], status=D.MANUALLY_RESOLVED)
    await clock.advance(600)
    await update_entry(conn, entries[1], status=D.PERMANENTLY_FAILED)
    await clock.advance(60_000)

    (stats,) = await dlq_stats(conn)

    assert (stats.dlq_reason, stats.total_entries) == (DlqReason.MANUAL_DLQ, 3)
    assert (stats.pending, stats.manually_resolved, stats.permanently_failed) == (1, 1, 1)
    assert stats.average_resolution == timedelta(minutes=15)


async def test_the_queue_weighs_the_reason_and_the_wait(conn, clock):
    """Only what is pending; the state of the task now stands beside that of then."""
    weighed = dict.fromkeys(PRIORITY_WEIGHTS)
    for reason, task in zip(weighed, await begin(conn, template(), len(weighed)), strict=True):
        await conn.execute("select tasker.enter_dlq($1, $2, '{\"seconds\": 90}')", task, reason)
        weighed[reason] = task
    await clock.advance(600)
    await cancel_task(conn, weighed[DlqReason.STALENESS_TIMEOUT], **BY)

    queue = await investigation_queue(conn, limit=9)

    assert [one.priority_score for one in queue] == [1010, 510, 60, 20, 110]
    assert [one.is_repaired for one in queue] == [False] * 4 + [True]
    last = queue[-1]
    assert last.dlq_reason == DlqReason.STALENESS_TIMEOUT
    assert (last.original_state, last.task_state) == ("steps_in_process", "cancelled")
    assert (last.namespace, last.name, last.seconds_in_state) == ("shop", "flow", 90)
    assert last.in_dlq == timedelta(minutes=10)
    assert len(await investigation_queue(conn, limit=2)) == 2


async def test_a_reset_repairs_and_the_next_failure_undoes_it(conn, worker):
    """What an operator put aside as it went on is not repaired by going on to its end."""
    odd, failing = await begin(conn, template(), 2)
    await add_entry(conn, odd, **BY)
    claims = {claim.task_uuid: claim for claim in await worker.claim(2)}
    await worker.fail(claims[failing], retryable=False)
    await conn.execute("select tasker.enter_dlq($1, 'max_retries_exceeded', null)", failing)
    await worker.succeed(claims[odd])

    async def repaired():
        queue = await investigation_queue(conn, limit=9)
        return {one.task_uuid for one in queue if one.is_repaired}

    assert await repaired() == set()
    await reset_step(conn, failing, await step_id(conn, failing, claims[failing].name), **BY)
    assert await repaired() == {failing}
    await worker.fail(*await worker.claim(), retryable=False)
    assert await repaired() == set()


async def test_an_entry_is_found_by_its_task_too(conn, worker):
    """The pending one goes before younger ones that are resolved."""
    task = await begin_one(conn, template())
    first = await add_entry(conn, task, **BY)
    await update_entry(conn, first, status=D.CANCELLED, actor="ann")
    second = await add_entry(conn, task, **BY)
    await update_entry(conn, second, status=D.CANCELLED, actor="ann")
    assert (await find_entry(conn, task)).dlq_entry_uuid == second
    await update_entry(conn, first, reopen=True)
    assert (await find_entry(conn, task)).dlq_entry_uuid == first
    assert (await find_entry(conn, second)).dlq_entry_uuid == second
    with pytest.raises(UnknownDlqEntry, match="no dead letter, and no task"):
        await find_entry(conn, new_uuid())


async def test_a_snapshot_of_a_large_task_is_bounded(conn, worker):
    """What failed and what is left comes first; the counts tell of the rest."""
    graph = {f"s{n:04}": [] for n in range(1200)}
    task = await begin_one(conn, template(graph))
    claims = await worker.claim(1000)
    await worker.succeed(*claims[1:])
    await worker.fail(claims[0], retryable=False)
    snapshot = (await get_entry(conn, await add_entry(conn, task, **BY))).snapshot

    assert snapshot["step_counts"] == {"complete": 999, "error": 1, "pending": 200}
    shown = [step["state"] for step in snapshot["steps"]]
    assert len(shown) == 1000
    assert (shown.count("error"), shown.count("pending")) == (1, 200)
    assert len(snapshot["transitions"]) == 20


async def test_ids_made_by_the_database_are_of_the_same_kind(conn, clock):
    """UUIDv7, in the order of time."""
    await clock.tick()
    made = [await conn.fetchval("select tasker.new_uuid(tasker.now())") for _ in range(9)]
    assert made == sorted(made)
    assert {(uuid.version, uuid.variant) for uuid in made} == {(7, new_uuid().variant)}
    assert made[0].int >> 80 == int((await clock.now()).timestamp() * 1000)
