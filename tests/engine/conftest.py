"""Connections, a clock and workers for the tests of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from support.clock import Clock, installed
from support.flows import Worker
from support.invariants import check_history, check_invariants

pytest.register_assert_rewrite("support.lockstep", "support.comparison")

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def clock(clean_database: str) -> AsyncIterator[Clock]:
    """The database's clock, frozen, until the test moves it."""
    async with installed(clean_database) as clock:
        await clock.freeze()
        yield clock


@pytest.fixture
async def connect(clean_database: str) -> AsyncIterator[Connect]:
    """Opens as many connections as a test asks for."""
    opened: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        opened.append(await asyncpg.connect(clean_database))
        return opened[-1]

    yield connect
    for conn in opened:
        await conn.close()


@pytest.fixture
def worker(conn: asyncpg.Connection) -> Worker:
    """A worker that serves every lane."""
    return Worker(conn)


@pytest.fixture
async def consistent(conn: asyncpg.Connection) -> AsyncIterator[None]:
    """Checks after the test that the tables contradict nothing that is promised."""
    yield
    await check_invariants(conn)
    await check_history(conn)


@pytest.fixture
async def heard(connect: Connect) -> Callable[[], Awaitable[list[str]]]:
    """Gives the namespaces that were told since the last time that something is ready."""
    listener = await connect()
    payloads: list[str] = []
    await listener.add_listener("tasker_ready", lambda *facts: payloads.append(facts[-1]))

    async def heard() -> list[str]:
        await listener.fetch("select")  # what was sent before comes before the answer
        found, payloads[:] = payloads[:], []
        return found

    return heard
