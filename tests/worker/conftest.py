"""A bench for workers in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from support.invariants import check_history, check_invariants
from support.workers import Bench


@pytest.fixture
async def bench(clean_database: str, conn: asyncpg.Connection) -> AsyncIterator[Bench]:
    """Tasks and workers; afterwards the tables must not contradict themselves."""
    bench = Bench(clean_database, conn)
    try:
        yield bench
    finally:
        await bench.close()
    await check_invariants(conn)
    await check_history(conn)
