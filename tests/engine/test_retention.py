"""Finished tasks leave after their time, whole, and nothing else does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from support.clock import Clock
from support.events import publishing, telling
from support.flows import CHAIN, ONE, Worker, begin, begin_one, done, template
from tasker_core.engine import retention as pruning
from tasker_core.engine.claim import Claim
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.dlq import add_entry, update_entry
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.operate import cancel_task, reset_step, resolve_step
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.engine.relay import confirm_events, drop_events, next_events, refuse_event
from tasker_core.engine.retention import Pruned, Retention, count_prunable, prune_tasks
from tasker_core.engine.search import TaskFilter, count_tasks, list_tasks
from tasker_core.errors import DuplicateTask, UnknownTask
from tasker_core.settings import Settings
from tasker_core.states import DlqStatus

BY = {"actor": "ann", "reason": "-"}
DAY = timedelta(days=1)
HOT = {"ready", "delayed", "leases", "outbox", "failed_events"}


async def tables_of_tasks(conn: asyncpg.Connection) -> list[str]:
    """Name every table that has rows of a task."""
    return await conn.fetchval(
        "select array_agg(relname::text order by relname) from pg_class "
        "join pg_attribute on attrelid = pg_class.oid "
        "where relnamespace = 'tasker'::regnamespace and relkind = 'r' and attname = 'task_uuid'"
    )


async def everything(conn: asyncpg.Connection) -> dict[str, set[tuple[UUID, str]]]:
    """Read every row of every task, by table."""
    return {
        table: {
            (row[0], row[1])
            for row in await conn.fetch(f"select task_uuid, t::text from tasker.{table} as t")
        }
        for table in await tables_of_tasks(conn)
    }


async def ended(conn: asyncpg.Connection, count: int = 1, graph: dict | None = None) -> list[UUID]:
    """Create tasks and complete them."""
    flow = template(graph or ONE)
    tasks = await begin(conn, flow, count)
    worker = Worker(conn)
    while claims := await worker.claim(1000):
        await worker.succeed(*claims)
    return tasks


async def prune_all(conn: asyncpg.Connection, limit: int = 500, **more: object) -> int:
    """Go through one pass; it waits for nobody."""
    batch = Pruned(0, None)
    total = 0
    while True:
        async with asyncio.timeout(20):
            batch = await prune_tasks(
                conn, **{"older_than": DAY, "after": batch.reached, "limit": limit, **more}
            )
        assert batch.count <= limit
        total += batch.count
        if batch.reached is None:
            return total


async def remaining(conn: asyncpg.Connection) -> list[UUID]:
    return [row[0] for row in await conn.fetch("select task_uuid from tasker.tasks order by 1")]


# --- what leaves ---------------------------------------------------------------------------


async def claim_of(worker: Worker, task: UUID) -> list[Claim]:
    """Claim what is ready of one task."""
    claims = await worker.claim(1000)
    await worker.give_back(*(claim for claim in claims if claim.task_uuid != task))
    return [claim for claim in claims if claim.task_uuid == task]


async def bring_to(conn: asyncpg.Connection, end: str) -> UUID:
    """Create a task and bring it where it is wanted."""
    worker = Worker(conn)
    task = await begin_one(conn, template(CHAIN, retry={"max_attempts": 2}))
    if end == "in_progress":
        await claim_of(worker, task)
    elif end == "cancelled":
        await cancel_task(conn, task, **BY)
    elif end == "waiting":
        await worker.fail(*await claim_of(worker, task))
    elif end in ("blocked", "error", "resolved"):
        await worker.fail(*await claim_of(worker, task), retryable=False)
    elif end in ("complete", "resolved_manually"):
        while claims := await claim_of(worker, task):
            await worker.succeed(*claims)
    if end == "resolved":
        for number in (1, 2, 3):
            await resolve_step(conn, task, step_uuid(task, number), **BY)
    if end in ("error", "resolved_manually"):  # no move of the engine leads there yet
        await conn.execute(
            "update tasker.tasks set state = $2, completed_at = tasker.now() where task_uuid = $1",
            task,
            end,
        )
    return task


@pytest.mark.parametrize("seed", range(4))
async def test_exactly_the_tasks_that_ended_before_the_limit_leave(conn, clock, seed):
    """With every row of theirs, whatever their order, in however small batches."""
    dice = random.Random(seed)
    ends = ["complete", "cancelled", "error", "resolved_manually", "resolved"]
    ends += ["blocked", "waiting", "enqueued", "in_progress"]
    for _ in range(40):
        await bring_to(conn, dice.choice(ends))
        await clock.advance(dice.choice((0, 1, 3600, 86_400)))
    older_than = timedelta(days=dice.uniform(0, 8))
    limit = await clock.now() - older_than
    gone = {
        row[0]
        for row in await conn.fetch(
            "select task_uuid from tasker.tasks where completed_at < $1", limit
        )
    }
    before = await everything(conn)

    counted = await count_prunable(conn, older_than=older_than)
    pruned = await prune_all(conn, dice.choice((1, 3, 7, 100)), older_than=older_than)

    assert counted == Pruned(len(gone), None)
    assert pruned == len(gone)
    assert await everything(conn) == {
        table: {row for row in rows if row[0] not in gone} for table, rows in before.items()
    }


async def test_every_table_with_rows_of_a_task_is_thought_of(conn):
    """The hot ones have no rows of a task that has ended."""
    source = await conn.fetchval(
        "select prosrc from pg_proc where oid = 'tasker.prune_tasks'::regproc"
    )
    for table in set(await tables_of_tasks(conn)) - HOT:
        assert f"delete from tasker.{table} where task_uuid" in source


async def test_a_task_stays_until_its_events_are_delivered(conn, clock):
    """Whether they wait or were put aside: what nobody has been told is not forgotten."""
    await begin(conn, publishing(steps={"a": [], "b": []}))
    worker = Worker(conn)
    for claim in await worker.claim():
        await worker.finish(telling(done(claim, {}), "success"))
    await clock.advance(2 * DAY.total_seconds())
    assert await prune_all(conn) == 0

    waiting, failing = await next_events(conn, limit=2)
    await confirm_events(conn, [waiting])
    await refuse_event(conn, failing, "no", max_tries=1)
    assert await prune_all(conn) == 0

    await drop_events(conn, None)
    assert await prune_all(conn) == 1


async def test_at_the_limit_itself_a_task_stays(conn, clock):
    """It leaves once it is older."""
    await ended(conn)

    await clock.advance(DAY.total_seconds())
    assert await prune_all(conn) == 0
    await clock.advance(0.000_001)
    assert await prune_all(conn) == 1


async def test_the_walk_ends_where_ids_are_too_young(conn, clock):
    """What was created after the limit cannot have ended before it: it is not looked at."""
    await clock.freeze(datetime.now(UTC))
    (task,) = await ended(conn)
    await conn.execute("update tasker.tasks set completed_at = completed_at - interval '9 days'")

    assert await prune_tasks(conn, older_than=DAY, limit=1) == Pruned(0, None)
    aged = UUID(int=task.int - (int(2 * DAY.total_seconds() * 1000) << 80))
    for table in await tables_of_tasks(conn):
        await conn.execute(f"update tasker.{table} set task_uuid = $1", aged)
    assert await prune_tasks(conn, older_than=DAY, limit=1) == Pruned(1, aged)


async def test_first_uuid_parts_the_ids_of_before_and_after(conn):
    """To the millisecond; a moment before 1970 is before every id."""
    moment = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    first = await conn.fetchval("select tasker.first_uuid($1)", moment)

    assert first.int >> 80 == 1_772_366_400_123
    assert first.int & ((1 << 80) - 1) == 0
    assert await conn.fetchval("select tasker.first_uuid($1)", moment + timedelta(microseconds=999))
    assert await conn.fetchval("select tasker.first_uuid('1900-01-01Z')") == UUID(int=0)


async def test_a_pass_goes_round_what_stays(conn, clock):
    """Tasks that live on are looked at once a pass, and a batch may find none to delete."""
    await begin(conn, template(), 5)
    young = await remaining(conn)
    worker = Worker(conn)
    claims = await worker.claim()
    await ended(conn, 3)
    await worker.give_back(*claims)
    await clock.advance(2 * DAY.total_seconds())

    first = await prune_tasks(conn, older_than=DAY, limit=4)
    second = await prune_tasks(conn, older_than=DAY, limit=4, after=first.reached)

    assert first == Pruned(0, young[3])
    assert second.count == 3
    assert await remaining(conn) == young


async def test_many_steps_make_a_batch_of_few_tasks(conn, clock):
    """A batch ends with the task that brings it to its steps; the next goes on from there."""
    tasks = sorted(await ended(conn, 5, CHAIN))
    await clock.advance(2 * DAY.total_seconds())

    row = await conn.fetchrow(
        "select * from tasker.prune_tasks(tasker.now() - interval '1 day', null, 100, false, 4)"
    )

    assert tuple(row) == (2, tasks[1])
    assert await remaining(conn) == tasks[2:]


# --- beside others -------------------------------------------------------------------------


async def test_a_task_that_somebody_holds_is_left_for_the_next_pass(conn, connect, clock):
    """Nobody is waited for."""
    tasks = await ended(conn, 3)
    await clock.advance(2 * DAY.total_seconds())
    other = await connect()

    async with other.transaction():
        await other.execute("select tasker.lock_tasks(array[$1::uuid])", tasks[1])
        assert await prune_all(conn) == 2
    assert await remaining(conn) == [tasks[1]]
    assert await prune_all(conn) == 1


async def test_a_task_that_is_reset_meanwhile_stays(conn, connect, clock):
    """The reset came first; whoever comes after the deletion finds no task."""
    task = await bring_to(conn, "error")
    await clock.advance(2 * DAY.total_seconds())
    other = await connect()

    async with other.transaction():
        await reset_step(other, task, step_uuid(task, 1), **BY)
        assert await prune_all(conn) == 0
    assert await prune_all(conn) == 0

    await conn.execute(
        "update tasker.tasks set state = 'error', completed_at = '2000-01-01Z'",
    )
    async with conn.transaction():
        assert await prune_all(conn) == 1
        late = asyncio.create_task(reset_step(other, task, step_uuid(task, 1), **BY))
        await until_it_waits(conn, other)
    with pytest.raises(UnknownTask):
        await late


async def test_a_batch_that_is_cut_off_leaves_whole_tasks(conn, connect, clock):
    """It is one transaction: all of a task is there, or nothing."""
    await ended(conn, 4, CHAIN)
    await clock.advance(2 * DAY.total_seconds())
    before = await everything(conn)
    doomed = await connect()

    await doomed.execute("begin")
    assert (await prune_tasks(doomed, older_than=DAY, limit=3)).count == 3
    pid = doomed.get_server_pid()
    assert await everything(conn) == before
    await conn.execute("select pg_terminate_backend($1, 10000)", pid)

    assert await everything(conn) == before
    assert await prune_all(conn) == 4


async def test_a_list_that_is_read_meanwhile_is_of_one_moment(conn, connect, clock):
    """Every task that a reader sees has its steps."""
    await ended(conn, 60, CHAIN)
    await clock.advance(2 * DAY.total_seconds())
    reader = await connect()
    seen = []

    async def read() -> None:
        while not seen or seen[-1]:
            tasks = await list_tasks(reader, TaskFilter(), limit=100, offset=0)
            assert all(task.total_steps == 3 for task in tasks)
            seen.append(len(tasks))

    reading = asyncio.create_task(read())
    assert await prune_all(conn, 4) == 60
    await reading

    assert sorted(seen, reverse=True) == seen
    assert await count_tasks(conn, TaskFilter()) == 0


# --- identities ----------------------------------------------------------------------------

ORDER = template(identity_strategy="strict")
NEW = NewTask(name=ORDER.name, namespace=ORDER.namespace, context={"order": 1})


async def create(conn: asyncpg.Connection) -> UUID:
    return (await create_task(conn, TemplateShelf(), NEW)).task_uuid


@pytest.fixture
async def order(conn: asyncpg.Connection, clock: Clock) -> UUID:
    """A task with an identity that ended long ago."""
    await register_template(conn, ORDER)
    task = await create(conn)
    worker = Worker(conn)
    await worker.succeed(await worker.claim_one())
    await clock.advance(2 * DAY.total_seconds())
    return task


async def until_it_waits(conn: asyncpg.Connection, other: asyncpg.Connection) -> None:
    """Return once the other connection waits for a lock."""
    async with asyncio.timeout(10):
        while not await conn.fetchval(  # noqa: ASYNC110
            "select cardinality(pg_blocking_pids($1)) > 0", other.get_server_pid()
        ):
            await asyncio.sleep(0.005)


async def test_without_kept_identities_a_task_may_come_again(conn, order):
    """It is as if it had never been."""
    assert await prune_all(conn) == 1
    assert await create(conn) != order


async def test_a_kept_identity_is_refused_as_that_of_a_task_is(conn, order):
    """With the same error, which says which of the requests it was."""
    with pytest.raises(DuplicateTask) as living:
        await create(conn)
    assert await prune_all(conn, keeps_identities=True) == 1
    with pytest.raises(DuplicateTask) as kept:
        await create(conn)

    assert str(kept.value) == str(living.value)
    assert kept.value.positions == living.value.positions
    assert await remaining(conn) == []
    assert await conn.fetchval("select count(*) from tasker.steps") == 0


async def test_other_identities_and_namespaces_are_free(conn, order):
    """A kept identity is of one namespace and one hash; what has none is always free."""
    await prune_all(conn, keeps_identities=True)
    await conn.execute("update tasker.kept_identities set namespace = 'elsewhere'")

    await create(conn)
    await begin(conn, template(name="other"), 3)


async def test_what_has_no_identity_keeps_none(conn, clock):
    """Tasks that are always unique leave nothing behind."""
    await ended(conn, 3)
    await clock.advance(2 * DAY.total_seconds())

    assert await prune_all(conn, keeps_identities=True) == 3
    assert await conn.fetchval("select count(*) from tasker.kept_identities") == 0


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_creation_that_meets_the_deletion_is_a_duplicate(
    conn, connect, order, commits, isolation
):
    """It waits for the deletion, and finds the identity kept, or the task still there."""
    deleter = await connect()
    deletion = deleter.transaction()
    await deletion.start()
    assert await prune_all(deleter, keeps_identities=True) == 1
    creator = await connect()

    async def late() -> None:
        async with creator.transaction(isolation=isolation):
            await create(creator)

    creation = asyncio.create_task(late())
    await until_it_waits(conn, creator)
    await (deletion.commit() if commits else deletion.rollback())

    with pytest.raises(DuplicateTask):
        await creation
    assert await remaining(conn) == ([] if commits else [order])


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_creation_that_began_before_the_deletion_is_a_duplicate(
    conn, connect, order, isolation
):
    """Even if it looks at a moment when the identity was not kept yet."""
    creator = await connect()
    async with creator.transaction(isolation=isolation):
        await creator.fetch("select from tasker.templates")  # the snapshot is taken here
        assert await prune_all(conn, keeps_identities=True) == 1
        with pytest.raises(DuplicateTask):
            await create(creator)
    assert await remaining(conn) == []


async def test_creations_and_deletions_of_one_identity_leave_one_task(conn, connect, order):
    """However they meet, there is never a second task, and with kept identities no other."""
    made: list[UUID] = []

    async def keep_creating(other: asyncpg.Connection) -> None:
        for _ in range(30):
            try:
                made.append(await create(other))
            except DuplicateTask:
                await asyncio.sleep(0)

    async def keep_deleting(other: asyncpg.Connection) -> None:
        for _ in range(30):
            await prune_tasks(other, older_than=DAY, keeps_identities=True)

    others = [await connect() for _ in range(4)]
    await asyncio.gather(*(keep_creating(other) for other in others[:3]), keep_deleting(others[3]))

    assert made == []
    assert await remaining(conn) == []


# --- now and then --------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Retention]:
    """Makes the periodic part, with batches of two and no rest."""
    monkeypatch.setattr(pruning, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(pruning, "REST_SECONDS", 0.0)
    original = pruning.prune_tasks

    async def in_twos(conn: asyncpg.Connection, **more: object) -> Pruned:
        return await original(conn, **{**more, "limit": 2})

    monkeypatch.setattr(pruning, "prune_tasks", in_twos)
    return lambda **given: Retention(Settings(**given))


async def test_a_pass_takes_turns(conn, clock, hasty):
    """A batch a turn, from where the last one got to; then it begins anew."""
    await ended(conn, 5)
    await clock.advance(2 * DAY.total_seconds())
    retention = hasty(retention_days=1.5)

    assert [(await retention.turn(conn))[0] for _ in range(3)] == [2, 2, 1]
    await ended(conn, 1)
    await clock.advance(2 * DAY.total_seconds())
    assert (await retention.turn(conn))[0] == 1


async def test_identities_are_kept_if_the_settings_say_so(conn, order, hasty):
    """As `retention_keeps_identities`."""
    await hasty(retention_days=0.5, retention_keeps_identities=True).turn(conn)

    with pytest.raises(DuplicateTask):
        await create(conn)


async def test_one_process_at_a_time_prunes(conn, connect, clock, hasty):
    """The others leave it to the one that does."""
    await ended(conn, 4)
    await clock.advance(2 * DAY.total_seconds())
    one, two = hasty(retention_days=1), hasty(retention_days=1)
    other = await connect()

    async with other.transaction():
        assert (await one.turn(other))[0] == 2
        assert (await two.turn(conn))[0] == 0
    assert (await two.turn(conn))[0] == 2


async def test_it_rests_after_a_pass_and_pauses_in_it(conn, clock):
    """Asked before its time it does nothing; unset, it is never time."""
    await ended(conn)
    await clock.advance(2 * DAY.total_seconds())
    retention = Retention(Settings(retention_days=1))

    assert await retention.turn(conn) == (1, pruning.REST_SECONDS)
    await ended(conn)
    await clock.advance(2 * DAY.total_seconds())
    count, wait = await retention.turn(conn)

    assert count == 0
    assert 0 < wait <= pruning.REST_SECONDS
    assert await Retention(Settings()).turn(conn) == (0, float("inf"))
    assert len(await remaining(conn)) == 1


async def test_a_task_with_a_pending_dead_letter_stays(conn):
    """It leaves with all its dead letters once the investigation is over."""
    (task,) = await ended(conn)
    await conn.execute("update tasker.tasks set completed_at = completed_at - interval '9 days'")
    entry = await add_entry(conn, task, **BY)
    assert await prune_all(conn, older_than=timedelta()) == 0
    await update_entry(conn, entry, status=DlqStatus.CANCELLED)
    assert await prune_all(conn, older_than=timedelta()) == 1
    assert not any((await everything(conn)).values())
