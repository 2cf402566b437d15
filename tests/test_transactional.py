"""Tasks in the transactions of applications, through every library that is supported."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from pydantic import BaseModel
from sqlalchemy.orm import Session

from support.drivers import (
    CALLERS,
    AlchemyAsync,
    Asyncpg,
    Caller,
    Django,
    Psycopg,
    PsycopgAsync,
    alchemy_url,
)
from support.flows import DIAMOND, Worker, names, template
from support.invariants import check_invariants
from tasker_core.engine.inspect import get_task
from tasker_core.engine.register import register_template
from tasker_core.errors import DuplicateTask, InvalidContext, InvalidRequest, UnknownTemplate
from tasker_core.transactional import (
    NewTask,
    create_task,
    create_task_async,
    create_tasks,
    create_tasks_async,
)

Open = Callable[..., Awaitable[Caller]]

FLOW = template(
    DIAMOND,
    identity_strategy="strict",
    input_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
)
IN_SHOP = {"namespace": "shop"}


@pytest.fixture(autouse=True)
async def orders(conn: asyncpg.Connection) -> AsyncIterator[None]:
    """The template, and a table of the application's own."""
    await register_template(conn, FLOW)
    await conn.execute("create table public.orders (number text primary key)")
    yield
    await check_invariants(conn)
    await conn.execute("drop table public.orders")


@pytest.fixture
async def opens(clean_database: str) -> AsyncIterator[Open]:
    """Opens as many connections as a test asks for; none waits for longer than ten seconds."""
    opened: list[Caller] = []

    async def opens(kind: type[Caller]) -> Caller:
        caller = kind()
        await caller.open(clean_database)
        opened.append(caller)
        await caller.begin()
        await caller.run("set local lock_timeout = '10s'")
        return caller

    yield opens
    for caller in opened:
        await caller.close()


@pytest.fixture(params=CALLERS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Caller]:
    """A library."""
    return request.param


async def written(conn: asyncpg.Connection) -> tuple[list[str], list[UUID]]:
    """Give the orders and the tasks that a third party sees."""
    numbers = await conn.fetch("select number from public.orders order by 1")
    tasks = await conn.fetch("select task_uuid from tasker.tasks order by 1")
    return [row[0] for row in numbers], [row[0] for row in tasks]


# --- one transaction --------------------------------------------------------------------


async def test_a_task_comes_with_the_callers_commit(clean_database, conn, opens, kind):
    """Until then nobody sees it; then workers are told, and claim its first step."""
    listener = await asyncpg.connect(clean_database)
    told: list[str] = []
    await listener.add_listener("tasker_ready", lambda *facts: told.append(facts[-1]))
    caller, worker = await opens(kind), Worker(conn)

    await caller.run("insert into public.orders values ('A-1')")
    made = await caller.create("flow", {"n": 1}, **IN_SHOP)

    await listener.fetch("select")
    assert (told, await written(conn), await worker.claim()) == ([], ([], []), [])
    await caller.commit()
    await listener.fetch("select")  # what was sent before comes before the answer
    assert (told, await written(conn)) == (["shop"], (["A-1"], [made]))
    assert names(await worker.claim()) == ["a"]
    await listener.close()


async def test_a_task_goes_with_the_callers_rollback(conn, opens, kind):
    """It never was, and its identity is free."""
    caller = await opens(kind)
    await caller.run("insert into public.orders values ('A-1')")
    await caller.create("flow", {"n": 1}, **IN_SHOP)

    await caller.rollback()

    assert await written(conn) == ([], [])
    await caller.begin()
    made = await caller.create("flow", {"n": 1}, **IN_SHOP)
    await caller.commit()
    assert await written(conn) == ([], [made])


async def test_a_refused_task_leaves_the_transaction_usable(conn, opens, kind):
    """Whatever it was refused for, what came before and what comes after are committed."""
    caller = await opens(kind)
    await caller.run("insert into public.orders values ('before')")
    made = await caller.create("flow", {"n": 1}, **IN_SHOP)

    for name, context, more, error in (
        ("flow", {"n": 1}, {}, DuplicateTask),
        ("flow", {"n": "one"}, {}, InvalidContext),
        ("flow", {"n": float("nan")}, {}, InvalidContext),
        ("flow", [1], {}, InvalidContext),
        ("flaw", {"n": 2}, {}, UnknownTemplate),
        ("flow", {"n": 2}, {"version": "2.0.0"}, UnknownTemplate),
        ("flow", {"n": 2}, {"priority": 1.5}, InvalidRequest),
        ("flow", {"n": 2}, {"idempotency_key": 7}, InvalidRequest),
        ("flow", {"n": 2}, {"tags": "tag"}, InvalidRequest),
        ("flow", {"n": 2}, {"correlation_id": "x"}, InvalidRequest),
    ):
        with pytest.raises(error):
            await caller.create(name, context, **IN_SHOP, **more)

    await caller.run("insert into public.orders values ('then')")
    await caller.commit()
    assert await written(conn) == (["before", "then"], [made])


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_of_two_transactions_with_one_key_the_second_waits(conn, opens, kind, commits):
    """For the first to end: if that commits, the task exists, and else the second creates it."""
    first, second = await opens(kind), await opens(kind)
    pid = await second.run("select pg_backend_pid()")
    made = await first.create("flow", {"n": 1}, idempotency_key="A-1", **IN_SHOP)

    pending = asyncio.ensure_future(
        second.create("flow", {"n": 2}, idempotency_key="A-1", **IN_SHOP)
    )
    while not await conn.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        assert not pending.done()
    await (first.commit() if commits else first.rollback())

    if commits:
        with pytest.raises(DuplicateTask):
            await pending
    else:
        made = await pending
    await second.run("insert into public.orders values ('A-1')")
    await second.commit()
    assert await written(conn) == (["A-1"], [made])


async def test_a_duplicate_that_the_caller_cannot_see_is_one_all_the_same(conn, opens, kind):
    """With a snapshot that is older than the other task."""
    caller, other = await opens(kind), await opens(Asyncpg)
    await caller.rollback()
    await caller.begin()
    await caller.run("set transaction isolation level repeatable read")
    await caller.run("select 1")
    made = await other.create("flow", {"n": 1}, **IN_SHOP)
    await other.commit()

    with pytest.raises(DuplicateTask):
        await caller.create("flow", {"n": 1}, **IN_SHOP)

    await caller.run("insert into public.orders values ('A-1')")
    await caller.commit()
    assert await written(conn) == (["A-1"], [made])


# --- what is kept, and how it may be asked for --------------------------------------------


async def test_what_was_asked_for_is_kept(conn, opens, kind):
    """Every field, to the last character."""
    caller = await opens(kind)
    correlation, parent = uuid4(), uuid4()
    context = {"n": 2**53 + 1, "é": ["%s :a1 $1 \\ ' \" {}", None, 1.5]}

    made = await caller.create(
        "flow",
        context,
        version="1.0.0",
        priority=-7,
        tags=["x", "ü,{}"],
        idempotency_key="A-1\t%",
        initiator="ann",
        source_system="web",
        reason="because :it %(a1)s",
        correlation_id=correlation,
        parent_correlation_id=parent,
        **IN_SHOP,
    )

    await caller.commit()
    task = await get_task(conn, made)
    assert (task.context, task.priority, task.tags) == (context, -7, ["x", "ü,{}"])
    assert (task.initiator, task.source_system) == ("ann", "web")
    assert (task.reason, task.correlation_id) == ("because :it %(a1)s", correlation)
    assert task.parent_correlation_id == parent


class Order(BaseModel):
    n: int


async def test_many_are_created_at_once(clean_database, conn):
    """In the order of the requests, all or none; a context may be a model."""
    new = [NewTask(name="flow", context=Order(n=n), **IN_SHOP) for n in range(5)]
    made = await create_tasks_async(conn, iter(new))
    with psycopg.connect(clean_database) as other:
        twins = [NewTask(name="flow", context={"n": n}, **IN_SHOP) for n in (6, 0, 7, 1)]
        with pytest.raises(DuplicateTask) as caught:
            create_tasks(other, twins)
        assert create_tasks(other, []) == []
        made += create_tasks(other, twins[::2])

    assert caught.value.positions == (1, 3)
    contexts = [(await get_task(conn, one)).context["n"] for one in made]
    assert contexts == [0, 1, 2, 3, 4, 6, 7]


async def test_without_a_transaction_a_task_is_there_at_once(clean_database, conn):
    """On connections that commit each statement by itself; a duplicate is told as ever."""
    engine = sqlalchemy.create_engine(
        alchemy_url(clean_database, "psycopg"), isolation_level="AUTOCOMMIT"
    )
    with psycopg.connect(clean_database, autocommit=True) as one, engine.connect() as two:
        for connection in (one, two):
            create_task(connection, "flow", {"n": id(connection)}, **IN_SHOP)
            with pytest.raises(DuplicateTask):
                create_task(connection, "flow", {"n": id(connection)}, **IN_SHOP)
        await create_task_async(conn, "flow", {"n": 1}, **IN_SHOP)

        assert await conn.fetchval("select count(*) from tasker.tasks") == 3
    engine.dispose()


async def test_what_an_application_set_on_its_connection_does_not_matter(clean_database, conn):
    """Rows as dicts, cursors with another SQL, codecs for JSON."""
    with psycopg.connect(
        clean_database, row_factory=dict_row, cursor_factory=psycopg.RawCursor
    ) as one:
        made = [create_task(one, "flow", {"n": 1}, **IN_SHOP)]
    for name in ("json", "jsonb"):
        await conn.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    made += [await create_task_async(conn, "flow", {"n": 2}, tags=["x"], **IN_SHOP)]

    rows = await conn.fetch("select context, tags from tasker.tasks order by context ->> 'n'")
    assert [tuple(row) for row in rows] == [({"n": 1}, []), ({"n": 2}, ["x"])]


async def test_a_session_is_not_flushed(clean_database):
    """What the application has pending stays pending until it says so."""

    class Base(sqlalchemy.orm.DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "orders"
        number: sqlalchemy.orm.Mapped[str] = sqlalchemy.orm.mapped_column(primary_key=True)

    engine = sqlalchemy.create_engine(alchemy_url(clean_database, "psycopg"))
    with Session(engine) as session:
        session.add(row := Row(number="A-1"))
        create_task(session, "flow", {"n": 1}, **IN_SHOP)
        assert list(session.new) == [row]
        session.commit()
        assert session.scalar(sqlalchemy.text("select count(*) from tasker.tasks")) == 1
    engine.dispose()


# --- what is no connection ----------------------------------------------------------------


async def test_a_connection_of_no_known_kind_is_told_those_that_are():
    """So is one of the other colour, and one to another database."""
    engine = sqlalchemy.create_engine("sqlite://")
    lite = sqlite3.connect(":memory:")

    for wrong in (lite, engine, None, "postgresql://"):
        with pytest.raises(TypeError, match=r"takes psycopg Connection, SQLAlchemy Connection"):
            create_task(wrong, "flow", {})
        with pytest.raises(TypeError, match=r"takes asyncpg Connection, psycopg AsyncConn"):
            await create_task_async(wrong, "flow", {})
    with engine.connect() as connection, pytest.raises(TypeError, match="connection is to sqlite"):
        create_task(connection, "flow", {})
    lite.close()
    engine.dispose()


@pytest.mark.parametrize("kind", [Asyncpg, PsycopgAsync, AlchemyAsync, Psycopg, Django])
async def test_the_other_function_is_named(opens, kind):
    """A sync connection in the async function, and the other way round."""
    caller = await opens(kind)
    sync = kind in (Psycopg, Django)

    wrong = create_task_async if sync else without_await
    with pytest.raises(TypeError, match="call create_task or" if sync else "await create_task_as"):
        await wrong(caller.connection, "flow", {})


async def without_await(*args: Any) -> None:
    create_task(*args)


def test_no_library_is_imported_for_it():
    """Whoever uses one of them pays for that one."""
    code = (
        "import sys, tasker_core.transactional as t\n"
        "try: t.create_task(None, 'flow', {})\n"
        "except TypeError: pass\n"
        "print({'psycopg', 'sqlalchemy', 'django'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
