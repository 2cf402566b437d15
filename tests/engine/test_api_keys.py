"""API keys: random, kept as a digest, ended by their time or by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from support.clock import Clock
from tasker_core.engine.api_keys import (
    create_api_key,
    find_api_key,
    get_api_key,
    list_api_keys,
    revoke_api_key,
)
from tasker_core.errors import UnknownApiKey


async def test_a_key_is_kept_as_a_digest_only(conn: Any) -> None:
    """Nothing that is stored or listed can be called with."""
    key, made = await create_api_key(
        conn, "checkout", permissions=["tasks:read", "tasks:create"], actor="ada"
    )
    stored = str(await conn.fetch("select * from tasker.api_keys")) + str(await list_api_keys(conn))

    assert key not in stored
    assert key.rpartition("_")[2] not in stored
    assert key.startswith(f"tk_{made.key_id}_")
    assert (made.permissions, made.namespaces) == (["tasks:create", "tasks:read"], None)
    assert (made.created_by, made.is_valid, made.valid_for) == ("ada", True, None)
    assert await find_api_key(conn, key) == made


async def test_only_the_whole_key_is_found(conn: Any) -> None:
    """Not its id, not a part of it, not another one."""
    key, made = await create_api_key(conn, "a", permissions=["tasks:read"], actor="ada")
    other, _ = await create_api_key(conn, "a", permissions=["tasks:read"], actor="ada")

    assert key != other
    for wrong in (made.key_id, key[:-1], key + "a", key.upper(), f"{key}\x00", "", "é"):
        assert await find_api_key(conn, wrong) is None


async def test_a_key_ends_by_its_time(conn: Any, clock: Clock) -> None:
    """By the database's clock."""
    key, _ = await create_api_key(
        conn, "a", permissions=["tasks:read"], lifetime=timedelta(hours=1), actor="ada"
    )
    await clock.advance(3540)
    before = await find_api_key(conn, key)
    await clock.advance(60)
    after = await find_api_key(conn, key)

    assert before is not None
    assert after is not None
    assert (before.is_valid, before.valid_for) == (True, timedelta(minutes=1))
    assert not after.is_valid


async def test_the_first_revocation_counts(conn: Any) -> None:
    """A second one changes nothing, and tells what was."""
    key, made = await create_api_key(conn, "a", permissions=["tasks:read"], actor="ada")
    first = await revoke_api_key(conn, made.key_id, actor="ada")
    second = await revoke_api_key(conn, made.key_id, actor="bob")
    found = await find_api_key(conn, key)

    assert first == second == found
    assert (first.revoked_by, first.is_valid) == ("ada", False)
    with pytest.raises(UnknownApiKey, match="list-keys"):
        await revoke_api_key(conn, "000000000000", actor="ada")
    with pytest.raises(UnknownApiKey):
        await get_api_key(conn, "000000000000")
