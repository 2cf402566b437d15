"""/v1/templates: what is registered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support.flows import CHAIN, template
from support.replies import refused
from tasker_core.engine.register import register_template


@pytest.fixture
async def registered(conn: Any) -> None:
    """Two versions in one namespace, one in another."""
    for version in ("1.0.0", "1.10.0"):
        flow = template(CHAIN, version=version, description="ships", metadata={"tags": ["x"]})
        await register_template(conn, flow)
    await register_template(conn, template(name="other", namespace="back"))


@pytest.mark.usefixtures("registered")
async def test_the_list_counts_by_namespace(api: httpx.AsyncClient) -> None:
    """The filter leaves namespaces and the total as they are."""
    everything = (await api.get("/v1/templates")).json()
    some = (await api.get("/v1/templates?namespace=shop")).json()
    none = (await api.get("/v1/templates?namespace=nobody")).json()

    assert everything["namespaces"] == [
        {"name": "back", "description": None, "template_count": 1},
        {"name": "shop", "description": None, "template_count": 2},
    ]
    assert [(one["name"], one["version"]) for one in everything["templates"]] == [
        ("other", "1.0.0"),
        ("flow", "1.10.0"),
        ("flow", "1.0.0"),
    ]
    assert [(one["namespace"], one["step_count"]) for one in some["templates"]] == [("shop", 3)] * 2
    assert some["templates"][0]["description"] == "ships"
    assert (some["total_count"], none["total_count"], none["templates"]) == (3, 3, [])


@pytest.mark.usefixtures("registered")
async def test_one_version_whole(api: httpx.AsyncClient) -> None:
    """Its steps with their handlers, dependencies and retries; the definition on request."""
    found = (await api.get("/v1/templates/shop/flow/1.0.0")).json()
    whole = (await api.get("/v1/templates/shop/flow/1.0.0?include=configuration")).json()

    assert (found["namespace"], found["name"], found["version"]) == ("shop", "flow", "1.0.0")
    assert (found["identity_strategy"], found["tags"]) == ("always_unique", ["x"])
    assert found["configuration"] is None
    second = found["steps"][1]
    assert (second["name"], second["handler"], second["dependencies"]) == ("b", "b", ["a"])
    assert (second["default_retryable"], second["default_max_attempts"]) == (True, 3)
    assert second["retry"]["backoff"] == "exponential"
    assert whole["configuration"]["namespace_name"] == "shop"


async def test_one_version_as_it_is_in_an_environment(api: httpx.AsyncClient, conn: Any) -> None:
    """Without one, or in one that it says nothing about, it is what was registered."""
    overrides = {"test": {"steps": [{"name": "ALL", "retry": {"max_attempts": 9}}]}}
    await register_template(conn, template(environments=overrides))

    async def attempts(query: str) -> int:
        found = (await api.get(f"/v1/templates/shop/flow/1.0.0{query}")).json()
        return found["steps"][0]["default_max_attempts"]

    assert await attempts("") == 3
    assert await attempts("?environment=production") == 3
    assert await attempts("?environment=test") == 9


async def test_a_task_is_created_in_the_servers_environment(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """It is the one of its settings: development, when nothing else is said."""
    overrides = {"development": {"steps": [{"name": "ALL", "retry": {"max_attempts": 9}}]}}
    await register_template(conn, template(environments=overrides))

    await api.post("/v1/tasks", json={"name": "flow", "namespace": "shop", "context": {}})

    assert await conn.fetchval("select max_attempts from tasker.steps") == 9


@pytest.mark.usefixtures("registered")
async def test_an_unknown_template_is_404(api: httpx.AsyncClient) -> None:
    """By any part of its name."""
    for path in ("shop/flow/9.0.0", "shop/flaw/1.0.0", "ship/flow/1.0.0"):
        refused(await api.get(f"/v1/templates/{path}"), 404, "NOT_FOUND")


async def test_a_name_that_cannot_be_is_400(api: httpx.AsyncClient) -> None:
    """PostgreSQL has no NUL; it is never asked."""
    refused(await api.get("/v1/templates/shop/%00/1.0.0"), 400, "BAD_REQUEST")


@pytest.mark.usefixtures("registered")
async def test_the_versions_of_a_template_are_listed(api: httpx.AsyncClient) -> None:
    """The newest first."""
    document = (await api.get("/v1/templates/shop/flow")).json()

    assert [one["version"] for one in document["versions"]] == ["1.10.0", "1.0.0"]


async def test_what_a_context_must_look_like_is_json_schema(
    api: httpx.AsyncClient, conn: Any
) -> None:
    """With the fields that the task handler's validation wants besides."""
    handler = {"initialization": {"input_validation": {"required_fields": ["a", "b"]}}}
    schema = {"type": "object", "required": ["a"]}
    flow = template(input_schema=schema, task_handler=handler | {"callable": "x"})
    await register_template(conn, flow)
    reply = await api.get("/v1/templates/shop/flow/1.0.0/input-schema")

    assert reply.json() == {"type": "object", "required": ["a", "b"]}
    assert reply.headers["content-type"] == "application/schema+json"


@pytest.mark.parametrize(
    ("content", "valid", "codes"),
    [
        (
            b"name: x\nnamespace_name: s\nversion: 1.0.0\n"
            b"steps:\n- {name: a, handler: {callable: a}}",
            True,
            [],
        ),
        (b"name: x\nsteps: [{name: a", False, None),
        (b'{"name": "x", "version": "1.0.0", "steps": []}', False, None),
    ],
)
async def test_a_template_is_checked_without_registering_it(
    api: httpx.AsyncClient, conn: Any, content: bytes, valid: bool, codes: Any
) -> None:
    """200 whatever is found; each finding has its place."""
    reply = await api.post("/v1/templates/validate", content=content)
    document = reply.json()

    assert (reply.status_code, document["valid"], not document["errors"]) == (200, valid, valid)
    assert all(one["message"] and one["code"] for one in document["errors"])
    assert await conn.fetchval("select count(*) from tasker.templates") == 0
