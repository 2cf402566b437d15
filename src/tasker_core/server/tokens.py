"""A token (JWT) → who calls.

A token that was checked is known until it expires, so that its signature is checked
once; if the keys change, all are checked anew.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tasker_core.server.auth import Caller, check_words, unauthorized
from tasker_core.server.jwks import Keys
from tasker_core.settings import Settings

MOST_TOKENS = 4096
LONGEST_NAME = 255
LAST_MOMENT = 253_402_300_799  # of the year 9999
REQUIRED = ("sub", "iss", "aud", "exp", "iat")


class Tokens:
    """Checks tokens; see `keys_of` for the keys."""

    def __init__(
        self, keys: Keys, settings: Settings, *, now: Callable[[], float] = time.time
    ) -> None:
        self.keys, self._settings, self._now = keys, settings, now
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._generation = keys.generation

    def knows(self, token: str) -> bool:
        """Say whether this token was checked before."""
        return _digest(token) in self._known

    async def caller(self, token: str) -> Caller:
        """Check a token.

        Raises:
            Refusal: It is not a token of our issuer for us, or does not hold now: 401.
        """
        digest = _digest(token)
        self.keys.keep_fresh()
        self._forget_if_keys_changed()
        if (known := self._known.get(digest)) and self.keys.is_usable():
            found, ends_at = known
            if self._now() < ends_at:
                self._known.move_to_end(digest)
                return found
        claims = await self._check(token)
        found = self._read(claims)
        self._forget_if_keys_changed()
        self._known[digest] = (found, _moment(claims) + self._settings.jwt_leeway_seconds)
        while len(self._known) > MOST_TOKENS:
            self._known.popitem(last=False)
        return found

    def _forget_if_keys_changed(self) -> None:
        if self._generation != self.keys.generation:
            self._known.clear()
            self._generation = self.keys.generation

    async def _check(self, token: str) -> dict[str, Any]:
        import jwt

        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise unauthorized("malformed", "this is not a token") from None
        if "crit" in header:
            raise unauthorized("invalid", "the token asks for extensions that are not known")
        key_id = header.get("kid")
        key = await self.keys.find(key_id if isinstance(key_id, str) else None)
        if key is None:
            raise unauthorized("invalid", "the token is signed with a key that is not known")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                leeway=settings.jwt_leeway_seconds,
                options={"require": list(REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise unauthorized("expired", "the token has expired") from None
        except jwt.InvalidTokenError as error:
            raise unauthorized("invalid", f"the token is not valid: {_told(error)}") from None
        return claims

    def _read(self, claims: Mapping[str, Any]) -> Caller:
        name = claims["sub"]
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise unauthorized("invalid", "the token's sub is no name of 1 to 255 characters")
        namespaces = self._words(claims, self._settings.jwt_namespaces_claim)
        permissions = self._words(claims, self._settings.jwt_permissions_claim)
        check_words(permissions, "the token", strict=self._settings.strict_permissions)
        return Caller(
            name,
            "jwt",
            permissions=permissions,
            namespaces=None if namespaces in (frozenset(), frozenset({"*"})) else namespaces,
            expires_at=datetime.fromtimestamp(_moment(claims), UTC),
        )

    def _words(self, claims: Mapping[str, Any], claim: str) -> frozenset[str]:
        """Read a claim that is a list of words, or text with words in it."""
        found: Any = claims.get(claim)
        if found is None:
            found = claims
            for part in claim.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        if found is None:
            return frozenset()
        words = found.split() if isinstance(found, str) else found
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise unauthorized("invalid", f"the token's {claim} is no list of words")
        return frozenset(words)


def _moment(claims: Mapping[str, Any]) -> int:
    return min(int(claims["exp"]), LAST_MOMENT)  # a token may hold for longer than time does


def _told(error: Exception) -> str:
    """Say what is wrong with a token, without anything that stands in it."""
    import jwt

    told = {
        jwt.InvalidSignatureError: "its signature does not fit",
        jwt.InvalidAlgorithmError: "its algorithm is not allowed for this key",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is from another issuer",
        jwt.ImmatureSignatureError: "it does not hold yet",
        jwt.MissingRequiredClaimError: f"it must have {', '.join(REQUIRED)}",
    }
    return next((text for kind, text in told.items() if isinstance(error, kind)), "it is malformed")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
