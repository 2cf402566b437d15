"""The public keys that tokens are checked with: one that is given, or those of a provider.

A key may be used with the algorithms of its own kind only, all of them asymmetric: what
the header of a token says chooses among these and never beyond them. So a public key is
never taken for the secret of an HMAC, and `none` is no algorithm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from tasker_core.errors import InvalidSettings
from tasker_core.settings import Settings, safe_url

if TYPE_CHECKING:
    import httpx

FETCH_SECONDS = 10.0
MAX_BYTES = 1024 * 1024
MAX_STALE_SECONDS = 24 * 3600.0  # how long keys hold that cannot be read anew
BETWEEN_FETCHES_SECONDS = 30.0  # that unknown keys and failures ask for
LEAST_RSA_BITS = 2048

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}

_log = structlog.get_logger("tasker.server")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the algorithms that it may be used with."""

    key: Any
    algorithms: tuple[str, ...]


class Keys(Protocol):
    """Where keys come from. `generation` changes when a key may have gone."""

    generation: int

    async def find(self, key_id: str | None) -> VerificationKey | None:
        """Find the key that a token names."""

    def keep_fresh(self) -> None:
        """Begin to read the keys anew, if they are old."""

    def is_usable(self) -> bool:
        """Say whether any token can be checked."""


def keys_of(settings: Settings) -> Keys | None:
    """Make the keys that the settings name; None: tokens are not accepted.

    Raises:
        InvalidSettings: They name more than one, or one that is no public key.
    """
    named = ("jwt_public_key", "jwt_public_key_path", "jwks_url")
    given = [name for name in named if getattr(settings, name)]
    if len(given) > 1:
        raise InvalidSettings([f"{' and '.join(given)} are set; give one of them"])
    if settings.jwks_url is not None:
        return PublishedKeys(settings.jwks_url, refresh_seconds=settings.jwks_refresh_seconds)
    if settings.jwt_public_key_path is not None:
        path = settings.jwt_public_key_path
        try:
            pem = path.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            problem = f"jwt_public_key_path is {path}, which cannot be read: {error}"
            raise InvalidSettings([problem]) from None
        return OneKey(_read_pem(pem, f"jwt_public_key_path ({path})"))
    if settings.jwt_public_key:
        return OneKey(_read_pem(settings.jwt_public_key, "jwt_public_key"))
    return None


class OneKey:
    """A key that was given; it holds for every token, whichever it names."""

    generation = 0

    def __init__(self, key: VerificationKey) -> None:
        self._key = key

    async def find(self, key_id: str | None) -> VerificationKey | None:
        """Find the key that a token names."""
        return self._key

    def keep_fresh(self) -> None:
        """Do nothing: a key that was given stays."""

    def is_usable(self) -> bool:
        """Say whether any token can be checked."""
        return True


class PublishedKeys:
    """The keys that an identity provider publishes (JWKS).

    They are read at the first need, and anew in the background when they are old; also
    when a token names one that is not there, which anybody can bring about, and therefore
    once in 30 seconds at most. While the provider is away, those that are known hold on.
    """

    def __init__(
        self,
        url: str,
        *,
        refresh_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._refresh_seconds, self._transport, self._now = (
            url,
            refresh_seconds,
            transport,
            now,
        )
        self.generation = 0
        self._keys: dict[str, VerificationKey] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> VerificationKey | None:
        """Find the key that a token names."""
        if key_id is None:
            return None
        if key_id not in self._keys or not self.is_usable():
            await self._read_anew()
        return self._keys.get(key_id) if self.is_usable() else None

    def keep_fresh(self) -> None:
        """Begin to read the keys anew, if they are old; those that are known hold meanwhile."""
        if self._age() > self._refresh_seconds:
            self._begin_reading()

    def is_usable(self) -> bool:
        """Say whether any token can be checked."""
        return bool(self._keys) and self._age() <= self._refresh_seconds + MAX_STALE_SECONDS

    def _age(self) -> float:
        return float("inf") if self._read_at is None else self._now() - self._read_at

    async def _read_anew(self) -> None:
        fetching = self._begin_reading()
        if fetching is not None:
            await asyncio.shield(fetching)  # others wait for it, too

    def _begin_reading(self) -> asyncio.Task[None] | None:
        """Read in a task of its own, unless that was tried a moment ago."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._now()
        if self._tried_at is not None and now - self._tried_at < BETWEEN_FETCHES_SECONDS:
            return None
        self._tried_at = now
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = _read_key_set(await self._download())
        except Exception as error:  # whatever it is, the known keys hold on
            reason = str(error) or type(error).__name__
            _log.warning("jwks_unavailable", url=safe_url(self._url), error=reason)
            return
        if keys.keys() != self._keys.keys() or any(
            keys[name].key != self._keys[name].key for name in keys
        ):
            self.generation += 1
        self._keys, self._read_at = keys, self._now()

    async def _download(self) -> Any:
        import httpx
        import orjson

        async with (
            httpx.AsyncClient(
                transport=self._transport, timeout=FETCH_SECONDS, follow_redirects=False
            ) as client,
            asyncio.timeout(FETCH_SECONDS),
            client.stream("GET", self._url) as reply,
        ):
            if reply.status_code != 200:
                raise ValueError(f"it answers with {reply.status_code}")
            content = bytearray()
            async for chunk in reply.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ValueError(f"its answer has more than {MAX_BYTES:,} bytes")
        return orjson.loads(content)


def _read_pem(pem: str, source: str) -> VerificationKey:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in pem:
        raise InvalidSettings([f"{source} holds a private key; give the public one"])
    try:
        return _verification_key(load_pem_public_key(pem.encode()))
    except Exception as error:  # many libraries under one roof, each with errors of its own
        raise InvalidSettings([f"{source} is no public key in PEM: {error}"]) from None


def _read_key_set(document: Any) -> dict[str, VerificationKey]:
    """Take the keys that can check signatures, by their names; leave out all others."""
    from jwt import PyJWK

    keys = {}
    for entry in document["keys"]:
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
            continue
        try:
            public = {name: value for name, value in entry.items() if name not in _PRIVATE}
            key = _verification_key(PyJWK.from_dict(public).key, entry.get("alg"))
        except Exception as error:  # one that cannot be used must not hide the others
            _log.warning("jwks_key_left_out", key_id=entry["kid"], error=str(error))
            continue
        keys[entry["kid"]] = key
    if not keys:
        raise ValueError("it has no key that signatures can be checked with")
    return keys


_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def _verification_key(key: Any, algorithm: str | None = None) -> VerificationKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    algorithms: tuple[str, ...] = ()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise ValueError(f"it has {key.key_size} bits, but needs {LEAST_RSA_BITS}")
        algorithms = _RSA
    elif isinstance(key, ec.EllipticCurvePublicKey):
        algorithms = _EC.get(key.curve.name, ())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithms = ("EdDSA",)
    if algorithm is not None:
        algorithms = tuple(one for one in algorithms if one == algorithm)
    if not algorithms:
        raise ValueError(f"no algorithm for a {type(key).__name__} is known")
    return VerificationKey(key, algorithms)
