"""`tasker-ctl auth`: API keys, and tokens for those who issue them themselves.

Keys are in the database, which these commands talk to themselves; tokens need none.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.arguments import read_age
from tasker_core.cli.db import DatabaseUrl, read_settings
from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output, fields, table

if TYPE_CHECKING:
    from tasker_core.engine.api_keys import ApiKey
    from tasker_core.settings import Settings

auth_app = typer.Typer(no_args_is_help=True, add_completion=False)

PRIVATE_KEY, PUBLIC_KEY = "jwt-private-key.pem", "jwt-public-key.pem"

Permissions = Annotated[
    str | None,
    typer.Option("--permissions", "-p", metavar="WORDS", help="Permissions, with commas."),
]
Role = Annotated[
    list[str] | None,
    typer.Option("--role", help="The permissions of this role, too; may be repeated."),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", help="Limit to this one; may be repeated."),
]
Issuer = Annotated[str | None, typer.Option(help="The `iss`.", show_default="jwt_issuer")]
Audience = Annotated[str | None, typer.Option(help="The `aud`.", show_default="jwt_audience")]


@auth_app.callback()
def auth() -> None:
    """Make and revoke what callers show the server."""


@auth_app.command("create-key")
def create_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Who calls with it; the history tells it.")],
    permissions: Permissions = None,
    role: Role = None,
    namespace: Namespaces = None,
    expires: Annotated[
        str | None, typer.Option(metavar="AGE", help="When it ends, such as 90d or 12h.")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make an API key, and print it: nobody can read it again.

    tasker-ctl auth create-key checkout --role submitter --namespace shop
    """
    from tasker_core.engine.api_keys import create_api_key

    out: Output = ctx.obj
    granted = _granted(permissions, role)
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise typer.BadParameter("must have 1 to 255 characters that can be printed")
    _refuse_unknown(granted)
    lifetime = None if expires is None else read_age(expires, None, "--expires")
    settings = read_settings(out, database_url=database_url)

    async def create(conn: Any) -> tuple[str, ApiKey]:
        return await create_api_key(
            conn, name, permissions=granted, namespaces=namespace, lifetime=lifetime, actor=_user()
        )

    key, made = asyncio.run(_in_database(settings, create))
    out.word({"key": key, **_facts(made)}, key)
    out.note(f"key {made.key_id} of {name}: {', '.join(made.permissions)}; keep it, it is not kept")


@auth_app.command("list-keys")
def list_keys(ctx: typer.Context, database_url: DatabaseUrl = None) -> None:
    """List the API keys, without what is secret of them."""
    from tasker_core.engine.api_keys import list_api_keys

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)
    found = asyncio.run(_in_database(settings, list_api_keys))
    rows = [
        (
            key.key_id,
            key.name,
            "valid" if key.is_valid else "revoked" if key.revoked_at else "expired",
            ", ".join(key.permissions),
            ", ".join(key.namespaces or ["all"]),
            key.expires_at or "",
        )
        for key in found
    ]
    columns = ("KEY ID", "NAME", "STATUS", "PERMISSIONS", "NAMESPACES", "EXPIRES")
    out.data(
        {"items": [_facts(key) for key in found], "total": len(found)},
        lambda: table(columns, rows),
    )


@auth_app.command("revoke-key")
def revoke_key(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="As list-keys shows it.")],
    database_url: DatabaseUrl = None,
) -> None:
    """End an API key; servers that know it take it for a few seconds more."""
    from tasker_core.engine.api_keys import revoke_api_key

    out: Output = ctx.obj
    settings = read_settings(out, database_url=database_url)

    async def revoke(conn: Any) -> ApiKey:
        return await revoke_api_key(conn, key_id, actor=_user())

    facts = _facts(asyncio.run(_in_database(settings, revoke)))
    out.data(facts, lambda: fields(facts.items()))


@auth_app.command("generate-keys")
def generate_keys(
    ctx: typer.Context,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Where the two files go.")
    ] = Path("keys"),
    key_size: Annotated[
        int, typer.Option("--key-size", "-k", min=2048, max=8192, help="Bits of the key.")
    ] = 2048,
    force: Annotated[bool, typer.Option("--force", help="Replace keys that are there.")] = False,
) -> None:
    """Make a pair of RSA keys: one to sign tokens with, and one to check them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    out: Output = ctx.obj
    private_path, public_path = output_dir / PRIVATE_KEY, output_dir / PUBLIC_KEY
    there = [str(path) for path in (private_path, public_path) if path.exists()]
    if there and not force:
        raise typer.BadParameter(f"{' and '.join(there)} exist; --force replaces them")
    key = rsa.generate_private_key(public_exponent=65537, key_size=key_size)
    output_dir.mkdir(parents=True, exist_ok=True)
    private_path.unlink(missing_ok=True)
    with open(os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    public_path.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    facts = {"private_key": str(private_path), "public_key": str(public_path)}
    out.data(facts, lambda: fields(facts.items()))
    out.note(f"the server checks tokens with: TASKER_JWT_PUBLIC_KEY_PATH={public_path}")


@auth_app.command("generate-token")
def generate_token(
    ctx: typer.Context,
    permissions: Permissions = None,
    role: Role = None,
    subject: Annotated[
        str, typer.Option("--subject", "-s", help="Who calls with it; the history tells it.")
    ] = "tasker-client",
    namespace: Namespaces = None,
    private_key: Annotated[
        Path, typer.Option("--private-key", help="The key to sign with.")
    ] = Path("keys", PRIVATE_KEY),
    expiry_hours: Annotated[
        float, typer.Option("--expiry-hours", "-e", min=0.01, max=8760, help="How long it holds.")
    ] = 24.0,
    issuer: Issuer = None,
    audience: Audience = None,
) -> None:
    """Sign a token, and print it.

    tasker-ctl auth generate-token --role operator --subject ada
    """
    import jwt

    out: Output = ctx.obj
    granted = _granted(permissions, role)
    _refuse_unknown(granted)
    settings = read_settings(out, jwt_issuer=issuer, jwt_audience=audience)
    now = int(time.time())
    ends_at = now + int(expiry_hours * 3600)
    claims = {
        "sub": subject,
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "iat": now,
        "exp": ends_at,
        "permissions": granted,
        "worker_namespaces": namespace or [],
    }
    try:
        token = jwt.encode(claims, private_key.read_bytes(), algorithm="RS256")
    except (jwt.InvalidKeyError, ValueError, TypeError) as error:
        raise typer.BadParameter(f"{private_key} is no private RSA key in PEM: {error}") from None
    out.word({"token": token, "claims": claims}, token)
    until = f"{datetime.fromtimestamp(ends_at, UTC):%Y-%m-%d %H:%M} UTC"
    out.note(f"token of {subject} until {until}: {', '.join(granted)}")


@auth_app.command("validate-token")
def validate_token(
    ctx: typer.Context,
    token: Annotated[
        str | None,
        typer.Option("--token", "-t", help="The token; read from stdin if not given."),
    ] = None,
    public_key: Annotated[Path, typer.Option("--public-key", help="The key to check with.")] = Path(
        "keys", PUBLIC_KEY
    ),
    issuer: Issuer = None,
    audience: Audience = None,
) -> None:
    """Check a token as the server would; the exit code is 3 if it would refuse it."""
    out: Output = ctx.obj
    settings = read_settings(
        out, jwt_issuer=issuer, jwt_audience=audience, jwt_public_key_path=public_key
    )
    settings = settings.model_copy(update={"jwt_public_key": None, "jwks_url": None})
    shown = (token if token is not None else sys.stdin.read()).strip()
    caller = asyncio.run(_check(settings, shown, out))
    facts = {
        "subject": caller.name,
        "expires_at": caller.expires_at,
        "permissions": sorted(caller.permissions),
        "unknown_permissions": _unknown(sorted(caller.permissions)),
        "namespaces": None if caller.namespaces is None else sorted(caller.namespaces),
    }
    out.data(facts, lambda: fields(facts.items()))


@auth_app.command("show-permissions")
def show_permissions(ctx: typer.Context) -> None:
    """List the permissions and the roles."""
    from tasker_core.server.permissions import PERMISSIONS, ROLES, WILDCARDS

    out: Output = ctx.obj
    rows = [
        *PERMISSIONS.items(),
        *((word, "all of this resource") for word in WILDCARDS),
        *((f"role {name}", ", ".join(words)) for name, words in ROLES.items()),
    ]
    out.data(
        {"permissions": PERMISSIONS, "wildcards": WILDCARDS, "roles": ROLES},
        lambda: table(("PERMISSION", "WHAT FOR"), rows),
    )


# --- helpers --------------------------------------------------------------------------------


def _granted(permissions: str | None, roles: Sequence[str] | None) -> list[str]:
    """Read what is to be granted.

    Raises:
        BadParameter: It is nothing, or a role that does not exist.
    """
    from tasker_core.server.permissions import ROLES

    words = [word.strip() for word in (permissions or "").split(",") if word.strip()]
    for role in roles or ():
        if role not in ROLES:
            known = ", ".join(ROLES)
            raise typer.BadParameter(f"{role!r} is no role; roles: {known}", param_hint="--role")
        words += ROLES[role]
    if not words:
        raise typer.BadParameter("grant something: --permissions or --role")
    return list(dict.fromkeys(words))


def _unknown(words: Sequence[str]) -> list[str]:
    from tasker_core.server.permissions import unknown_permissions

    return unknown_permissions(words)


def _refuse_unknown(words: Sequence[str]) -> None:
    if unknown := _unknown(words):
        raise typer.BadParameter(
            f"{', '.join(unknown)}: no such permission; list them: tasker-ctl auth "
            f"show-permissions",
            param_hint="--permissions",
        )


async def _in_database(settings: Settings, work: Any) -> Any:
    """Do something on a connection, to a database whose schema is ours."""
    from tasker_core.cli.processes import check_schema
    from tasker_core.db import resolve_database

    with await asyncio.to_thread(resolve_database, settings) as database:
        await check_schema(database, upgrade=False)
        conn = await database.connect("tasker-ctl auth")
        try:
            return await work(conn)
        finally:
            await conn.close()


async def _check(settings: Settings, token: str, out: Output) -> Any:
    from tasker_core.server.jwks import keys_of
    from tasker_core.server.problems import Refusal
    from tasker_core.server.tokens import Tokens

    keys = keys_of(settings)
    assert keys is not None  # there is a path
    try:
        return await Tokens(keys, settings).caller(token)
    except Refusal as refusal:
        out.warn(refusal.detail)
        raise typer.Exit(ExitCode.INVALID) from None


def _facts(key: ApiKey) -> dict[str, Any]:
    facts = asdict(key)
    del facts["valid_for"]
    return facts


def _user() -> str:
    """Name who sits at this machine, for the records."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without names
        return "tasker-ctl"
