"""What a broken connection looks like, and how long to rest before the next call."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import asyncpg

from tasker_core.db.connect import Database, longest_rest
from tasker_core.errors import DatabaseUnreachable

# A server that shuts down, has become a replica or is out of memory says so in many
# ways, and each is cured by connecting again. Every call of a worker may be repeated.
BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def connect(database: Database, application_name: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connect as `database.connect` does; whatever breaks on the way counts as unreachable."""
    with unreachable_if_broken():
        return await database.connect(application_name)


@contextlib.contextmanager
def unreachable_if_broken() -> Iterator[None]:
    """Let whatever breaks the connection count as a database that cannot be reached."""
    try:
        yield
    except BROKEN as error:
        raise DatabaseUnreachable("the database", reason(error)) from error


def reason(error: BaseException) -> str:
    """Say what happened, for a log."""
    return str(error) or type(error).__name__


async def rest(failures: int, stop: asyncio.Event) -> None:
    """Rest after so many failures in a row, unless `stop` is set; after none, go on."""
    if failures > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), random.uniform(0, longest_rest(failures)))
