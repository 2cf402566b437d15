"""Hostile text in every place that takes text: it stays data, all the way down and back.

SQL, markup, control characters, and what breaks naive quoting. The routes are taken from
the app's own description, so that a new field is tried, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from support.flows import CHAIN, begin_one, template
from tasker_core.server.app import create_app
from tasker_core.settings import Settings

PIECES = [
    "'", "''", '"', "\\", "\\'", "--", ";", "/*", "*/", "$$", "$1", "%s", "%", "_", "{0}", "{}",
    "' or '1'='1", "'); delete from tasker.tasks; --", "1; select pg_sleep(60)", "null", "\\x00",
    "<script>alert(1)</script>", "../..", "\r\nX-Evil: 1", "\x1b[2J", "\t", "\u202e", "é", "𝄞",
    "\ud7ff", "\ufeff", "::text", "array[1]", "a" * 40,
]  # fmt: skip
ROUNDS = 4


def hostile(seed: int) -> str:
    """Put some of the pieces together, the same ones for the same seed."""
    chance = random.Random(seed)
    return "".join(chance.choices(PIECES, k=chance.randint(1, 5)))[:60]


def described() -> dict[str, Any]:
    return create_app(Settings(database_url="postgresql://nowhere/none")).openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method and path with its description."""
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


PARAMETERS = sorted(
    (method, path, one["name"], one["in"])
    for method, path, operation in operations()
    for one in operation.get("parameters", ())
    if one["in"] in ("query", "path")
)


def body_fields() -> Iterator[tuple[str, str, str, str]]:
    """Every member of a body that may be text: its route, model and name."""
    schemas = described()["components"]["schemas"]
    for method, path, operation in operations():
        schema = _body_schema(operation)
        for model in schema.get("oneOf") or [schema]:
            name = model.get("$ref", "").rpartition("/")[2]
            for field in schemas.get(name, {}).get("properties", ()):
                yield method, path, name, field


def _body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    found: dict[str, Any] = content.get("application/json", {}).get("schema", {})
    return found


FIELDS = sorted(body_fields())

# what else a body must have to get as far as the field
COMPLETE: dict[str, dict[str, Any]] = {
    "TaskRequest": {"name": "flow", "namespace": "shop"},
    "ResetForRetry": {"action_type": "reset_for_retry", "reason": "r", "reset_by": "a"},
    "ResolveManually": {"action_type": "resolve_manually", "reason": "r", "resolved_by": "a"},
    "CompleteManually": {
        "action_type": "complete_manually",
        "reason": "r",
        "completed_by": "a",
        "completion_data": {"result": 1},
    },
    "TaskActionsRequest": {"action": "cancel", "reason": "r", "dry_run": True},
    "DlqEntryRequest": {"reason": "r"},
}


@pytest.fixture
async def task(conn: Any) -> UUID:
    """A task to try it on."""
    return await begin_one(conn, template(CHAIN))


def concrete(path: str, task: UUID, **given: str) -> str:
    """Fill a path's parameters."""
    known = {
        "task_uuid": str(task),
        "step_uuid": f"{str(task)[:-1]}1",
        "dlq_entry_uuid": str(task),
        "namespace": "shop",
        "name": "flow",
        "version": "1.0.0",
    }
    for name, value in {**known, **given}.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path


async def holds(api: httpx.AsyncClient, reply: httpx.Response, task: UUID, text: str) -> None:
    """An answer or a refusal in good form, without a word of the database's; nothing is gone."""
    assert reply.status_code < 500, (text, reply.request.url, reply.text)
    assert "x-evil" not in reply.headers
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        for word in ("syntax error", "asyncpg", "Traceback", "pg_catalog", "relation "):
            assert word not in reply.text.replace(text, "")
    assert (await api.get(f"/v1/tasks/{task}")).status_code == 200


async def test_parameters(app: FastAPI, api: httpx.AsyncClient, task: UUID) -> None:
    """Of paths and queries."""
    app.state.backend.draining = True  # so that streams end
    for (method, path, name, where), seed in product(PARAMETERS, range(ROUNDS)):
        text = hostile(seed)
        given = {name: text} if where == "path" else {}
        query = {name: text} if where == "query" else {}
        reply = await api.request(method, concrete(path, task, **given), params=query)
        await holds(api, reply, task, text)


async def test_members_of_bodies(api: httpx.AsyncClient, task: UUID) -> None:
    """As text, in a list, as a value and as a key of an object."""
    for (method, path, model, field), seed in product(FIELDS, range(ROUNDS)):
        text = hostile(seed)
        value = [text, [text], {"name": text}, {text: text}][seed % 4]
        body = {**COMPLETE.get(model, {}), field: value}
        if model in ("DlqEntryRequest", "TaskActionsRequest") and field != "task_uuids":
            key = "task_uuid" if model == "DlqEntryRequest" else "task_uuids"
            body.setdefault(key, str(task) if key == "task_uuid" else [str(task)])
        reply = await api.request(method, concrete(path, task), json=body)
        await holds(api, reply, task, text)


async def test_what_is_stored_comes_back_as_it_was(api: httpx.AsyncClient, task: UUID) -> None:
    """Letter by letter."""
    for seed in range(3 * ROUNDS):
        text = hostile(seed)
        body = {
            "name": "flow",
            "namespace": "shop",
            "initiator": text,
            "source_system": text,
            "reason": text,
            "tags": [text],
            "context": {text: [text]},
        }
        made = await api.post("/v1/tasks", json=body)
        found = (await api.get(f"/v1/tasks/{made.json()['task_uuid']}")).json()
        assert {name: found[name] for name in body} == body
        listed = await api.get("/v1/tasks", params={"initiator": text})
        assert {one["initiator"] for one in listed.json()["tasks"]} == {text}


@pytest.mark.parametrize("depth", [150, 5_000, 90_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
async def test_deep_bodies_are_answered(api: httpx.AsyncClient, depth: int, pair: str) -> None:
    """However deep: 422, or taken for what it is, at once."""
    middle = len(pair) // 2 + (pair[0] == "{") * 2
    begin, end = pair[:middle], pair[middle:]
    depth = min(depth, 90_000 // len(pair))
    value = begin * depth + ("1" if pair[0] == "{" else "") + end * depth
    content = b'{"name": "flow", "namespace": "shop", "context": {"a": ' + value.encode() + b"}}"
    reply = await api.post(
        "/v1/tasks", content=content, headers={"Content-Type": "application/json"}
    )

    assert reply.status_code in (404, 422)
