"""Keys that programs call the API with.

A key is random, shown once, and kept as a digest: who reads the table cannot call with
it. It says what its holder may do, in which namespaces, and until when.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasker_core.db.connect import Connection
from tasker_core.errors import UnknownApiKey

_WELL_FORMED = re.compile(r"tk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as it may be shown. Times are by the database's clock."""

    key_id: str
    name: str
    permissions: list[str]
    namespaces: list[str] | None  # None: all
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    is_valid: bool  # neither revoked nor expired
    valid_for: timedelta | None  # None: until it is revoked


_KEYS = """
select key_id, name, permissions, namespaces, created_at, created_by, expires_at, revoked_at,
    revoked_by,
    revoked_at is null and coalesce(expires_at > tasker.now(), true) as is_valid,
    expires_at - tasker.now() as valid_for
from tasker.api_keys
"""


async def create_api_key(
    conn: Connection,
    name: str,
    *,
    permissions: Sequence[str],
    namespaces: Sequence[str] | None = None,
    lifetime: timedelta | None = None,
    actor: str,
) -> tuple[str, ApiKey]:
    """Make a key; what is given first is the key itself, which nobody can read again.

    Args:
        name: Who will call with it.
        permissions: What its holder may do.
        namespaces: Where; None is everywhere.
        lifetime: How long it holds; None is until it is revoked.
        actor: Who makes it.
    """
    key_id = secrets.token_hex(6)
    key = f"tk_{key_id}_{secrets.token_urlsafe(32)}"
    await conn.execute(
        "insert into tasker.api_keys "
        "(key_id, digest, name, permissions, namespaces, created_at, created_by, expires_at) "
        "values ($1, $2, $3, $4, $5, tasker.now(), $6, tasker.now() + $7::interval)",
        key_id,
        _digest(key),
        name,
        sorted(set(permissions)),
        None if namespaces is None else sorted(set(namespaces)),
        actor,
        lifetime,
    )
    return key, await get_api_key(conn, key_id)


async def get_api_key(conn: Connection, key_id: str) -> ApiKey:
    """Read one key by what may be shown of it.

    Raises:
        UnknownApiKey: There is none.
    """
    row = await conn.fetchrow(f"{_KEYS} where key_id = $1", key_id)
    if row is None:
        raise UnknownApiKey(key_id)
    return ApiKey(**row)


async def find_api_key(conn: Connection, key: str) -> ApiKey | None:
    """Find the key that somebody calls with, whether or not it is still valid."""
    if not _WELL_FORMED.fullmatch(key):
        return None
    row = await conn.fetchrow(f"{_KEYS} where digest = $1", _digest(key))
    return None if row is None else ApiKey(**row)


async def list_api_keys(conn: Connection) -> list[ApiKey]:
    """List all keys, also those that do not hold any more, the youngest first."""
    rows = await conn.fetch(f"{_KEYS} order by created_at desc, key_id")
    return [ApiKey(**row) for row in rows]


async def revoke_api_key(conn: Connection, key_id: str, *, actor: str) -> ApiKey:
    """End a key; to revoke it twice is no error, and the first time counts.

    Raises:
        UnknownApiKey: There is none.
    """
    await conn.execute(
        "update tasker.api_keys set revoked_at = tasker.now(), revoked_by = $2 "
        "where key_id = $1 and revoked_at is null",
        key_id,
        actor,
    )
    return await get_api_key(conn, key_id)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
