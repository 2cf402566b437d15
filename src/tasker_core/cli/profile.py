"""`tasker-ctl profile`: the profiles of `.config/tasker.toml`, without their secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output, fields, table

profile_app = typer.Typer(no_args_is_help=True, add_completion=False)


@profile_app.callback()
def profile() -> None:
    """Show and check profiles: servers with their credentials, under a name."""


@profile_app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the profiles of the file that counts here."""
    out: Output = ctx.obj
    path = _file(out)
    if path is None:
        out.data({"file": None, "items": []}, lambda: "")
        return
    from tasker_core.client.profile import tables

    items = [_facts(path, name, out.options.profile) for name in _checked(lambda: tables(path))]
    out.data(
        {"file": str(path), "items": items},
        lambda: table(
            ["PROFILE", "URL", "CREDENTIAL", "IN USE", "DESCRIPTION"],
            (
                [one["name"], one["base_url"], one["credential"], one["in_use"], one["description"]]
                for one in items
            ),
        ),
    )
    out.note(str(path))


@profile_app.command()
def show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The profile.")]
) -> None:
    """Show what a profile comes to, with what the default says; never a secret."""
    from tasker_core.client.profile import tables

    out: Output = ctx.obj
    path = _file(out)
    known = sorted(_checked(lambda: tables(path))) if path is not None else []
    if path is None or name not in known:
        out.warn(f"there is no profile {name}; there are: {', '.join(known) or 'none'}")
        raise typer.Exit(ExitCode.NOT_FOUND)
    facts = _facts(path, name, out.options.profile)
    out.data({"file": str(path), **facts}, lambda: fields(facts.items()))


@profile_app.command()
def validate(ctx: typer.Context) -> None:
    """Check every profile; the exit code is 3 if one could not be used."""
    from tasker_core.client.profile import InvalidProfile, read_profile, tables

    out: Output = ctx.obj
    path = _file(out)
    if path is None:
        raise typer.Exit(ExitCode.NOT_FOUND)
    wrong: dict[str, str | None] = {}
    for name in _checked(lambda: tables(path)):
        try:
            read_profile(name)
            wrong[name] = None
        except InvalidProfile as error:
            wrong[name] = str(error)
    items = [{"name": name, "valid": told is None, "problem": told} for name, told in wrong.items()]
    is_valid = bool(items) and not any(wrong.values())
    out.data(
        {"file": str(path), "valid": is_valid, "items": items},
        lambda: table(
            ["PROFILE", "VALID", "PROBLEM"],
            ([one["name"], one["valid"], one["problem"]] for one in items),
        ),
    )
    if not items:
        out.warn(f"{path} has no profile")
    if not is_valid:
        raise typer.Exit(ExitCode.INVALID)


# --- helpers --------------------------------------------------------------------------------


def _file(out: Output) -> Path | None:
    from tasker_core.client.profile import FILE, find_file

    path = find_file()
    if path is None:
        out.warn(f"there is no {FILE} here or above, and none of your own")
    return path


def _checked(read: Any) -> Any:
    from tasker_core.client.profile import InvalidProfile

    try:
        return read()
    except InvalidProfile as error:
        raise typer.BadParameter(str(error)) from None


def _facts(path: Path, name: str, chosen: str | None) -> dict[str, Any]:
    """Say what a profile comes to, as far as it makes sense."""
    from tasker_core.client.profile import merged

    found = merged(path, name)
    server = found.get("orchestration")
    server = server if isinstance(server, dict) else {}
    return {
        "name": name,
        "in_use": name == (chosen or os.environ.get("TASKER_CLIENT_PROFILE")),
        "description": found.get("description"),
        "namespaces": found.get("namespaces"),
        "base_url": server.get("base_url"),
        "timeout_ms": server.get("timeout_ms"),
        "max_retries": server.get("max_retries"),
        "credential": _credential(server),
    }


def _credential(server: dict[str, Any]) -> str | None:
    """Say which kind of credential there is, and where it comes from."""
    auth = server.get("auth")
    method = auth.get("method") if isinstance(auth, dict) else None
    if not isinstance(method, dict):
        return None
    value = method.get("value")
    named = value if isinstance(value, dict) else {}
    variable = named.get("key_env") or named.get("token_env")
    kind = {"ApiKey": "API key", "BearerToken": "token"}.get(str(method.get("type")), "unknown")
    return f"{kind}, from {variable}" if variable else f"{kind}, in the file"
