"""An API key → who calls.

What the database says of a key is known for a few seconds, so that a key costs no
statement a request; a key that is revoked works on for that long, at most.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tasker_core.engine.api_keys import ApiKey, find_api_key
from tasker_core.server.auth import Caller, check_words, unauthorized
from tasker_core.server.backend import Backend

KNOWN_SECONDS = 5.0
MOST_KEYS = 4096


class ApiKeys:
    """Looks keys up, and remembers them for a moment."""

    def __init__(self, backend: Backend, *, now: Callable[[], float] = time.monotonic) -> None:
        self._backend, self._now = backend, now
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def knows(self, key: str) -> bool:
        """Say whether this key was valid when it was looked at last."""
        return _digest(key) in self._known

    async def caller(self, key: str) -> Caller:
        """Look a key up.

        Raises:
            Refusal: There is no such key, or it does not hold any more: 401.
            DatabaseUnreachable: It cannot be looked up.
        """
        digest = _digest(key)
        if (known := self._known.get(digest)) and self._now() < known[1]:
            self._known.move_to_end(digest)
            return known[0]
        asked_at = self._now()
        async with self._backend.connection() as conn:
            found = await find_api_key(conn, key)
        if found is None or not found.is_valid:
            self._known.pop(digest, None)
            if found is None:
                raise unauthorized("invalid", "the API key is not known")
            if found.revoked_at is not None:
                raise unauthorized("invalid", "the API key was revoked")
            raise unauthorized("expired", "the API key has expired")
        strict = self._backend.settings.strict_permissions
        check_words(found.permissions, f"API key {found.key_id}", strict=strict)
        seconds = KNOWN_SECONDS
        if found.valid_for is not None:
            seconds = min(seconds, found.valid_for / timedelta(seconds=1))
        self._known[digest] = (_caller(found), asked_at + seconds)
        self._known.move_to_end(digest)
        while len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
        return self._known[digest][0]


def _caller(key: ApiKey) -> Caller:
    return Caller(
        key.name,
        "api_key",
        permissions=frozenset(key.permissions),
        namespaces=None if key.namespaces is None else frozenset(key.namespaces),
        expires_at=None if key.valid_for is None else datetime.now(UTC) + key.valid_for,
        key_id=key.key_id,
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
