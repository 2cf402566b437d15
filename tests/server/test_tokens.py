"""A token → who calls, or a refusal."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from structlog.testing import capture_logs

from support.credentials import claims, private_key, public_pem, token
from tasker_core.errors import InvalidSettings
from tasker_core.server.jwks import keys_of
from tasker_core.server.permissions import PERMISSIONS, holds
from tasker_core.server.problems import Refusal
from tasker_core.server.tokens import MOST_TOKENS, Tokens
from tasker_core.settings import Settings


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def tokens(clock: Clock | None = None, **given: Any) -> Tokens:
    """Make what checks tokens that are signed with our key."""
    settings = Settings(jwt_public_key=public_pem(), **given)
    keys = keys_of(settings)
    assert keys is not None
    return Tokens(keys, settings, now=clock or Clock())


def encoded(part: Any) -> str:
    """Write a part of a token by hand."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(**header: Any) -> str:
    """A token without a signature."""
    return f"{encoded({'typ': 'JWT', **header})}.{encoded(claims('tasks:*'))}."


def signed_with_public_key(algorithm: str = "HS256") -> str:
    """The oldest trick: the public key, which everybody has, as the secret of an HMAC."""
    head = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims('tasks:*'))}"
    mac = hmac.new(public_pem().encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{encoded(mac)}"


def tampered() -> str:
    """A good token with other claims."""
    head, _, signature = token("tasks:read").split(".")
    return f"{head}.{encoded(claims('tasks:*'))}.{signature}"


def with_critical_header() -> str:
    return jwt.encode(claims(), private_key(), "RS256", {"crit": ["exp"], "b64": True})


def long_ago() -> int:
    return int(time.time()) - 3600


REFUSED = {
    "algorithm none": (lambda: unsigned(alg="none"), "invalid"),
    "algorithm None": (lambda: unsigned(alg="NoNe"), "invalid"),
    "no algorithm": (unsigned, "invalid"),
    "HMAC with the public key": (signed_with_public_key, "invalid"),
    "the key of another": (lambda: token("tasks:*", key="theirs"), "invalid"),
    "changed claims": (tampered, "invalid"),
    "expired": (lambda: token(exp=long_ago()), "expired"),
    "not yet valid": (lambda: token(nbf=int(time.time()) + 3600), "invalid"),
    "issued in the future": (lambda: token(iat=int(time.time()) + 3600), "invalid"),
    "another audience": (lambda: token(aud="shop"), "invalid"),
    "another issuer": (lambda: token(iss="https://elsewhere.example"), "invalid"),
    "no expiry": (lambda: token(exp=None), "invalid"),
    "no audience": (lambda: token(aud=None), "invalid"),
    "no issuer": (lambda: token(iss=None), "invalid"),
    "no subject": (lambda: token(sub=None), "invalid"),
    "an empty subject": (lambda: token(sub=""), "invalid"),
    "a subject that makes lines": (lambda: token(sub="ada\nroot"), "invalid"),
    "an unknown critical extension": (with_critical_header, "malformed"),
    "permissions that are no words": (lambda: token(permissions={"a": 1}), "invalid"),
    "a permission that there is not": (lambda: token("tasks:delete"), "unknown_permission"),
    "no token at all": (lambda: "abc", "malformed"),
    "an empty token": (lambda: "", "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_forged_and_foreign_tokens_are_refused(name: str) -> None:
    """With 401, a reason, and nothing of the token in the answer."""
    make, reason = REFUSED[name]
    forged = make()
    with pytest.raises(Refusal) as caught:
        await tokens().caller(forged)

    assert (caught.value.status, caught.value.headers["X-Auth-Failure-Reason"]) == (401, reason)
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert not forged or forged not in caught.value.detail


async def test_a_good_token_says_who_calls() -> None:
    """With what they may do, where, and until when."""
    caller = await tokens().caller(
        token("tasks:read", worker_namespaces=["shop"], aud=["a", "tasker-api"])
    )

    assert (caller.name, caller.method) == ("ada", "jwt")
    assert (caller.permissions, caller.namespaces) == ({"tasks:read"}, {"shop"})
    assert caller.expires_at is not None


@pytest.mark.parametrize("limited", [None, [], ["*"]])
async def test_no_namespaces_are_all(limited: list[str] | None) -> None:
    """As issuers that know nothing of namespaces leave them out."""
    assert (await tokens().caller(token(worker_namespaces=limited))).namespaces is None


@pytest.mark.parametrize(
    ("claim", "more"),
    [
        ("scp", {"scp": ["tasks:read", "dlq:read"]}),
        ("scope", {"scope": "tasks:read dlq:read"}),
        ("realm.roles", {"realm": {"roles": ["tasks:read", "dlq:read"]}}),
        ("https://tasker.example/p", {"https://tasker.example/p": ["tasks:read", "dlq:read"]}),
    ],
)
async def test_permissions_are_where_the_settings_say(claim: str, more: dict[str, Any]) -> None:
    """A list or words with spaces, in an object or at the top."""
    caller = await tokens(jwt_permissions_claim=claim).caller(token(permissions=None, **more))

    assert caller.permissions == {"tasks:read", "dlq:read"}


async def test_foreign_words_grant_nothing_and_ours_may_be_let_pass() -> None:
    """Scopes of other programs are nobody's slip; ours are where the settings say so."""
    caller = await tokens().caller(token("openid", "*", "tasks", "shop:buy", "tasks:read"))
    with capture_logs() as logs:
        lax = await tokens(strict_permissions=False).caller(token("tasks:delete", "dlq:read"))

    assert [one for one in PERMISSIONS if holds(caller.permissions, one)] == ["tasks:read"]
    assert [one for one in PERMISSIONS if holds(lax.permissions, one)] == ["dlq:read"]
    assert [(one["event"], one["words"]) for one in logs] == [
        ("unknown_permissions", ["tasks:delete"])
    ]


async def test_clocks_may_differ_by_the_leeway() -> None:
    """A token that ended half a minute ago is taken, by default."""
    late = token(exp=int(time.time()) - 30)

    assert (await tokens().caller(late)).name == "ada"
    with pytest.raises(Refusal):
        await tokens(jwt_leeway_seconds=0).caller(late)


async def test_a_token_is_checked_once_and_known_until_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second time costs no signature; after its end it is looked at anew, and refused."""
    clock, shown = Clock(), token(exp=int(time.time()) + 100)
    checks = tokens(clock)
    await checks.caller(shown)
    with monkeypatch.context() as patch:
        patch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("it was checked again"))
        await checks.caller(shown)

    clock.now += 200
    asked = []
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: asked.append(1) or claims())
    await checks.caller(shown)
    assert asked


async def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever signs many tokens fills no memory."""
    checks = tokens()
    monkeypatch.setattr(jwt, "get_unverified_header", lambda _: {"alg": "RS256"})
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: claims())
    for number in range(MOST_TOKENS + 50):
        await checks.caller(str(number))

    assert len(checks._known) == MOST_TOKENS
    assert not checks.knows("0")


# --- keys that are given --------------------------------------------------------------------


def pem_of(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS512", "PS256"])
async def test_the_key_chooses_among_its_own_algorithms(algorithm: str) -> None:
    """Curves and paddings of its kind; never those of another kind."""
    key: Any = private_key()
    if algorithm.startswith("ES"):
        key = ec.generate_private_key(ec.SECP256R1() if "256" in algorithm else ec.SECP384R1())
    settings = Settings(jwt_public_key=pem_of(key.public_key()))
    keys = keys_of(settings)
    assert keys is not None
    checks = Tokens(keys, settings)

    assert (await checks.caller(jwt.encode(claims(), key, algorithm))).name == "ada"
    with pytest.raises(Refusal):
        await checks.caller(signed_with_public_key())


def test_a_key_that_cannot_be_used_stops_the_start(tmp_path: Any) -> None:
    """With the name of the setting: no server runs that would refuse everybody."""
    small = pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key())
    private = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"
    wrong = {
        "needs 2048": {"jwt_public_key": small},
        "give the public one": {"jwt_public_key": private},
        "no public key in PEM": {"jwt_public_key": "abc"},
        "cannot be read": {"jwt_public_key_path": tmp_path / "nowhere.pem"},
        "give one of them": {"jwt_public_key": public_pem(), "jwks_url": "https://a.example/k"},
    }
    for told, given in wrong.items():
        with pytest.raises(InvalidSettings, match=told) as caught:
            keys_of(Settings(**given))
        assert "abc\n" not in str(caught.value)
