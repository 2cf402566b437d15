"""Who calls, and what that means for a request.

gate.py has found it out before a body is read, from an API key (keys.py) or a token
(tokens.py), and has put it into the request's state. The routes ask here for the name
that the records get, and for the namespaces that the caller is limited to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog
from starlette.requests import Request

from tasker_core.server.limits import neighbourhood
from tasker_core.server.permissions import WILDCARDS, holds, misspelled
from tasker_core.server.problems import Refusal

Reason = Literal["missing", "malformed", "invalid", "expired", "unknown_permission", "forbidden"]

_SEVERITY: Mapping[Reason, str] = {
    "missing": "low",
    "expired": "low",
    "malformed": "high",
    "invalid": "high",
    "unknown_permission": "medium",
    "forbidden": "medium",
}


_log = structlog.get_logger("tasker.server")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what they may do."""

    name: str
    method: Literal["api_key", "jwt", "application", "none"]
    permissions: frozenset[str] = frozenset()
    namespaces: frozenset[str] | None = None  # None: all
    expires_at: datetime | None = None  # of the credential; None: it does not
    key_id: str | None = None  # of an API key


ANYBODY = Caller("api", "none")


def name_caller(request: Request, name: str) -> None:
    """Say who calls, where an application has found it out itself, and lets them in."""
    request.state.caller = Caller(name, "application", permissions=frozenset(WILDCARDS))


def caller_of(request: Request) -> Caller:
    """Give whoever calls; `ANYBODY` where nobody is asked."""
    found: Caller = getattr(request.state, "caller", ANYBODY)
    return found


def caller(request: Request) -> str:
    """Name whoever calls, for the records."""
    return caller_of(request).name


def counted_as(request: Request) -> str:
    """Say by what the caller's limits are counted: its name, or its address."""
    found = caller_of(request)
    return address_of(request) if found.method == "none" else f"{found.method}:{found.name}"


def address_of(request: Request) -> str:
    """Give the caller's address, as far as it is one caller's."""
    client = request.scope.get("client")
    return "" if client is None else neighbourhood(client[0])


def actor(request: Request, said: str | None) -> str:
    """Name who acts, for the history.

    That is the caller. What the request says beside comes in parentheses, as it proves
    nothing; where nobody is asked, there is nothing else to go by.
    """
    found = caller_of(request)
    if found.method == "none":
        return said or found.name
    return found.name if said in (None, found.name) else f"{found.name} ({said})"


def namespaces_of(request: Request) -> list[str] | None:
    """Give the namespaces that the caller is limited to; None: to none."""
    limited = caller_of(request).namespaces
    return None if limited is None else sorted(limited)


def sees(request: Request, namespace: str | None) -> bool:
    """Say whether the caller may know of what is in this namespace."""
    limited = caller_of(request).namespaces
    return limited is None or namespace in limited


def check_namespace(request: Request, namespace: str) -> None:
    """Refuse to make something in a namespace that the caller is not limited to.

    Raises:
        Refusal: 403.
    """
    if not sees(request, namespace):
        raise forbidden(f"{caller(request)} may not act in namespace {namespace!r}")


def may(request: Request, needed: str) -> bool:
    """Say whether the caller has this permission; where nobody is asked, everybody has."""
    found = caller_of(request)
    return found.method == "none" or holds(found.permissions, needed)


def check_permission(request: Request, needed: str) -> None:
    """Refuse what the caller may not do, where the route alone does not tell.

    Raises:
        Refusal: 403.
    """
    if not may(request, needed):
        who = caller(request)
        raise forbidden(f"this needs the permission {needed}, which {who} does not have")


def check_words(words: Collection[str], whose: str, *, strict: bool) -> None:
    """Refuse a credential with a permission that there is not, as nobody knows what it means.

    Words of other programs, such as `openid`, grant nothing and harm nobody.

    Raises:
        Refusal: 401, if `strict`; else it is logged.
    """
    if wrong := sorted(misspelled(words)):
        if strict:
            detail = f"{whose} has {wrong[0][:100]!r}, which is no permission of this server"
            raise unauthorized("unknown_permission", detail)
        _log.warning("unknown_permissions", whose=whose, words=wrong)


def unauthorized(reason: Reason, detail: str) -> Refusal:
    """Refuse somebody who has not shown who they are."""
    challenge = 'Bearer realm="tasker"'
    if reason != "missing":
        challenge += ', error="invalid_token"'
    headers = {"WWW-Authenticate": challenge, **_signals(reason)}
    return Refusal(401, "AUTHENTICATION_FAILED", detail, headers=headers, reason=reason)


def forbidden(detail: str) -> Refusal:
    """Refuse what the caller may not do."""
    headers = {
        "WWW-Authenticate": 'Bearer realm="tasker", error="insufficient_scope"',
        **_signals("forbidden"),
    }
    return Refusal(403, "AUTHORIZATION_FAILED", detail, headers=headers)


def _signals(reason: Reason) -> dict[str, str]:
    return {"X-Auth-Failure-Reason": reason, "X-Auth-Failure-Severity": _SEVERITY[reason]}
