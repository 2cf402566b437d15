"""Log lines with the step and the request that they belong to, and without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from support.flows import template
from support.workers import Bench
from tasker_core.engine.api_keys import create_api_key
from tasker_core.logging import StepFields, log_info
from tasker_core.observe.logs import configure
from tasker_core.server.app import create_app
from tasker_core.settings import Settings


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, as JSON."""
    stream = io.StringIO()
    before, level = structlog.get_config(), logging.getLogger().level
    configure(logging.DEBUG, as_json=True, stream=stream)
    yield stream
    structlog.configure(**before)
    root = logging.getLogger()
    root.setLevel(level)
    for one in [one for one in root.handlers if type(one).__name__ == "_Lines"]:
        root.removeHandler(one)


def logged(stream: io.StringIO, event: str) -> list[dict[str, Any]]:
    """Give the lines of one event."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


async def test_a_handlers_own_lines_carry_its_step(lines: io.StringIO, bench: Bench) -> None:
    """In a thread and on the loop, from structlog, logging and log_info; outside there is none."""

    def in_thread(_: Any) -> dict[str, Any]:
        structlog.get_logger("app").info("charged", amount=3)
        logging.getLogger("app").info("charged")
        log_info("charged")
        return {}

    async def on_loop(_: Any) -> dict[str, Any]:
        structlog.get_logger("app").info("mailed", task_uuid="my own")
        return {}

    worker = await bench.worker({"a": in_thread, "b": on_loop})
    _, task_uuid = await bench.run(template({"a": [], "b": ["a"]}))
    await worker.stop()
    structlog.get_logger("app").info("outside")
    correlation = await bench.conn.fetchval("select correlation_id from tasker.tasks")

    charged, (mailed,) = logged(lines, "charged"), logged(lines, "mailed")
    assert len(charged) == 3
    for line in charged:
        assert line["task_uuid"] == str(task_uuid)
        assert (line["step_name"], line["namespace"]) == ("a", "shop")
        assert line["correlation_id"] == str(correlation)
        assert line["step_uuid"]
        assert (line["level"], line["timestamp"][-1]) == ("info", "Z")
    assert (charged[0]["attempt"], charged[0]["amount"], charged[1]["logger"]) == (1, 3, "app")
    assert (mailed["step_name"], mailed["task_uuid"]) == ("b", "my own")
    assert "task_uuid" not in logged(lines, "outside")[0]


async def test_a_line_a_request(lines: io.StringIO, api: httpx.AsyncClient) -> None:
    """With the request's id, and the route; those that are asked all the time whisper."""
    reply = await api.get("/v1/tasks?status=complete", headers={"X-Request-ID": "r-1"})
    await api.get("/health")
    request, health = logged(lines, "request")

    assert reply.headers["X-Request-ID"] == "r-1"
    assert (request["request_id"], request["level"]) == ("r-1", "info")
    assert (request["method"], request["route"], request["status"]) == ("GET", "/v1/tasks", 200)
    assert request["bytes"] == len(reply.content)
    assert health["level"] == "debug"


async def test_the_line_says_who_called_and_no_path_writes_one(
    lines: io.StringIO, clean_database: str, conn: Any
) -> None:
    """A key is named by its id, never by itself; a stranger by nothing."""
    key, made = await create_api_key(conn, "shop", permissions=["tasks:list"], actor="ada")
    app = create_app(Settings(database_url=clean_database, sweep_seconds=3600, auth=True))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tasker") as client,
    ):
        await client.get("/v1/whoami", headers={"X-API-Key": key})
        await client.get('/v1/x%0a{"event":"request"}%1b[2J', headers={"X-API-Key": "guess"})
    known, stranger = logged(lines, "request")

    assert (known["subject"], known["key_id"], known["status"]) == ("shop", made.key_id, 200)
    assert (stranger["subject"], stranger["key_id"], stranger["status"]) == (None, None, 401)
    assert stranger["path"] == '/v1/x\\n{"event":"request"}\\x1b[2J'
    assert key not in lines.getvalue()
    assert "guess" not in lines.getvalue()


def test_secrets_are_not_logged(lines: io.StringIO) -> None:
    """By their names, within structures too, and passwords within addresses."""
    log = structlog.get_logger("app")
    log.info(
        "said",
        password="hunter2",
        headers={"Authorization": "Bearer hunter2", "Accept": "text/plain"},
        api_key="hunter2",
        auth_token="hunter2",
        where="cannot reach postgresql://me:hunter2@db/shop today",
        tokens_used=3,
    )
    logging.getLogger("app").warning("at %s", "amqp://me:hunter2@broker/")
    (said,) = logged(lines, "said")

    assert "hunter2" not in lines.getvalue()
    assert said["headers"] == {"Authorization": "***", "Accept": "text/plain"}
    assert said["where"] == "cannot reach postgresql://me:***@db/shop today"
    assert said["tokens_used"] == 3


async def test_a_filter_for_formats_of_ones_own(bench: Bench) -> None:
    """Records of logging get the fields as attributes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(step_name)s %(attempt)s"))
    handler.addFilter(StepFields())
    own = logging.getLogger("app.own")
    own.addHandler(handler)

    def run(_: Any) -> dict[str, Any]:
        own.warning("charged")
        return {}

    worker = await bench.worker({"a": run})
    await bench.run(template())
    await worker.stop()
    own.removeHandler(handler)

    assert stream.getvalue() == "charged a 1\n"
