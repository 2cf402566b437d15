"""What happens when a server starts and stops, and how it describes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from support.flows import begin_one, template
from support.postgres import create_database, drop_database
from support.workers import eventually
from tasker_core.db import Database
from tasker_core.engine.relay import read_outbox_state
from tasker_core.errors import (
    DatabaseUnreachable,
    InvalidTemplate,
    SchemaOutOfDate,
    TemplateChanged,
)
from tasker_core.server.app import create_app
from tasker_core.settings import Settings

GOOD = """
name: good
namespace_name: shop
version: 1.0.0
steps:
  - name: a
    handler: {callable: a}
"""
BAD = GOOD.replace("name: good", "name: bad").replace("callable: a", "callable: ''")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A directory with a good template and a bad one."""
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


async def started(app: FastAPI) -> None:
    """Start an app, and stop it."""
    async with app.router.lifespan_context(app):
        pass


# --- start ------------------------------------------------------------------------------


async def test_a_broker_makes_the_server_a_relay(settings: Settings, conn: Any) -> None:
    """As long as it runs, whether or not the broker is there."""
    app = create_app(settings.model_copy(update={"events_url": "amqp://127.0.0.1:1/"}))

    async def is_relayed() -> bool:
        return (await read_outbox_state(conn)).is_relayed

    async with app.router.lifespan_context(app):
        await eventually(is_relayed)

    async def is_over() -> bool:
        return not await is_relayed()

    await eventually(is_over)


async def test_templates_are_registered_at_start(settings: Settings, templates: Path) -> None:
    """A bad one is reported with its findings, and stops nobody."""
    app = create_app(settings, templates=[templates])
    await started(app)
    first = app.state.backend.templates
    await started(app)

    assert [(one.path.name, one.outcome) for one in first] == [
        ("bad.yaml", "refused"),
        ("good.yaml", "registered"),
    ]
    assert "bad.yaml" in first[0].reason
    assert [one.outcome for one in app.state.backend.templates] == ["refused", "unchanged"]


async def test_the_settings_name_a_directory_too(settings: Settings, templates: Path) -> None:
    """Beside those that the program gives."""
    app = create_app(settings.model_copy(update={"template_path": templates}))
    await started(app)

    assert [one.label for one in app.state.backend.templates] == [None, "shop/good 1.0.0"]


async def test_a_changed_template_in_use_is_refused(
    settings: Settings, tmp_path: Path, conn: Any
) -> None:
    """The server starts all the same, unless it is to be strict."""
    await begin_one(conn, template(name="good"))
    (tmp_path / "good.yaml").write_text(GOOD)
    app = create_app(settings, templates=[tmp_path])
    await started(app)

    assert [one.outcome for one in app.state.backend.templates] == ["refused"]
    assert "raise its version" in app.state.backend.templates[0].reason
    with pytest.raises(TemplateChanged):
        await started(create_app(settings, templates=[tmp_path], strict_templates=True))


async def test_strict_templates_stop_the_start(settings: Settings, templates: Path) -> None:
    """The error has the findings."""
    with pytest.raises(InvalidTemplate):
        await started(create_app(settings, templates=[templates], strict_templates=True))


async def test_a_database_without_the_schema_is_refused(database_url: str) -> None:
    """The message says which command creates it."""
    url = await create_database(database_url)
    try:
        with pytest.raises(SchemaOutOfDate, match="tasker-ctl db upgrade"):
            await started(create_app(Settings(database_url=url)))
    finally:
        await drop_database(url)


async def test_no_database_is_refused() -> None:
    """The server does not start into nothing."""
    url = "postgresql://postgres@127.0.0.1:1/postgres"
    with pytest.raises(DatabaseUnreachable):
        await started(create_app(Settings(database_url=url)))


async def test_an_app_may_start_again(settings: Settings) -> None:
    """After a stop nothing is left behind, and a database of the caller's stays open."""
    database = Database(str(settings.database_url))
    app = create_app(settings, database)
    await started(app)
    await started(app)

    assert app.state.backend.pool is None


# --- describe ---------------------------------------------------------------------------


async def test_openapi_describes_what_is_there(api: httpx.AsyncClient) -> None:
    """Title, version, paths and the schemas that clients are generated from."""
    document = (await api.get("/api-docs/openapi.json")).json()
    schemas = document["components"]["schemas"]

    assert document["info"]["title"] == "Tasker Web API"
    assert document["info"]["version"] == "1.0.0"
    assert {"get", "post"} == set(document["paths"]["/v1/tasks"])
    assert "/health" in document["paths"]
    assert {"TaskRequest", "TaskResponse", "HealthResponse", "ApiError"} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert schemas["TaskRequest"]["required"] == ["name"]
    body = document["paths"]["/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}"]["patch"]
    union = body["requestBody"]["content"]["application/json"]["schema"]
    assert union["discriminator"]["propertyName"] == "action_type"


async def test_every_reference_of_openapi_exists(api: httpx.AsyncClient) -> None:
    """And every operation has an id of its own."""
    reply = await api.get("/api-docs/openapi.json")
    document = reply.json()
    schemas = document["components"]["schemas"]
    operations = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    named = {one.split('"')[0] for one in reply.text.split("#/components/schemas/")[1:]}

    assert named <= set(schemas)
    assert len(operations) == len(set(operations))


async def test_the_docs_are_served(api: httpx.AsyncClient) -> None:
    """For people."""
    reply = await api.get("/api-docs/ui")

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
