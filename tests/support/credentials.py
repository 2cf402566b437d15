"""Key pairs and tokens, good ones and others."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER, AUDIENCE = "tasker-core", "tasker-api"


@cache
def private_key(name: str = "ours") -> rsa.RSAPrivateKey:
    """Give the private key of this name, always the same one in a session."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(name: str = "ours") -> str:
    """Give the public key that belongs to it."""
    return (
        private_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def claims(*permissions: str, **more: Any) -> dict[str, Any]:
    """Give the claims of a token that holds for an hour; a claim that is None is left out."""
    now = int(time.time())
    found = {
        "sub": "ada",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        "permissions": list(permissions),
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(*permissions: str, key: str = "ours", key_id: str | None = None, **more: Any) -> str:
    """Sign a token with these permissions; more claims as `claims` takes them."""
    headers = None if key_id is None else {"kid": key_id}
    return jwt.encode(claims(*permissions, **more), private_key(key), "RS256", headers)


def bearer(*permissions: str, **more: Any) -> dict[str, str]:
    """Give the header that carries such a token."""
    return {"Authorization": f"Bearer {token(*permissions, **more)}"}


def jwk(name: str = "ours", **more: Any) -> dict[str, Any]:
    """Give the public key as a provider publishes it; its id is its name."""
    found = jwt.algorithms.RSAAlgorithm.to_jwk(private_key(name).public_key(), as_dict=True)
    return {**found, "kid": name, "use": "sig", **more}
