"""The layer that asks who calls, before a body is read.

Plain ASGI. It lets a request through to the routes when its caller is known, may use
the route, sees the task that the path names, and has not asked too often.
Where nobody is asked, it serves this machine only, unless the settings allow others.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tasker_core.engine.inspect import namespace_of_dlq_entry, namespace_of_task
from tasker_core.errors import UnknownDlqEntry, UnknownTask, UnknownTemplate
from tasker_core.server.auth import (
    ANYBODY,
    Caller,
    address_of,
    counted_as,
    forbidden,
    sees,
    unauthorized,
)
from tasker_core.server.backend import Backend
from tasker_core.server.keys import ApiKeys
from tasker_core.server.limits import Buckets, too_many
from tasker_core.server.permissions import PUBLIC_PATHS, ROUTES, holds
from tasker_core.server.problems import Refusal
from tasker_core.server.tokens import Tokens

KEY_HEADER = "X-API-Key"
FAILURES_PER_MINUTE = 20  # of one address, before its unknown credentials are not looked at

TELL_MORE = frozenset({"/ready", "/health/ready", "/health/detailed"})  # to who is known

_log = structlog.get_logger("tasker.server")
_audit = structlog.get_logger("tasker.audit")


class Gate:
    """Asks who calls, and whether they may.

    Args:
        app: What is behind it.
        backend: With the settings, and the database where API keys are.
        routes: What each route asks for.
        public: The paths that anybody may ask for.
    """

    def __init__(
        self,
        app: ASGIApp,
        backend: Backend,
        *,
        routes: Mapping[str, tuple[str, ...]] = ROUTES,
        public: Container[str] = PUBLIC_PATHS,
    ) -> None:
        self._app, self._backend = app, backend
        self._routes, self._public = routes, public
        settings = backend.settings
        self._asks = settings.asks_who_calls
        self._serves_others = self._asks or settings.allow_unprotected
        self._api_keys = ApiKeys(backend)
        self._tokens = None if backend.keys is None else Tokens(backend.keys, settings)
        self._failures = Buckets(FAILURES_PER_MINUTE, FAILURES_PER_MINUTE)
        self._requests: Buckets | None = None
        if settings.requests_per_minute is not None:
            self._requests = Buckets(settings.requests_per_minute, settings.requests_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            Refusal: It is not let through; the edge answers for it.
            UnknownTask, UnknownDlqEntry, UnknownTemplate: Or the caller may not know of it.
        """
        if scope["type"] == "http":
            await self._admit(Request(scope))
        elif scope["type"] == "websocket":  # there are none, and none slips in unasked
            await send({"type": "websocket.close", "code": 4403})
            return
        await self._app(scope, receive, send)

    async def _admit(self, request: Request) -> None:
        path = _path(request)
        request.state.recognize = self.recognize
        if path in self._public:
            if self._asks and path in TELL_MORE:
                request.state.caller = await self._try_to_name(request)
            return
        if not self._serves_others:
            _check_local(request)
        caller = await self._name(request) if self._asks else ANYBODY
        request.state.caller = caller
        self._count(request)
        if not self._asks:
            return
        route, parameters = _find_route(request)
        if route is None:
            return  # for the router to answer
        _check_route(caller, route, self._routes)
        if caller.namespaces is not None:
            await self._check_place(request, parameters)
        if request.method not in ("GET", "HEAD"):
            _audit.info("action", caller=caller.name, method=caller.method, route=route)

    # --- who ------------------------------------------------------------------------------

    async def _name(self, request: Request) -> Caller:
        """Find out who calls.

        Raises:
            Refusal: They have not shown it, or too often not.
        """
        return await self.recognize(request, *_credentials(request))

    async def recognize(self, request: Request, token: str | None, key: str | None) -> Caller:
        """Find out whose credential this is, a token or a key.

        Raises:
            Refusal: Nobody's, or there is none, or too many were nobody's.
        """
        if token is not None and self._tokens is not None:
            return await self._look_up(request, self._tokens, token)
        if token is not None:
            raise unauthorized("invalid", "this server takes API keys, and no tokens")
        if key is not None:
            return await self._look_up(request, self._api_keys, key)
        raise unauthorized("missing", f"say who calls: Authorization: Bearer, or {KEY_HEADER}")

    async def _look_up(self, request: Request, known: Tokens | ApiKeys, shown: str) -> Caller:
        """Look at a credential; at none that is new from where too many were wrong."""
        address = address_of(request)
        wait = self._failures.seconds_until_one(address)
        if wait and not known.knows(shown):
            raise too_many("too many credentials of this address were not valid", wait)
        try:
            return await known.caller(shown)
        except Refusal as refusal:
            self._failures.take(address)
            reason = refusal.headers.get("X-Auth-Failure-Reason")
            _audit.warning("refused", address=address, reason=reason, detail=refusal.detail)
            raise

    async def _try_to_name(self, request: Request) -> Caller:
        """Find out who calls where anybody may."""
        try:
            return await self._name(request)
        except Exception:  # a probe is answered, whatever it brings along
            return ANYBODY

    # --- what -----------------------------------------------------------------------------

    def _count(self, request: Request) -> None:
        if self._requests is None:
            return
        who = counted_as(request)
        wait = self._requests.take(who)
        request.state.limit_headers = self._requests.headers(who)  # the edge sends them
        if wait:
            raise too_many("this caller asks too often", wait)

    async def _check_place(self, request: Request, parameters: dict[str, Any]) -> None:
        """Hide what the path names if it is in a namespace that the caller does not see."""
        namespace = parameters.get("namespace")
        if namespace is not None and not sees(request, namespace):
            raise UnknownTemplate(namespace, parameters.get("name", ""), parameters.get("version"))
        if (task := _uuid(parameters, "task_uuid")) is not None:
            async with self._backend.connection() as conn:
                found = await namespace_of_task(conn, task)
            if not sees(request, found):
                raise UnknownTask(task)
        if (entry := _uuid(parameters, "dlq_entry_uuid")) is not None:
            async with self._backend.connection() as conn:
                found = await namespace_of_dlq_entry(conn, entry)
            if not sees(request, found):
                raise UnknownDlqEntry(dlq_entry_uuid=entry)


# --- helpers --------------------------------------------------------------------------------


def _path(request: Request) -> str:
    """Give the path within this app, which may be mounted somewhere."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def _find_route(request: Request) -> tuple[str | None, dict[str, Any]]:
    """Say which route will serve this, as `METHOD /path/{name}`, and what its path names."""
    app: Starlette = request.scope["app"]
    routes: Iterable[BaseRoute] = app.state.api_routes
    for route in chain(routes, app.routes):  # the latter: whatever somebody has added
        match, found = route.matches(request.scope)
        if match is Match.FULL:
            name = f"{request.method} {getattr(route, 'path', None) or _path(request)}"
            return name, found.get("path_params", {})
    return None, {}


def _check_route(caller: Caller, route: str, routes: Mapping[str, tuple[str, ...]]) -> None:
    needed = routes.get(route)
    if needed is None:
        _log.error("route_without_permission", route=route)
        raise forbidden(f"{route} is served to nobody: no permission is declared for it")
    if needed and not any(holds(caller.permissions, one) for one in needed):
        wanted = " or ".join(needed)
        _audit.warning("refused", caller=caller.name, route=route, needed=wanted)
        raise forbidden(f"this needs the permission {wanted}, which {caller.name} does not have")


def _check_local(request: Request) -> None:
    """Refuse what did not come from this machine, or not from a page of this server."""
    server = request.scope.get("server")
    origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
    if not _is_local(None if server is None else server[0], origin, host):
        raise forbidden(
            "this server asks nobody who they are, and serves its own machine only; set "
            "TASKER_AUTH=true, or, if something in front of it asks, "
            "TASKER_ALLOW_UNPROTECTED=true"
        )


@lru_cache(maxsize=256)
def _is_local(server: str | None, origin: str | None, host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    is_foreign = server is not None and not _is_loopback(server)
    is_rebound = "." in name and not _is_address(name)  # a name that somebody made lead here
    is_from_elsewhere = origin is not None and urlsplit(origin).netloc != host
    return not (is_foreign or is_rebound or is_from_elsewhere)


def _is_loopback(host: str) -> bool:
    """Say whether this is an address of this machine alone; names are none that others use."""
    return not _is_address(host) or ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _credentials(request: Request) -> tuple[str | None, str | None]:
    """Read the token and the key of a request.

    Raises:
        Refusal: One of them is there more than once, or is no text.
    """
    given = request.headers.getlist("Authorization")
    keys = request.headers.getlist(KEY_HEADER)
    if len(given) > 1 or len(keys) > 1:
        raise unauthorized("malformed", "there is more than one credential")
    scheme, _, token = (given[0] if given else "").partition(" ")
    is_token = scheme.lower() == "bearer"
    for value in ([token] if is_token else []) + keys:
        if not value.isascii() or not value.isprintable():
            raise unauthorized("malformed", "the credential has characters that none has")
    return (token.strip() if is_token else None), (keys[0] if keys else None)


def _uuid(parameters: dict[str, Any], name: str) -> UUID | None:
    try:
        return UUID(str(parameters[name]))
    except (KeyError, ValueError):
        return None  # for the route to refuse
