"""Notifications arrive, and a broken connection is made again."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

import pytest

from tasker_core.db import listen
from tasker_core.db.listen import Listener, Notice
from tasker_core.errors import DatabaseUnreachable


class Ear(asyncio.Queue):
    """Collects what a listener calls back with."""

    async def next(self) -> Notice | None:
        return await asyncio.wait_for(self.get(), 20)


async def listening_pids(conn) -> list[int]:
    rows = await conn.fetch("select pid from pg_stat_activity where application_name = 'ear'")
    return [row["pid"] for row in rows]


@pytest.fixture
async def ear(database):
    """Give the ear of a listener on the channels one and two."""
    ear = Ear()
    async with Listener(partial(database.connect, "ear"), ["one", "two"], ear.put_nowait):
        yield ear


async def test_notices_arrive_with_channel_and_payload(ear, conn):
    """First comes the call that says "look for yourself", then what is sent."""
    assert await ear.next() is None

    await conn.execute("notify one, 'hello'")
    await conn.execute("notify two")

    assert await ear.next() == Notice("one", "hello")
    assert await ear.next() == Notice("two", "")


async def test_other_channels_are_not_heard(ear, conn):
    """Only what was asked for is called back."""
    assert await ear.next() is None

    await conn.execute("notify three")
    await conn.execute("notify one")

    assert await ear.next() == Notice("one", "")


async def test_a_terminated_connection_is_made_again(ear, conn):
    """After a loss the callback hears None, as notices may be missing, and then all goes on."""
    assert await ear.next() is None

    await conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ear'"
    )
    assert await ear.next() is None

    await conn.execute("notify one, 'still there'")
    assert await ear.next() == Notice("one", "still there")


async def test_a_connection_that_died_in_silence_is_noticed(database, conn, monkeypatch):
    """No packet tells of it: the session at the other end is frozen, and a check finds out."""
    monkeypatch.setattr(listen, "CHECK_TIMEOUT_SECONDS", 0.2)
    ear = Ear()
    connect = partial(database.connect, "ear")
    async with Listener(connect, ["one"], ear.put_nowait, check_seconds=0.05):
        assert await ear.next() is None
        [frozen] = await listening_pids(conn)
        os.kill(frozen, signal.SIGSTOP)
        try:
            assert await ear.next() is None
        finally:
            os.kill(frozen, signal.SIGCONT)


async def test_it_waits_for_a_database_that_is_away(database):
    """The first connection is tried as often as any later one."""
    ear = Ear()
    attempts = []

    async def connect():
        attempts.append(1)
        if len(attempts) < 3:
            raise DatabaseUnreachable("db", "down")
        return await database.connect("ear")

    async with Listener(connect, ["one"], ear.put_nowait):
        assert await ear.next() is None

    assert len(attempts) == 3


async def test_stop_closes_the_connection(database, conn):
    """A stopped listener leaves no session behind; to stop it twice is no harm."""
    ear = Ear()
    listener = Listener(partial(database.connect, "ear"), ["one"], ear.put_nowait)
    await listener.start()
    assert await ear.next() is None
    assert len(await listening_pids(conn)) == 1

    await listener.stop()
    await listener.stop()

    async with asyncio.timeout(20):
        while await listening_pids(conn):
            pass


async def test_stop_while_the_database_is_away():
    """A listener that never got a connection stops at once."""
    tried = asyncio.Event()

    async def connect():
        tried.set()
        raise DatabaseUnreachable("db", "down")

    async with Listener(connect, ["one"], lambda notice: None):
        await tried.wait()


async def test_what_is_no_outage_comes_out_of_stop():
    """A mistake in the caller's function is not hidden."""
    called = asyncio.Event()

    async def connect():
        called.set()
        raise ZeroDivisionError

    listener = Listener(connect, ["one"], lambda notice: None)
    await listener.start()
    await called.wait()

    with pytest.raises(ZeroDivisionError):
        await listener.stop()
