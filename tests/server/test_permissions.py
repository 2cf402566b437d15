"""The policy: every route asks for a permission, or is on the short list of those that do not."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from support.credentials import bearer
from support.replies import refused
from tasker_core.server.app import create_app
from tasker_core.server.permissions import (
    PERMISSIONS,
    PUBLIC_PATHS,
    ROLES,
    ROUTES,
    WILDCARDS,
    holds,
    unknown_permissions,
)
from tasker_core.settings import Settings

ID = "01a20be2-6b91-7818-bec8-e18f00400000"


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path that the app serves."""
    app = create_app(Settings(database_url="postgresql://nowhere/none"))
    for route in [*app.state.api_routes, *app.routes]:
        for method in getattr(route, "methods", None) or ():
            yield method, route.path


GUARDED = sorted({one for one in routes() if one[1] not in PUBLIC_PATHS})


def concrete(path: str) -> str:
    """Fill a path's parameters."""
    for name in ("task_uuid", "step_uuid", "dlq_entry_uuid"):
        path = path.replace(f"{{{name}}}", ID)
    return path.replace("{namespace}", "shop").replace("{name}", "a").replace("{version}", "1")


def test_every_route_asks_for_a_permission_or_is_public() -> None:
    """Each that is served is in the one table, or is one of these fourteen."""
    missing = [f"{method} {path}" for method, path in GUARDED if f"{method} {path}" not in ROUTES]

    assert missing == []
    assert len(PUBLIC_PATHS) == 14
    assert not any(path.startswith("/v1") for path in PUBLIC_PATHS)


def test_what_routes_and_roles_ask_for_is_in_the_vocabulary() -> None:
    """A slip of the pen would shut everybody out, or let nobody be let in."""
    words = [word for needed in ROUTES.values() for word in needed]
    assert set(words) <= set(PERMISSIONS)
    assert not unknown_permissions([word for words in ROLES.values() for word in words])
    assert all(holds(ROLES["admin"], word) for word in PERMISSIONS)
    assert set(WILDCARDS) == {
        f"{name}:*" for name in ["tasks", "steps", "dlq", "templates", "system", "worker"]
    }


async def test_nobody_passes_without_a_credential(guarded: httpx.AsyncClient) -> None:
    """On any route: 401, and how to show who calls."""
    for method, path in GUARDED:
        reply = await guarded.request(method, concrete(path))

        refused(reply, 401, "AUTHENTICATION_FAILED")
        assert reply.headers["www-authenticate"] == 'Bearer realm="tasker"'
        assert reply.headers["x-auth-failure-reason"] == "missing"
        assert reply.headers["x-request-id"]


async def test_a_route_is_served_to_those_who_hold_its_permission_only(
    guarded: httpx.AsyncClient,
) -> None:
    """403 with all the others, and with a bare `*`; with it, anything but 401 and 403."""
    for method, path in GUARDED:
        needed = ROUTES[f"{method} {path}"]
        if not needed:
            continue

        async def ask(*held: str, method: str = method, path: str = path) -> httpx.Response:
            headers = {"Content-Type": "application/json", **bearer(*held)}
            return await guarded.request(method, concrete(path), content=b"{}", headers=headers)

        others = [word for word in PERMISSIONS if word not in needed]
        for held in (others, ["*"], ["tasks"], []):
            reply = await ask(*held)
            document = refused(reply, 403, "AUTHORIZATION_FAILED")
            assert needed[0] in document["detail"]
            assert reply.headers["x-auth-failure-reason"] == "forbidden"
            assert "retry-after" not in reply.headers
        if path in ("/v1/events", "/events"):
            continue  # they go on for ever
        for word in (*needed, f"{needed[0].split(':')[0]}:*"):
            reply = await ask(word)
            assert reply.status_code not in (401, 403), (method, path, reply.text)


@pytest.mark.parametrize("path", sorted(PUBLIC_PATHS & {path for _, path in routes()}))
async def test_what_is_public_is_served_to_everybody(guarded: httpx.AsyncClient, path: str) -> None:
    """Also to somebody with a credential that does not hold."""
    twice = [("X-API-Key", "a"), ("X-API-Key", "b")]
    for headers in ([], [("Authorization", "Bearer nonsense")], twice):
        assert (await guarded.get(path, headers=headers)).status_code in (200, 307)


async def test_what_does_not_exist_is_not_told_to_strangers(guarded: httpx.AsyncClient) -> None:
    """401 before 404 and 405; then as ever."""
    assert (await guarded.get("/v1/nothing")).status_code == 401
    assert (await guarded.put("/v1/tasks")).status_code == 401
    assert (await guarded.get("/v1/nothing", headers=bearer("tasks:list"))).status_code == 404
    assert (await guarded.put("/v1/tasks", headers=bearer("tasks:list"))).status_code == 405


async def test_a_route_that_nobody_declared_is_served_to_nobody(settings: Settings) -> None:
    """Forgotten is shut, not open."""
    app = create_app(settings.model_copy(update={"auth": True, "jwt_public_key": _key()}))
    app.add_api_route("/v1/forgotten", lambda: {"secret": 1})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        reply = await client.get("/v1/forgotten", headers=bearer(*WILDCARDS))

    assert "no permission is declared" in refused(reply, 403, "AUTHORIZATION_FAILED")["detail"]


async def test_openapi_tells_the_permissions(guarded: httpx.AsyncClient) -> None:
    """And how to show who calls."""
    document = (await guarded.get("/api-docs/openapi.json")).json()
    create = document["paths"]["/v1/tasks"]["post"]

    assert create["x-required-permission"] == "tasks:create"
    assert {"bearer_auth": []} in create["security"]
    assert {"401", "403", "429"} <= set(create["responses"])
    assert "security" not in document["paths"]["/health"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"bearer_auth", "api_key_auth"}


def _key() -> str:
    from support.credentials import public_pem

    return public_pem()
