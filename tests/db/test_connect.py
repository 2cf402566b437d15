"""From the settings to a connection, and back to one after it broke."""

from __future__ import annotations

import asyncio
import json

import pytest

from tasker_core.db import Database, embedded, resolve_database
from tasker_core.db import connect as connect_module
from tasker_core.db.connect import driver_url, longest_rest, reconnect
from tasker_core.errors import DatabaseUnreachable
from tasker_core.settings import Settings


def test_a_configured_database_needs_no_server_of_ours(tmp_path):
    """With a URL in the settings, nothing is started."""
    settings = Settings(database_url="postgresql://me@db/app", home=tmp_path / "home")

    with resolve_database(settings) as database:
        assert database.url == "postgresql://me@db/app"
        assert database.embedded is None

    assert not (tmp_path / "home").exists()


def test_without_a_url_the_embedded_server_is_used(home, monkeypatch):
    """The database's life is that of the `with` block."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with resolve_database(Settings(home=home)) as database:
        assert database.embedded is not None
        assert embedded.status(home).running

    assert not embedded.status(home).running


async def test_a_connection_carries_its_name(database):
    """Whoever looks at pg_stat_activity sees which part of Tasker it is."""
    conn = await database.connect("tasker worker")

    assert await conn.fetchval("show application_name") == "tasker worker"
    await conn.close()


async def test_the_databases_default_isolation_does_not_matter(database):
    """The engine's functions lock, and then look at what is there at that moment."""
    admin = await database.connect("somebody")
    name = await admin.fetchval("select current_database()")
    await admin.execute(f"alter database {name} set default_transaction_isolation = serializable")
    try:
        conn = await database.connect("tasker worker")
        pool = await database.pool("tasker server", max_size=1, resets=False)
        assert await conn.fetchval("show transaction_isolation") == "read committed"
        for _ in range(2):
            async with pool.acquire() as own:
                assert await own.fetchval("show transaction_isolation") == "read committed"
        await pool.close()
        await conn.close()
    finally:
        await admin.execute(f"alter database {name} reset default_transaction_isolation")
        await admin.close()


async def test_who_is_cancelled_while_connecting_leaves_no_session(database, monkeypatch):
    """Nobody else knows of the connection; an open one keeps uvloop from closing."""
    asked = asyncio.Queue()

    async def never_answered(conn):
        asked.put_nowait(conn)
        await asyncio.Event().wait()

    monkeypatch.setattr(connect_module, "_read_committed", never_answered)
    connecting = asyncio.create_task(database.connect("tasker worker"))
    conn = await asked.get()
    connecting.cancel()
    await asyncio.wait({connecting})

    assert connecting.cancelled()
    assert conn.is_closed()


async def test_json_stays_text(conn):
    """No codec parses what no handler may ever read."""
    text = json.dumps({"a": 1})

    assert await conn.fetchval("select $1::jsonb", text) == text


async def test_a_pool_serves_several_at_once(database):
    """Two connections of a pool are two sessions."""
    pool = await database.pool("tasker server", max_size=2)
    async with pool, pool.acquire() as one, pool.acquire() as two:
        pids = [await c.fetchval("select pg_backend_pid()") for c in (one, two)]
        assert await one.fetchval("show application_name") == "tasker server"

    assert pids[0] != pids[1]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@/app?host=/nowhere",
        "postgresql://me:secret@127.0.0.1:1/app",
        "postgresql://me:secret@host.invalid/app",
        "postgresql://me:secret@127.0.0.1:port/app",
        "postgresql://me:secret/secret@127.0.0.1/app",
    ],
)
async def test_nobody_answers(url):
    """The error names the address, and never the password."""
    with pytest.raises(DatabaseUnreachable) as caught:
        await Database(url).connect("test")

    assert "me:***@" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_unknown_database(postgres_url):
    """A server that refuses is as unreachable as one that is silent."""
    with pytest.raises(DatabaseUnreachable, match="does not exist"):
        await Database(postgres_url.replace("/tasker?", "/nowhere?")).connect("test")


async def test_a_dead_embedded_server_is_started_by_the_next_connection(home):
    """A connection is all that one has to ask for."""
    lease = await asyncio.to_thread(embedded.acquire, home)
    database = Database(lease.url, lease)
    await asyncio.to_thread(embedded.stop, home)

    conn = await database.connect("test")

    assert await conn.fetchval("select 1") == 1
    await conn.close()
    await asyncio.to_thread(database.close)
    assert not (await asyncio.to_thread(embedded.status, home)).running


async def test_reconnect_tries_until_it_works():
    """Failures are rested over; the first success is the answer."""
    answers = iter([DatabaseUnreachable("db", "down"), DatabaseUnreachable("db", "down"), "conn"])

    async def connect() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await reconnect(connect, asyncio.Event()) == "conn"


async def test_reconnect_ends_when_told():
    """A stop amid the attempts is answered with None."""
    stop = asyncio.Event()

    async def connect() -> str:
        stop.set()
        raise DatabaseUnreachable("db", "down")

    assert await reconnect(connect, stop) is None


async def test_reconnect_leaves_other_errors_alone():
    """What a new attempt cannot cure is the caller's to see."""

    async def connect() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await reconnect(connect, asyncio.Event())


def test_rests_grow_to_a_bound():
    """Resting begins at a tenth of a second, and never exceeds five."""
    rests = [longest_rest(attempt) for attempt in range(1, 2000)]

    assert rests[:3] == [0.1, 0.2, 0.4]
    assert rests == sorted(rests)
    assert rests[-1] == 5.0


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("postgres://me@db/app", "postgresql://me@db/app"),
        ("postgresql+asyncpg://me:p%40ss@db:5433/app", "postgresql://me:p%40ss@db:5433/app"),
        (
            "postgresql://me@db/app?sslmode=require&channel_binding=require",
            "postgresql://me@db/app?sslmode=require",
        ),
        ("postgresql://me@/app?host=/run/a%20b", "postgresql://me@/app?host=/run/a%20b"),
    ],
)
def test_urls_made_for_other_drivers(given, understood):
    """What hosters and SQLAlchemy write is understood."""
    assert driver_url(given) == understood
