"""The API answers as it describes itself, whatever it is asked.

`API_EXAMPLES=2000 pytest tests/server/test_openapi.py` asks two thousand times an operation.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from support.credentials import bearer, public_pem
from support.flows import CHAIN, Worker, begin_one, template
from support.postgres import create_database, drop_database
from tasker_core.db.migrate import upgrade
from tasker_core.engine.dlq import add_entry
from tasker_core.server import gate
from tasker_core.server.app import create_app
from tasker_core.server.permissions import WILDCARDS
from tasker_core.server.run import Server
from tasker_core.settings import Settings

EXAMPLES = int(os.environ.get("API_EXAMPLES", "8"))

STREAMS = ["followTask", "followTasks"]  # test_events.py: they do not end
DOCUMENT = create_app(Settings()).openapi()
_CONFIG = schemathesis.Config()
_CONFIG.projects.default.generation.update(allow_x00=False)  # hostile text has its own tests
# every border of every member, thousands of cases: only for those who ask for many
_CONFIG.projects.default.phases.coverage.enabled = EXAMPLES > 20
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=_CONFIG).exclude(operation_id=STREAMS)

# What has rules that OpenAPI cannot say. What else fits the schema must be accepted.
_MORE_RULES = {
    "createTask",  # a key in the header and another in the body; the template's input_schema
    "createTasks",  # with atomic, a template that is not there, or its input_schema, refuses all
    "listDlqEntries",  # offset excludes cursor; a cursor is of an answer before
    "listTasks",  # page and per_page exclude cursor and limit; a cursor is of an answer before
}
# Whatever is sent as a template, or as one of many tasks, is looked at, and told of in a reply.
# Of addresses, parameters that are not known are passed over.
_LENIENT = {"createTasks", "validateTemplate"}

_turns = itertools.count()


class Asked:
    """A server in a thread of its own, and what there is to ask it for."""

    def __init__(self, url: str) -> None:
        self._database = url
        self.url = ""
        self.known: dict[str, str] = {}
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Asked:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        conn = await asyncpg.connect(self._database)
        await upgrade(conn)
        worker = Worker(conn)
        task = await begin_one(conn, template(CHAIN))
        await worker.fail(await worker.claim_one(), retryable=False)
        entry = await add_entry(conn, task, actor="ann", reason="look")
        self.known = {
            "task_uuid": str(task),
            "step_uuid": str(task)[:-1] + "1",
            "dlq_entry_uuid": str(entry),
            "namespace": "shop",
            "name": "flow",
            "version": "1.0.0",
        }
        await conn.close()
        made = Settings(
            database_url=self._database,
            sweep_seconds=3600,
            auth=True,
            jwt_public_key=public_pem(),
        )
        async with Server(create_app(made), port=0) as server:
            self.url = server.url
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def asked(database_url: str) -> Iterator[Asked]:
    """One for all operations."""
    url = asyncio.run(create_database(database_url))  # of its own: other tests empty theirs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "FAILURES_PER_MINUTE", 1_000_000)  # wrong credentials are tried, too
        with Asked(url) as one:
            yield one
    asyncio.run(drop_database(url))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, asked: Asked) -> None:
    """No fault of the server, and no status, type or shape that is not in the description."""
    is_there = next(_turns) % 2 == 1
    if is_there:
        for name in case.path_parameters or {}:
            case.path_parameters[name] = asked.known.get(name, case.path_parameters[name])
    name = case.operation.definition.raw["operationId"]
    excluded = [positive_data_acceptance] if name in _MORE_RULES else []
    # what was wrong may be the id or the credential that is put right here
    is_righted = is_there or "Authorization" in (case.headers or {})
    if is_righted or name in _LENIENT or case.method in ("GET", "DELETE"):
        excluded.append(negative_data_rejection)
    headers = bearer(*WILDCARDS)
    case.call_and_validate(base_url=asked.url, headers=headers, excluded_checks=excluded)
