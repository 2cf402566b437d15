"""What a handler writes in its step's transaction is committed with its result, or not at all."""

from __future__ import annotations

import asyncio
import sys
import threading

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from support.flows import CHAIN, NO_REST, ONE, template
from support.workers import eventually
from tasker_core import PermanentError
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.operate import cancel_task, complete_step
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.sweep import sweep
from tasker_core.errors import TransactionMisuse
from tasker_core.handlers.batch import Batchable
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.decision import DecisionHandler
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.handlers.transaction import StepTransaction
from tasker_core.templates.load import parse_template
from tasker_core.worker import sessions, transaction

KINDS = ("asyncpg", "psycopg", "async_sqlalchemy", "sqlalchemy")
HOUR = 3600.0
WRITE = "insert into app.entries values ('{}', {})"


@pytest.fixture
async def entries(clean_database):
    """The application's table; asked, it gives what is committed in it."""
    conn = await asyncpg.connect(clean_database)
    await conn.execute(
        "drop schema if exists app cascade; create schema app; "
        "create table app.entries (step text, attempt int)"
    )

    async def rows() -> list[tuple[str, int]]:
        found = await conn.fetch("select * from app.entries order by step, attempt")
        return [tuple(row) for row in found]

    yield rows
    await conn.execute("drop schema app cascade")
    await conn.close()


@pytest.fixture
async def bench(entries, bench):
    """The bench; its workers stop before the application's table goes."""
    return bench


@pytest.fixture(params=KINDS)
async def kind(request, clean_database):
    """Each way to a transaction, one after the other."""
    made = Kind(request.param, clean_database)
    yield made
    await made.close()


class Kind:
    """Makes handlers that write in their transaction, with one of the drivers."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.is_async = name.startswith("async")
        self.session = {
            "asyncpg": sessions.AsyncpgSession,
            "psycopg": sessions.PsycopgSession,
            "async_sqlalchemy": sessions.AsyncAlchemySession,
            "sqlalchemy": sessions.AlchemySession,
        }[name]
        self.engine = None
        if name == "async_sqlalchemy":
            self.engine = create_async_engine(_with_driver(url, "asyncpg"), poolclass=NullPool)
        elif name == "sqlalchemy":
            self.engine = sqlalchemy.create_engine(_with_driver(url, "psycopg"))

    async def close(self) -> None:
        if self.engine is not None and self.is_async:
            await self.engine.dispose()
        elif self.engine is not None:
            self.engine.dispose()

    def handler(self, *, inside=None, after=None, sql=WRITE, swallows=()):
        """Make a handler that writes a row; `inside` and `after` the block it calls these.

        They get the context; what is in `swallows` does not leave the handler.
        """

        async def on_loop(context):
            try:
                async with context.transaction(self.engine) as conn:
                    await _execute_async(conn, _filled(sql, context))
                    if inside is not None:
                        await asyncio.to_thread(inside, context)
            except swallows:
                pass
            return after(context) if after else {"done": True}

        def in_thread(context):
            try:
                with context.transaction(self.engine) as conn:
                    _execute(conn, _filled(sql, context))
                    if inside is not None:
                        inside(context)
            except swallows:
                pass
            return after(context) if after else {"done": True}

        return on_loop if self.is_async else in_thread


def _with_driver(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


def _filled(sql: str, context: StepContext) -> str:
    return sql.format(context.step_name, context.attempt)


async def _execute_async(conn, sql):
    await conn.execute(sql if isinstance(conn, asyncpg.Connection) else sqlalchemy.text(sql))


def _execute(conn, sql):
    conn.execute(sqlalchemy.text(sql) if isinstance(conn, sqlalchemy.Connection) else sql)


def nothing(context):
    return {}


class Shapes(DecisionHandler, Batchable):
    """Makes the results of decisions and batches."""

    def call(self, context):
        raise NotImplementedError


class Door:
    """Where a handler waits inside its block until the test lets it go."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.open = threading.Event()

    def __call__(self, context: StepContext) -> None:
        if context.attempt == 1:
            self.inside.set()
            assert self.open.wait(20)


@pytest.fixture
def door():
    made = Door()
    yield made
    made.open.set()


# --- together ---------------------------------------------------------------------------


async def test_writes_and_result_are_committed_together(bench, kind, entries):
    """Nothing is there before the handler has returned; then the row, the result, the children."""
    seen = []

    def after(context):
        seen.append(asyncio.run_coroutine_threadsafe(entries(), loop).result(20))
        return {"done": context.step_name}

    loop = asyncio.get_running_loop()
    handler = kind.handler(inside=after)
    worker = await bench.worker({"a": handler, "b": nothing, "c": handler}, poll_seconds=HOUR)

    state, task = await bench.run(template(CHAIN))

    assert state == "complete"
    assert seen == [[], [("a", 1)]]
    assert await entries() == [("a", 1), ("c", 1)]
    assert await bench.result(task, "a") == {"done": True}
    assert await bench.outcomes(task) == ["complete"] * 3
    await eventually(lambda: worker.finished_count == 3)
    await eventually(lambda: not worker.runner.running)


@pytest.mark.parametrize("failure", ["raised inside", "raised after", "returned", "not storable"])
async def test_a_failure_undoes_the_writes(bench, kind, entries, failure):
    """However the attempt fails, what it wrote is gone, and the failure is recorded."""

    def fails(context):
        if context.attempt == 1 and failure.startswith("raised"):
            raise ConnectionError("the till is away")

    def after(context):
        if context.attempt == 1:
            if failure == "raised after":
                fails(context)
            if failure == "returned":
                return StepHandlerResult.failure("no change left")
            if failure == "not storable":
                return {"no JSON": object()}
        return {}

    handler = kind.handler(inside=fails if failure == "raised inside" else None, after=after)
    await bench.worker({"a": handler})
    state, task = await bench.run(template(ONE, retry=NO_REST))

    if failure == "not storable":
        assert (state, await bench.outcomes(task)) == ("blocked_by_failures", ["error"])
        assert await entries() == []
    else:
        assert (state, await bench.outcomes(task)) == (
            "complete",
            ["waiting_for_retry", "complete"],
        )
        assert await entries() == [("a", 2)]


async def test_a_block_that_failed_may_be_followed_by_another(bench, kind, entries):
    """An error that the handler swallows has undone the block; a second one counts."""

    def refuse(context):
        raise ValueError("sold out")

    first = kind.handler(
        inside=refuse, swallows=ValueError, sql="insert into app.entries values ('no', 0)"
    )
    if kind.is_async:

        async def both(context):
            await first(context)
            return await kind.handler()(context)
    else:

        def both(context):
            first(context)
            return kind.handler()(context)

    await bench.worker({"a": first, "b": both, "c": nothing})
    state, task = await bench.run(template(CHAIN))

    assert (state, await bench.outcomes(task)) == ("complete", ["complete"] * 3)
    assert await entries() == [("b", 1)]


# --- too late -----------------------------------------------------------------------------


async def test_a_cancelled_task_undoes_the_writes(bench, kind, entries, door):
    """The handler is inside its block when an operator cancels the task."""
    worker = await bench.worker({"a": kind.handler(inside=door)})
    task = await bench.begin(template(ONE))
    await asyncio.to_thread(door.inside.wait, 20)

    await cancel_task(bench.conn, task, actor="ada", reason="a test")
    door.open.set()
    await eventually(lambda: not worker.runner.running)

    assert await entries() == []
    assert await bench.outcomes(task) == ["cancelled"]


async def test_a_settled_step_undoes_the_writes(bench, kind, entries, door):
    """Likewise when an operator gives the result, which nobody tells the worker."""
    worker = await bench.worker({"a": kind.handler(inside=door)})
    task = await bench.begin(template(ONE))
    await asyncio.to_thread(door.inside.wait, 20)

    await complete_step(
        bench.conn, TemplateShelf(), task, step_uuid(task, 1),
        result={"by": "hand"}, actor="ada", reason="a test", force=True,
    )  # fmt: skip
    door.open.set()
    await eventually(lambda: not worker.runner.running)

    assert await entries() == []
    assert await bench.result(task, "a") == {"by": "hand"}
    assert await bench.outcomes(task) == ["complete"]


async def test_a_handler_that_takes_too_long_undoes_the_writes(bench, kind, entries, door):
    """The time-out is recorded, and the next attempt does not wait for the first one's end."""
    await bench.worker({"a": kind.handler(inside=door)}, handler_timeout_seconds=0.2)
    state, task = await bench.run(template(ONE, retry=NO_REST))
    door.open.set()

    assert (state, await bench.outcomes(task)) == ("complete", ["waiting_for_retry", "complete"])
    assert await entries() == [("a", 2)]


async def test_a_zombies_writes_are_undone_and_in_nobodys_way(bench, kind, entries, door):
    """An attempt that lost its lease holds a row that the next one needs: its session is ended."""
    await bench.conn.execute("create table app.till (cents int); insert into app.till values (0)")
    handler = kind.handler(inside=door, sql="update app.till set cents = cents + 1")
    zombie = await bench.worker({"a": handler}, lease_seconds=HOUR, sweep_seconds=HOUR)
    task = await bench.begin(template(ONE, retry=NO_REST))
    await asyncio.to_thread(door.inside.wait, 20)
    await bench.conn.execute("update tasker.leases set ends_at = tasker.now() - interval '1s'")
    assert await sweep(bench.conn) == 1

    await bench.worker({"a": handler})
    assert await bench.settled(task) == "complete"
    assert await bench.conn.fetchval("select cents from app.till") == 1
    door.open.set()
    await eventually(lambda: not zombie.runner.running)

    assert await bench.conn.fetchval("select cents from app.till") == 1
    assert await bench.outcomes(task) == ["waiting_for_retry", "complete"]


# --- more than a result -------------------------------------------------------------------

CHOICE = """
name: choice
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - {name: start, handler: {callable: start}}
  - {name: left, type: decision, handler: {callable: left}, dependencies: [start]}
  - {name: right, type: decision, handler: {callable: right}, dependencies: [start]}
  - {name: left_work, handler: {callable: start}, dependencies: [left]}
  - {name: right_work, handler: {callable: start}, dependencies: [right]}
"""


def choice():
    found = parse_template(CHOICE).template
    assert found is not None
    return found


async def test_a_decision_adds_its_steps_in_the_transaction(bench, kind, entries, monkeypatch):
    """Also when the task grows between plan and commit: the plan is made anew."""
    planned = []
    by_hand = {"decision_point_outcome": {"type": "create_steps", "step_names": ["right_work"]}}

    async def plan_and_grow(conn, batch):
        made = await expanded(conn, batch)
        planned.append(made[0].expansion)
        if len(planned) == 1:
            await complete_step(
                conn, TemplateShelf(), made[0].task_uuid, step_uuid(made[0].task_uuid, 3),
                result=by_hand,
                actor="ada", reason="a test", force=True,
            )  # fmt: skip
        return made

    expanded = transaction.expanded
    monkeypatch.setattr(transaction, "expanded", plan_and_grow)
    handler = kind.handler(after=lambda context: Shapes().decision_success(["left_work"]))
    await bench.worker({"start": nothing, "left": handler})

    state, task = await bench.run(choice())

    assert state == "complete"
    assert len(planned) == 2
    assert await entries() == [("left", 1)]
    assert await bench.outcomes(task, "left_work") == ["complete"]
    assert await bench.outcomes(task, "right_work") == ["complete"]


async def test_an_expansion_that_the_template_forbids_undoes_the_writes(bench, kind, entries):
    """A decision for a step that is not its own fails for good, and leaves nothing."""
    handler = kind.handler(after=lambda context: Shapes().decision_success(["right_work"]))
    await bench.worker({"start": nothing, "left": handler, "right": nothing})

    _, task = await bench.run(choice())

    assert await bench.outcomes(task, "left") == ["error"]
    assert await entries() == []


ROWS = """
name: rows
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: a
    handler: {callable: a}
    retry: {max_attempts: 3, backoff: none}
"""


async def test_a_checkpoint_is_committed_with_the_writes_before_it(bench, kind, entries):
    """Each range is written once: a failure goes on from the last checkpoint."""

    def after(context):
        done = context.checkpoint_items_processed + 1
        if done == 2 and not context.is_retry():
            raise ConnectionError("once")
        if done < 3:
            return Shapes().checkpoint_yield(cursor=done, items_processed=done)
        return {"rows": done}

    found = parse_template(ROWS).template
    assert found is not None
    await bench.worker({"a": kind.handler(after=after)})
    state, task = await bench.run(found)

    assert (state, await bench.result(task, "a")) == ("complete", {"rows": 3})
    assert await entries() == [("a", 1), ("a", 2), ("a", 2)]


async def test_the_worker_stops_after_the_commit(bench, kind, entries, door):
    """A graceful stop waits for the handler and for its transaction."""
    worker = await bench.worker({"a": kind.handler(inside=door)})
    task = await bench.begin(template(ONE))
    await asyncio.to_thread(door.inside.wait, 20)

    stopping = asyncio.ensure_future(worker.stop(drain_seconds=20))
    await eventually(lambda: worker._is_draining)
    door.open.set()
    await stopping

    assert await bench.settled(task) == "complete"
    assert await entries() == [("a", 1)]


# --- what may break -------------------------------------------------------------------------


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_commit_of_unknown_end(bench, kind, entries, monkeypatch, arrives):
    """The writes and the success are there, or neither is and the attempt is repeated."""
    broken = []

    async def commit(session):
        if not broken:
            broken.append(True)
            if arrives:
                await really(session)
            raise ConnectionResetError("cut off")
        await really(session)

    really = kind.session.commit
    monkeypatch.setattr(kind.session, "commit", commit)
    worker = await bench.worker({"a": kind.handler()})
    state, task = await bench.run(template(ONE, retry=NO_REST))

    assert state == "complete"
    if arrives:
        assert await bench.outcomes(task) == ["complete"]
        assert await entries() == [("a", 1)]
        await eventually(lambda: worker.finished_count == 1)
    else:
        first, second = await bench.attempts(task)
        assert (first["outcome"], second["outcome"]) == ("waiting_for_retry", "complete")
        assert first["error"]["error_type"] == "transaction_lost"
        assert await entries() == [("a", 2)]


async def test_a_commit_that_nobody_can_tell_of_is_decided_by_the_lease(
    bench, kind, entries, monkeypatch
):
    """The failure that is then recorded comes too late where the commit came through."""

    async def commit(session):
        await really(session)
        raise ConnectionResetError("cut off")

    async def no_answer(conn, transaction_id):
        return None

    really = kind.session.commit
    monkeypatch.setattr(kind.session, "commit", commit)
    monkeypatch.setattr(transaction, "transaction_outcome", no_answer)
    worker = await bench.worker({"a": kind.handler()})
    state, task = await bench.run(template(ONE, retry=NO_REST))
    await eventually(lambda: not worker.runner.running)

    assert (state, await bench.outcomes(task)) == ("complete", ["complete"])
    assert await entries() == [("a", 1)]


async def test_a_session_that_ends_in_the_middle(bench, kind, entries, door):
    """The server ends the connection while the handler is inside: the attempt is repeated."""
    await bench.worker({"a": kind.handler(inside=door)})
    task = await bench.begin(template(ONE, retry=NO_REST))
    await asyncio.to_thread(door.inside.wait, 20)
    await bench.conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'"
    )
    door.open.set()

    assert await bench.settled(task) == "complete"
    first, _ = await bench.attempts(task)
    assert first["error"]["error_type"] == "transaction_lost"
    assert await entries() == [("a", 2)]


async def test_a_deadlock_is_a_failure_to_be_repeated(bench, kind, entries, monkeypatch):
    """Whatever PostgreSQL rolls back for the sake of others gets another attempt."""
    await bench.conn.execute(
        "create function app.conflict() returns trigger language plpgsql as $$ begin "
        "if new.attempt = 1 then raise sqlstate '40001'; end if; return new; end $$; "
        "create constraint trigger late after insert on app.entries "
        "deferrable initially deferred for each row execute function app.conflict()"
    )
    await bench.worker({"a": kind.handler()})
    state, task = await bench.run(template(ONE, retry=NO_REST))

    assert state == "complete"
    first, _ = await bench.attempts(task)
    assert first["error"]["error_type"] == "transaction_conflict"
    assert await entries() == [("a", 2)]


# --- what a handler must not do ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["commit", "rollback"])
async def test_a_handler_must_not_end_the_transaction(bench, kind, entries, how):
    """The step fails for good, and the message says why; nothing is recorded as done."""
    if kind.is_async:

        async def handler(context):
            async with context.transaction(kind.engine) as conn:
                await _execute_async(conn, WRITE.format("a", 1))
                await (conn.execute(how) if kind.engine is None else getattr(conn, how)())
                await _execute_async(conn, WRITE.format("a", 2))
    else:

        def handler(context):
            with context.transaction(kind.engine) as conn:
                _execute(conn, WRITE.format("a", 1))
                getattr(conn, how)()
                _execute(conn, WRITE.format("a", 2))

    await bench.worker({"a": handler})
    state, task = await bench.run(template(ONE, retry=NO_REST))

    (past,) = await bench.attempts(task)
    assert state == "blocked_by_failures"
    assert past["error"]["error_type"] == "transaction_ended"
    assert ("a", 1) in await entries() or how == "rollback"


async def test_an_error_of_the_database_must_not_be_swallowed(bench, kind, entries):
    """PostgreSQL goes on with nothing after it, so the attempt fails and says what to do."""
    if kind.is_async:

        async def handler(context):
            async with context.transaction(kind.engine) as conn:
                try:
                    await _execute_async(conn, "select 1 / 0")
                except Exception:
                    if context.attempt == 2:
                        raise PermanentError("enough") from None
    else:

        def handler(context):
            with context.transaction(kind.engine) as conn:
                try:
                    _execute(conn, "select 1 / 0")
                except Exception:
                    if context.attempt == 2:
                        raise PermanentError("enough") from None

    await bench.worker({"a": handler})
    _, task = await bench.run(template(ONE, retry=NO_REST))

    first, second = await bench.attempts(task)
    assert first["error"]["error_type"] == "transaction_aborted"
    assert second["error"]["message"] == "enough"


async def _refused(bench, handler) -> str:
    """Run a handler that misuses its transaction; give what it is told."""
    worker = await bench.worker({"a": handler})
    state, task = await bench.run(template(ONE, retry=NO_REST))
    await worker.stop()
    (past,) = await bench.attempts(task)
    assert (state, past["error"]["error_type"]) == ("blocked_by_failures", "transaction_misuse")
    return past["error"]["message"]


async def test_a_second_transaction_is_refused(bench, kind):
    """One transaction an attempt, also after its block."""
    if kind.is_async:

        async def handler(context):
            async with context.transaction(kind.engine):
                pass
            async with context.transaction(kind.engine):
                pass
    else:

        def handler(context):
            with context.transaction(kind.engine):
                pass
            with context.transaction(kind.engine):
                pass

    assert "one transaction" in await _refused(bench, handler)


async def test_with_and_async_with_are_told_apart(bench, clean_database):
    """Each handler is told which block and which engine it needs."""

    async def blocks(context):
        with context.transaction():
            pass

    assert "`async with context.transaction()`" in await _refused(bench, blocks)

    engine = sqlalchemy.create_engine(_with_driver(clean_database, "psycopg"))

    async def wrong(context):
        async with context.transaction(engine):
            pass

    assert "create_async_engine" in await _refused(bench, wrong)

    def no_engine(context):
        with context.transaction(engine.url):
            pass

    assert "not URL" in await _refused(bench, no_engine)
    engine.dispose()


async def test_an_engine_must_lead_to_the_workers_database(bench, clean_database):
    """Another database, or no transaction at all, is noticed before anything is written."""
    other = sqlalchemy.create_engine(
        sqlalchemy.make_url(_with_driver(clean_database, "psycopg")).set(database="template1")
    )

    def handler(context):
        with context.transaction(other):
            pass

    assert "no schema tasker" in await _refused(bench, handler)
    other.dispose()

    loose = sqlalchemy.create_engine(
        _with_driver(clean_database, "psycopg"), isolation_level="AUTOCOMMIT"
    )

    def autocommits(context):
        with context.transaction(loose):
            pass

    assert "AUTOCOMMIT" in await _refused(bench, autocommits)
    loose.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_stricter_isolation_is_refused(bench, clean_database, level):
    """It would look at the past when it tells whether the task is done."""
    strict = sqlalchemy.create_engine(
        _with_driver(clean_database, "psycopg"), isolation_level=level
    )

    def handler(context):
        with context.transaction(strict):
            pass

    assert "must be READ COMMITTED" in await _refused(bench, handler)
    strict.dispose()


async def test_without_psycopg_a_thread_is_told_what_to_install(bench, monkeypatch):
    """Nothing but that step fails."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    def handler(context):
        with context.transaction():
            pass

    assert "pip install 'tasker-py[psycopg]'" in await _refused(bench, handler)


def test_without_a_database_there_is_no_transaction():
    """A context for unit tests says what to do instead."""
    with pytest.raises(TransactionMisuse, match="no database behind this context"):
        StepContext.for_testing().transaction()


def test_a_transaction_without_its_block_says_what_to_write():
    """It has nothing that a connection has."""
    transaction = StepTransaction(None)
    with pytest.raises(TransactionMisuse, match=r"`async with context\.transaction\(\) as conn:`"):
        transaction.execute("select 1")
    assert not hasattr(transaction, "__len__")


async def test_a_session_is_clean_when_the_next_one_gets_it(bench, kind, entries):
    """What a handler sets for its session is not there in the next step."""
    if kind.engine is not None:
        pytest.skip("the application's own pool")
    seen = []
    ask = "select set_config('app.who', 'me', false)"
    if kind.is_async:

        async def handler(context):
            async with context.transaction() as conn:
                seen.append(await conn.fetchval("select current_setting('app.who', true)"))
                await conn.execute(ask)
    else:

        def handler(context):
            with context.transaction() as conn:
                seen.append(conn.execute("select current_setting('app.who', true)").fetchone()[0])
                conn.execute(ask)

    await bench.worker({"a": handler, "b": handler, "c": handler})
    state, _ = await bench.run(template(CHAIN))

    assert state == "complete"
    assert [who or None for who in seen] == [None] * 3
