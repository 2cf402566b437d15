"""Which server, and with which credentials.

What is given wins, then the environment, then the profile that is named (profile.py), then
a server on this machine:

=============  ==================================================================
base_url       TASKER_URL, TASKER_ORCHESTRATION_URL, ORCHESTRATION_URL
token          TASKER_ORCHESTRATION_AUTH_TOKEN, TASKER_AUTH_TOKEN
api_key        TASKER_API_KEY, sent in the header that TASKER_API_KEY_HEADER names
timeout        TASKER_ORCHESTRATION_TIMEOUT_MS
=============  ==================================================================

A token beats an API key; what is given beats everything in the environment.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from tasker_core.client.profile import Profile

DEFAULT_URL = "http://localhost:8080"
DEFAULT_SECONDS = 30.0

_URL_VARIABLES = ("TASKER_URL", "TASKER_ORCHESTRATION_URL", "ORCHESTRATION_URL")
_TIMEOUT_VARIABLE = "TASKER_ORCHESTRATION_TIMEOUT_MS"
_TOKEN_VARIABLES = ("TASKER_ORCHESTRATION_AUTH_TOKEN", "TASKER_AUTH_TOKEN")


def resolve_url(base_url: str | None, profile: Profile | None = None) -> str:
    """Say where the server is, without a slash at the end.

    Raises:
        ValueError: It is not an http or https URL.
    """
    url, source = base_url, "base_url"
    if url is None:
        of_profile = profile.base_url if profile is not None else None
        url, source = _first(_URL_VARIABLES) or (of_profile or DEFAULT_URL, "the profile's URL")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{source} is {url!r}, but must be a URL like {DEFAULT_URL}")
    return url.rstrip("/")


def resolve_timeout(seconds: float | None, profile: Profile | None = None) -> float:
    """Say how many seconds to wait for an answer.

    Raises:
        ValueError: It is no number above 0.
    """
    source = "timeout"
    if seconds is None and (told := os.environ.get(_TIMEOUT_VARIABLE)):
        source = _TIMEOUT_VARIABLE
        seconds = int(told) / 1000 if told.isdecimal() else 0
    if seconds is None and profile is not None and profile.timeout_ms is not None:
        seconds = profile.timeout_ms / 1000
    if seconds is None:
        return DEFAULT_SECONDS
    if not seconds > 0:
        unit = "milliseconds" if source == _TIMEOUT_VARIABLE else "seconds"
        raise ValueError(f"{source} must be a number of {unit} above 0")
    return seconds


def names_url() -> bool:
    """Say whether the environment says where the server is."""
    return _first(_URL_VARIABLES) is not None


def auth_headers(
    api_key: str | None, token: str | None, profile: Profile | None = None
) -> dict[str, str]:
    """Give the one header that says who calls, or none."""
    header = os.environ.get("TASKER_API_KEY_HEADER")
    if token is None and api_key is None:
        found = _first(_TOKEN_VARIABLES)
        token = found[0] if found else None
        api_key = os.environ.get("TASKER_API_KEY") or None
    if token is None and api_key is None and profile is not None:
        token, api_key = profile.token, profile.api_key
        header = header or profile.api_key_header
    if token is not None:
        return {"Authorization": f"Bearer {token}"}
    if api_key is not None:
        return {header or "X-API-Key": api_key}
    return {}


def _first(names: tuple[str, ...]) -> tuple[str, str] | None:
    return next(((os.environ[name], name) for name in names if os.environ.get(name)), None)
