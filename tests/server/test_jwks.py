"""Keys that an identity provider publishes: rotation, outage, and callers that provoke it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from support.credentials import jwk, token
from tasker_core.errors import InvalidSettings
from tasker_core.server.jwks import (
    BETWEEN_FETCHES_SECONDS,
    MAX_BYTES,
    MAX_STALE_SECONDS,
    PublishedKeys,
)
from tasker_core.server.problems import Refusal
from tasker_core.server.tokens import Tokens
from tasker_core.settings import Settings

HOUR = 3600.0


class Provider:
    """An identity provider that publishes what it is told to, and counts who asks."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.answer: Any = {"keys": list(keys)}
        self.status = 200
        self.asked = 0
        self.clock = 1000.0
        self.keys = PublishedKeys(
            "https://login.example/keys",
            refresh_seconds=HOUR,
            transport=httpx.MockTransport(self._reply),
            now=lambda: self.clock,
        )
        self.tokens = Tokens(self.keys, Settings())

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.status == 0:
            raise httpx.ConnectError("nobody there", request=request)
        headers = {"Location": "https://elsewhere.example/"} if self.status == 302 else {}
        if isinstance(self.answer, bytes):
            return httpx.Response(self.status, content=self.answer, headers=headers)
        return httpx.Response(self.status, json=self.answer, headers=headers)

    async def takes(self, key: str) -> bool:
        """Say whether a new token that is signed with this key is taken."""
        self.clock += 0.001
        try:
            await self.tokens.caller(token(key=key, key_id=key, jti=str(self.clock)))
        except Refusal:
            return False
        return True

    async def settle(self) -> None:
        """Let what reads in the background end."""
        if self.keys._fetching is not None:
            await self.keys._fetching


async def test_keys_are_read_once_for_many() -> None:
    """Also when many callers come at once."""
    provider = Provider(jwk("ours"))

    assert all(await asyncio.gather(*(provider.takes("ours") for _ in range(20))))
    assert provider.asked == 1


async def test_a_new_key_is_read_when_a_token_names_it() -> None:
    """Rotation needs nobody's hand."""
    provider = Provider(jwk("ours"))
    assert await provider.takes("ours")
    provider.answer = {"keys": [jwk("ours"), jwk("theirs")]}
    provider.clock += BETWEEN_FETCHES_SECONDS

    assert await provider.takes("theirs")
    assert provider.asked == 2


async def test_unknown_keys_ask_the_provider_at_a_bounded_rate() -> None:
    """Whoever sends tokens with invented key ids cannot make the server hammer it."""
    provider = Provider(jwk("ours"))
    assert await provider.takes("ours")
    for _ in range(50):
        assert not await provider.takes("theirs")
    assert provider.asked == 1

    provider.clock += BETWEEN_FETCHES_SECONDS
    for _ in range(50):
        assert not await provider.takes("theirs")
    assert provider.asked == 2


@pytest.mark.parametrize("status", [0, 500, 302])
async def test_known_keys_hold_while_the_provider_is_away(status: int) -> None:
    """For a day at most; nobody waits for it, and a redirect is not followed."""
    provider = Provider(jwk("ours"))
    assert await provider.takes("ours")
    provider.status = status
    provider.clock += 2 * HOUR
    assert await provider.takes("ours")
    await provider.settle()
    assert await provider.takes("ours")
    assert provider.asked == 2

    provider.clock += MAX_STALE_SECONDS
    assert not await provider.takes("ours")
    assert not provider.keys.is_usable()
    provider.status = 200
    provider.clock += BETWEEN_FETCHES_SECONDS
    assert await provider.takes("ours")


async def test_a_key_that_is_withdrawn_ends_the_tokens_that_are_known() -> None:
    """Once the keys were read anew: what was checked with it does not go on being known."""
    provider = Provider(jwk("ours"), jwk("theirs"))
    shown = token(key="theirs", key_id="theirs")
    assert (await provider.tokens.caller(shown)).name == "ada"
    provider.answer = {"keys": [jwk("ours")]}
    provider.clock += HOUR + 1
    await provider.tokens.caller(shown)  # begins to read
    await provider.settle()

    with pytest.raises(Refusal):
        await provider.tokens.caller(shown)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "kid": "ours", "k": "c2VjcmV0"},
        {**jwk("ours"), "use": "enc"},
        {**jwk("ours"), "alg": "HS256"},
        {**jwk("ours"), "kid": None},
        {**jwk("ours"), "n": "AQAB"},
        "no key",
    ],
)
async def test_keys_that_cannot_check_signatures_are_left_out(entry: Any) -> None:
    """A secret, one for encryption, one without a name, a broken one; the others hold."""
    provider = Provider(entry, jwk("theirs"))

    assert not await provider.takes("ours")
    assert await provider.takes("theirs")


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"keys": []}', b" " * (MAX_BYTES + 1)])
async def test_nonsense_is_no_key_set(answer: bytes) -> None:
    """Nor is what is too large."""
    provider = Provider()
    provider.answer = answer

    assert not await provider.takes("ours")
    assert not provider.keys.is_usable()


async def test_a_token_must_name_its_key() -> None:
    """There may be several."""
    provider = Provider(jwk("ours"))
    with pytest.raises(Refusal):
        await provider.tokens.caller(token())


@pytest.mark.parametrize("url", ["http://login.example/keys", "file:///etc/passwd", "https://"])
def test_keys_come_over_https_only(url: str) -> None:
    """Whoever can change them on the way could sign tokens."""
    with pytest.raises(InvalidSettings, match="jwks_url"):
        Settings(jwks_url=url)
    assert Settings(jwks_url="http://127.0.0.1:9/keys").asks_who_calls
