"""What the server remembers of API keys, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tasker_core.db import Database
from tasker_core.engine.api_keys import create_api_key, revoke_api_key
from tasker_core.errors import DatabaseUnreachable
from tasker_core.server.backend import Backend
from tasker_core.server.keys import KNOWN_SECONDS, ApiKeys
from tasker_core.server.problems import Refusal
from tasker_core.settings import Settings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[Backend]:
    """A hold on the database."""
    backend = Backend(settings)
    backend.pool = await Database(str(settings.database_url)).pool("test", max_size=2)
    yield backend
    await backend.pool.close()


async def test_a_revoked_key_works_for_a_few_seconds_at_most(backend: Backend, conn: Any) -> None:
    """As long as what was read of it is known, and not a moment longer."""
    clock = Clock()
    keys = ApiKeys(backend, now=clock)
    key, made = await create_api_key(conn, "a", permissions=["tasks:read"], actor="ada")
    await keys.caller(key)
    await revoke_api_key(conn, made.key_id, actor="ada")

    clock.now += KNOWN_SECONDS - 0.1
    assert (await keys.caller(key)).name == "a"
    clock.now += 0.1
    with pytest.raises(Refusal, match="revoked"):
        await keys.caller(key)
    assert not keys.knows(key)
    assert KNOWN_SECONDS <= 5


async def test_a_key_with_a_permission_that_there_is_not_is_refused(
    backend: Backend, conn: Any
) -> None:
    """However it came into the table; `tasker-ctl` makes none."""
    key, made = await create_api_key(conn, "a", permissions=["tasks:delete"], actor="ada")
    with pytest.raises(Refusal, match="'tasks:delete'") as caught:
        await ApiKeys(backend).caller(key)

    assert caught.value.more["reason"] == "unknown_permission"
    assert made.key_id in caught.value.detail


async def test_a_known_key_asks_nothing_and_ends_by_its_time(backend: Backend, conn: Any) -> None:
    """Without the database it is known for the same few seconds, then nobody is let in."""
    clock = Clock()
    keys = ApiKeys(backend, now=clock)
    short = timedelta(seconds=2)
    key, _ = await create_api_key(
        conn, "a", permissions=["tasks:read"], lifetime=short, actor="ada"
    )
    await keys.caller(key)
    pool, backend.pool = backend.pool, None
    clock.now += 1
    assert (await keys.caller(key)).name == "a"
    clock.now += 1
    with pytest.raises(DatabaseUnreachable):
        await keys.caller(key)
    backend.pool = pool


async def test_what_is_known_is_bounded(
    backend: Backend, conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that was used longest ago is forgotten first; unknown ones are not kept at all."""
    monkeypatch.setattr("tasker_core.server.keys.MOST_KEYS", 2)
    keys = ApiKeys(backend, now=Clock())
    made = [
        (await create_api_key(conn, "a", permissions=["tasks:read"], actor="ada"))[0]
        for _ in range(3)
    ]
    for key in made:
        await keys.caller(key)
    for number in range(10):
        with pytest.raises(Refusal):
            await keys.caller(f"tk_000000000000_{number:043}")

    assert [keys.knows(key) for key in made] == [False, True, True]
    assert len(keys._known) == 2
