"""Profiles: which server, and with which credentials, under one name in a file.

::

    # .config/tasker.toml
    [profile.staging.orchestration]
    base_url = "https://tasker.staging.example.com"
    timeout_ms = 5000
    max_retries = 5

    [profile.staging.orchestration.auth.method]
    type = "ApiKey"
    value = {key_env = "STAGING_KEY"}     # or key = "…", header_name = "…"

A profile counts when it is named, by TASKER_CLIENT_PROFILE or `tasker-ctl --profile`: to
stand in a directory must not change where credentials go. `[profile.default]` says what
the others leave out, but for the credentials of another address.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FILE = Path(".config", "tasker.toml")
USER_FILE = Path("tasker", "client.toml")  # below the user's directory of configuration

_KEYS = {
    "": {"description", "namespaces", "tools", "transport", "orchestration", "worker"},
    "orchestration": {"base_url", "timeout_ms", "max_retries", "auth"},
    "worker": {"base_url", "timeout_ms", "max_retries", "auth"},
    "orchestration.auth": {"method"},
    "orchestration.auth.method": {"type", "value"},
}


class InvalidProfile(ValueError):
    """A profile that is not there, or makes no sense."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says; None: nothing."""

    base_url: str | None = None
    token: str | None = None
    api_key: str | None = None
    api_key_header: str | None = None
    timeout_ms: int | None = None  # to wait for an answer
    max_retries: int | None = None


def names_profile(name: str | None = None) -> bool:
    """Say whether this name, or the environment, asks for a profile."""
    return bool(name or os.environ.get("TASKER_CLIENT_PROFILE"))


def read_profile(name: str | None = None) -> Profile:
    """Read the profile of this name, or the one that TASKER_CLIENT_PROFILE names, or none.

    Raises:
        InvalidProfile: There is no such profile, or something in it makes no sense; the message
            names the file.
    """
    wanted = name or os.environ.get("TASKER_CLIENT_PROFILE")
    if not wanted:
        return Profile()
    path = find_file()
    if path is None:
        raise InvalidProfile(f"profile {wanted!r} is asked for, but there is no {FILE}")
    profiles = tables(path)
    if wanted not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise InvalidProfile(f"{path} has no profile {wanted!r}; it has: {known}")
    try:
        return _read(merged(path, wanted))
    except InvalidProfile as error:
        raise InvalidProfile(f"profile {wanted!r} in {path}: {error}") from None


def tables(path: Path) -> dict[str, dict[str, Any]]:
    """Give every profile of a file as it stands there, by name.

    Raises:
        InvalidProfile: The file cannot be read, or has something else where profiles should be.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("profile", {})
    except (OSError, ValueError) as error:
        raise InvalidProfile(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise InvalidProfile(f"cannot read {path}: [profile.NAME] must be tables")
    return found


def merged(path: Path, name: str) -> dict[str, Any]:
    """Give one profile of a file, laid over its `default`."""
    profiles = tables(path)
    return _over(profiles.get("default", {}), profiles[name])


def find_file() -> Path | None:
    """Look in this directory, in those above it, and in the user's own."""
    here = Path.cwd()
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    candidates = [*(above / FILE for above in (here, *here.parents)), own / USER_FILE]
    return next((path for path in candidates if path.is_file()), None)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another. A credential is for the address that it stands beside."""
    laid = dict(below)
    if "base_url" in above:
        laid.pop("auth", None)
    for key, value in above.items():
        is_deeper = isinstance(value, Mapping) and isinstance(laid.get(key), Mapping)
        laid[key] = _over(laid[key], value) if is_deeper and key != "auth" else value
    return laid


def _read(profile: Mapping[str, Any]) -> Profile:
    _check_keys(profile, "")
    if profile.get("transport", "rest") not in ("rest", "http"):
        raise InvalidProfile(f"transport is {profile['transport']!r}, but must be rest")
    server = _table(profile, "orchestration", "orchestration")
    method = _table(_table(server, "auth", "orchestration.auth"), "method", _METHOD)
    _table(profile, "worker", "worker")
    plain = Profile(
        _url(server.get("base_url")),
        timeout_ms=_number(server, "timeout_ms", 1, 86_400_000),
        max_retries=_number(server, "max_retries", 0, 100),
    )
    kind, value = method.get("type"), method.get("value")
    if not method:
        return plain
    if kind == "BearerToken":
        given = {"token": value} if isinstance(value, str) else value
        return replace(plain, token=_secret(given, "token"))
    if kind == "ApiKey":
        given = {"key": value} if isinstance(value, str) else value
        header = given.get("header_name") if isinstance(given, Mapping) else None
        return replace(plain, api_key=_secret(given, "key"), api_key_header=header)
    raise InvalidProfile(f"{_METHOD}.type is {kind!r}, but must be BearerToken or ApiKey")


_METHOD = "orchestration.auth.method"


def _url(url: Any) -> str | None:
    if url is None or (isinstance(url, str) and url.startswith(("http://", "https://"))):
        return url
    raise InvalidProfile(
        f"orchestration.base_url is {url!r}, but must begin with http:// or https://"
    )


def _number(server: Mapping[str, Any], key: str, least: int, most: int) -> int | None:
    found = server.get(key)
    if found is None or (type(found) is int and least <= found <= most):
        return found
    raise InvalidProfile(
        f"orchestration.{key} is {found!r}, but must be a whole number from {least} to {most}"
    )


def _table(within: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    found = within.get(key, {})
    if not isinstance(found, Mapping):
        raise InvalidProfile(f"{place} must be a table")
    _check_keys(found, place)
    return found


def _check_keys(table: Mapping[str, Any], place: str) -> None:
    if unknown := sorted(set(table) - _KEYS[place]):
        known = ", ".join(sorted(_KEYS[place]))
        where = f"{place}." if place else ""
        raise InvalidProfile(f"there is no {where}{unknown[0]}; there are: {known}")


def _secret(given: Any, name: str) -> str:
    """Read a secret that stands there, or whose variable does; it is in no message."""
    if isinstance(given, Mapping):
        variable = given.get(f"{name}_env")
        if isinstance(variable, str):
            if not os.environ.get(variable):
                raise InvalidProfile(f"{name}_env names {variable}, which is not set")
            return os.environ[variable]
        if isinstance(given.get(name), str) and given[name]:
            return str(given[name])
    raise InvalidProfile(f"{_METHOD}.value must have {name} or {name}_env")
