"""An application written for upstream's package runs unchanged.

Here is one, a bicycle workshop, with those imports and in that style: routes that import
the client inside, a lifespan that starts a worker unless there is one, thin functions that
give pydantic models, input models that refuse by PermanentError. It is written to disk, and
runs against a Tasker server in a process of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from unittest.mock import MagicMock
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from support.postgres import create_database, drop_database
from tasker_core.db.migrate import upgrade

API_KEY = "a-key-for-tests"

FILES = {
    "workshop/__init__.py": "",
    "workshop/main.py": """
        import logging
        from contextlib import asynccontextmanager

        from fastapi import FastAPI
        from tasker_core import Worker, is_worker_running

        from workshop.routes import repairs

        logger = logging.getLogger(__name__)


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            worker = None
            if not is_worker_running():
                worker = Worker.start(handler_packages=["workshop.handlers"])
                app.state.worker_id = worker.worker_id
                logger.info("Tasker worker started: %s", worker.worker_id)
            yield
            if worker is not None:
                worker.stop()


        app = FastAPI(title="Workshop", lifespan=lifespan)
        app.include_router(repairs.router)


        @app.get("/health")
        async def health():
            running = is_worker_running()
            return {"status": "healthy" if running else "degraded", "worker": running}
    """,
    "workshop/routes/__init__.py": "",
    "workshop/routes/repairs.py": """
        import uuid

        from fastapi import APIRouter, BackgroundTasks, HTTPException
        from pydantic import BaseModel

        router = APIRouter(prefix="/repairs")
        RECORDS = {}


        class Repair(BaseModel):
            template: str = "repair"
            context: dict


        def create(record_id, repair):
            from tasker_core.client import TaskerClient

            record = RECORDS[record_id]
            try:
                client = TaskerClient(initiator="workshop-web", source_system="workshop")
                resp = client.create_task(
                    repair.template,
                    namespace="workshop_py",
                    context=repair.context,
                    reason="A bicycle was brought in",
                )
                record["task_uuid"] = uuid.UUID(resp.task_uuid)
                record["status"] = "processing"
            except Exception as exc:
                record["status"] = "task_creation_failed"
                record["why"] = str(exc)


        @router.post("/", status_code=201)
        async def bring_in(repair: Repair):
            record_id = len(RECORDS) + 1
            RECORDS[record_id] = {"id": record_id, "status": "new", "task_uuid": None}
            create(record_id, repair)
            return RECORDS[record_id]


        @router.post("/later", status_code=202)
        async def bring_in_later(repair: Repair, background: BackgroundTasks):
            record_id = len(RECORDS) + 1
            RECORDS[record_id] = {"id": record_id, "status": "new", "task_uuid": None}
            background.add_task(create, record_id, repair)
            return {"id": record_id}


        @router.get("/{record_id}")
        async def look(record_id: int):
            record = RECORDS.get(record_id)
            if record is None:
                raise HTTPException(status_code=404, detail="no such repair")
            answer = dict(record)
            if record["task_uuid"]:
                from tasker_core.client import TaskerClient

                client = TaskerClient(initiator="workshop-web", source_system="workshop")
                answer["task"] = client.get_task(str(record["task_uuid"])).__dict__
            return answer
    """,
    "workshop/models.py": """
        from typing import Any, Optional

        from pydantic import BaseModel, model_validator
        from tasker_core.errors import PermanentError


        class BicycleInput(BaseModel):
            frame_number: Optional[str] = None
            serial: Optional[str] = None
            faults: Optional[list[str]] = None
            express: bool = False

            @property
            def resolved_number(self) -> Optional[str]:
                return self.frame_number or self.serial

            @model_validator(mode="after")
            def must_have_a_number(self) -> "BicycleInput":
                if not self.resolved_number:
                    raise PermanentError(
                        message="A bicycle needs a number", error_code="MISSING_NUMBER"
                    )
                return self


        class Inspection(BaseModel):
            number: str
            faults: list[str]
            estimate: float


        class Parts(BaseModel):
            parts: list[str]
            cost: float


        class Stand(BaseModel):
            stand: int


        class Invoice(BaseModel):
            number: str
            total: float
            stand: int
            details: Optional[dict[str, Any]] = None
    """,
    "workshop/services.py": """
        from tasker_core.errors import PermanentError, RetryableError

        from workshop import models

        FAILURES = {"supplier": 0}


        def inspect(number, faults):
            if not faults:
                raise PermanentError(message="Nothing is broken", error_code="NO_FAULTS")
            return models.Inspection(
                number=number, faults=faults, estimate=12.5 * len(faults)
            )


        def order_parts(inspection):
            if inspection is None:
                raise PermanentError("Missing inspect dependency")
            if FAILURES["supplier"] > 0:
                FAILURES["supplier"] -= 1
                raise RetryableError(message="The supplier is closed", retry_after=0)
            return models.Parts(
                parts=[f"part for {fault}" for fault in inspection.faults],
                cost=5.0 * len(inspection.faults),
            )


        def invoice(inspection, parts, stand, express):
            total = inspection.estimate + parts.cost
            return models.Invoice(
                number=inspection.number,
                total=total * 1.5 if express else total,
                stand=stand.stand,
            )
    """,
    "workshop/handlers/__init__.py": "",
    "workshop/handlers/repairs.py": """
        from tasker_core.step_handler.functional import depends_on, inputs, step_handler
        from tasker_core.types import StepContext

        from workshop import services
        from workshop.models import BicycleInput, Inspection, Invoice, Parts, Stand


        @step_handler("workshop_inspect")
        @inputs(BicycleInput)
        def inspect_bicycle(inputs: BicycleInput, context: StepContext) -> Inspection:
            return services.inspect(inputs.resolved_number, inputs.faults)


        @step_handler("workshop_order_parts")
        @depends_on(inspection=("inspect", Inspection))
        def order_parts(inspection: Inspection, context: StepContext) -> Parts:
            return services.order_parts(inspection)


        @step_handler("workshop_reserve_stand")
        @inputs("stand")
        def reserve_stand(stand, context: StepContext) -> Stand:
            return Stand(stand=stand or 1)


        @step_handler("workshop_mend")
        @depends_on(parts=("order_parts", Parts), stand=("reserve_stand", Stand))
        @inputs(BicycleInput)
        def mend(parts: Parts, stand: Stand, inputs: BicycleInput, context: StepContext):
            return {"mended": parts.parts, "at": stand.stand}


        @step_handler("workshop_invoice")
        @depends_on(
            inspection=("inspect", Inspection),
            parts=("order_parts", Parts),
            stand=("reserve_stand", Stand),
        )
        @inputs(BicycleInput)
        def send_invoice(
            inspection: Inspection,
            parts: Parts,
            stand: Stand,
            inputs: BicycleInput,
            context: StepContext,
        ) -> Invoice:
            return services.invoice(inspection, parts, stand, inputs.express)


        @step_handler("workshop_careless")
        @depends_on(inspection=("inspect", Inspection))
        def careless(inspection: Inspection, context: StepContext):
            return {"faults": len(inspection.faults)}
    """,
    "workshop/handlers/kinds.py": """
        from tasker_core.step_handler.functional import (
            BatchConfig,
            Decision,
            api_handler,
            batch_analyzer,
            batch_worker,
            decision_handler,
            depends_on,
            inputs,
        )
        from tasker_core.types import StepContext


        @api_handler("workshop_fetch_price", base_url="https://prices.test")
        @inputs("part")
        def fetch_price(part, api, context: StepContext):
            response = api.get("/prices", params={"part": part})
            if not response.ok:
                return api.api_failure(response)
            return api.api_success(response)


        @decision_handler("workshop_route")
        @inputs("cents")
        def route(cents, context: StepContext):
            if cents is None:
                return Decision.skip("no price")
            return Decision.route(["cheap" if cents < 1000 else "dear"], cents=cents)


        @batch_analyzer("workshop_count", worker_template="workshop_clean")
        @inputs("bicycles")
        def count(bicycles, context: StepContext):
            return BatchConfig(total_items=bicycles, batch_size=10)


        @batch_worker("workshop_clean")
        @depends_on(counted="count")
        def clean(counted, batch_context, context: StepContext):
            size = batch_context.end_cursor - batch_context.start_cursor
            return {"items_processed": size, "items_succeeded": size}
    """,
    "templates/repair.yaml": """
        name: repair
        namespace_name: workshop_py
        version: 1.0.0
        description: "A bicycle is mended"
        metadata:
          author: Workshop
          tags: ["namespace:workshop", "pattern:diamond", "language:python"]
        task_handler:
          callable: workshop.task_handlers.RepairHandler
          initialization: {}
        system_dependencies:
          primary: default
          secondary: []
        steps:
          - name: inspect
            handler: {callable: workshop_inspect}
            dependencies: []
            retry: &retry
              retryable: true
              max_attempts: 2
              backoff: exponential
              backoff_base_ms: 100
              max_backoff_ms: 5000
          - name: order_parts
            handler: {callable: workshop_order_parts}
            dependencies: [inspect]
            retry: *retry
          - name: reserve_stand
            handler: {callable: workshop_reserve_stand}
            dependencies: [inspect]
            retry: *retry
          - name: mend
            handler: {callable: workshop_mend}
            dependencies: [order_parts, reserve_stand]
            retry: *retry
          - name: invoice
            handler: {callable: workshop_invoice}
            dependencies: [mend]
            retry: *retry
    """,
    # Both steps ask for a step that this template does not have.
    "templates/lost.yaml": """
        name: lost
        namespace_name: workshop_py
        version: 1.0.0
        on_failure: continue
        steps:
          - name: order_parts
            handler: {callable: workshop_order_parts}
            retry: {max_attempts: 2, backoff: exponential, backoff_base_ms: 100}
          - name: careless
            handler: {callable: workshop_careless}
            retry: {max_attempts: 2, backoff: exponential, backoff_base_ms: 100}
    """,
}

IMPORTS = """
from tasker_core import Worker, is_worker_running
from tasker_core.client import TaskerClient
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.types import StepContext
from tasker_core.errors import PermanentError, RetryableError
from tasker_core.step_handler.functional import (
    api_handler, Decision, decision_handler, BatchConfig, batch_analyzer, batch_worker,
)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The application on disk, where Python finds it."""
    home = tmp_path_factory.mktemp("workshop")
    for name, text in FILES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(home))
        yield home
    for name in [name for name in sys.modules if name.partition(".")[0] == "workshop"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[str]:
    """A database of the application's own."""
    url = asyncio.run(_database(database_url))
    yield url
    asyncio.run(drop_database(url))


@pytest.fixture(scope="module")
def server(home: Path, database: str) -> Iterator[str]:
    """A Tasker server in a process of its own."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tasker_core.cli.main", "server", "run", "--port", str(port)],
        env={
            **os.environ,
            "DATABASE_URL": database,
            "TASKER_TEMPLATE_PATH": str(home / "templates"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(f"{url}/health/ready", process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def environment(home: Path, server: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the application's .env says."""
    monkeypatch.chdir(home)
    for name in ("TASKER_URL", "TASKER_ORCHESTRATION_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("ORCHESTRATION_URL", server)
    monkeypatch.setenv("TASKER_API_KEY", API_KEY)
    monkeypatch.setenv("TASKER_CONFIG_PATH", str(home / "config" / "worker.toml"))
    monkeypatch.setenv("TASKER_ENV", "test")
    monkeypatch.setenv("TASKER_TEMPLATE_PATH", str(home / "templates"))


@pytest.fixture
async def app(environment: None) -> AsyncIterator[FastAPI]:
    """The application with its worker."""
    app = importlib.import_module("workshop.main").app
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def web(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def orchestrator(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """The server as the application's tests ask it."""
    headers = {"X-API-Key": API_KEY}
    async with httpx.AsyncClient(base_url=server, headers=headers, trust_env=False) as client:
        yield client


async def ended(orchestrator: httpx.AsyncClient, task_uuid: str) -> dict:
    """Poll a task until nothing more happens to it."""
    async with asyncio.timeout(20):
        while True:
            answer = await orchestrator.get(f"/v1/tasks/{task_uuid}")
            assert answer.status_code == 200, answer.text
            task = answer.json()
            if task["status"] in ("complete", "error", "cancelled", "blocked_by_failures"):
                return task
            await asyncio.sleep(0.05)


async def brought_in(web, orchestrator, context, template="repair"):
    """Create a task as a customer does, and give its end."""
    answer = await web.post("/repairs/", json={"template": template, "context": context})
    record = answer.json()
    assert (answer.status_code, record["status"]) == (201, "processing"), record
    return record, await ended(orchestrator, record["task_uuid"])


def test_every_import_is_there():
    """The names that applications and generated projects import."""
    exec(compile(IMPORTS, "imports", "exec"), {})


async def test_a_task_from_a_route_to_its_end(web, orchestrator):
    """All steps complete; the application embeds the task in its own JSON."""
    context = {"serial": "B-17", "faults": ["chain", "brake"], "stand": 4, "express": True}

    record, task = await brought_in(web, orchestrator, context)

    assert (task["status"], task["total_steps"]) == ("complete", 5)
    for step in task["steps"]:
        assert step["current_state"] == "complete", step
        assert step["attempts"] >= 1
    shown = (await web.get(f"/repairs/{record['id']}")).json()["task"]
    assert shown["task_uuid"] == record["task_uuid"]
    assert (shown["status"], shown["initiator"]) == ("complete", "workshop-web")
    assert shown["context"] == context
    assert len(shown["steps"]) == 5


async def test_results_of_any_ancestor_reach_a_step(web, orchestrator):
    """The last step reads models of steps two and three before it."""
    context = {"frame_number": "F-1", "faults": ["tyre"], "stand": 2}

    _, task = await brought_in(web, orchestrator, context)

    steps = (await orchestrator.get(f"/v1/tasks/{task['task_uuid']}/workflow_steps")).json()
    (invoice,) = [step for step in steps if step["name"] == "invoice"]
    assert invoice["results"]["result"] == {
        "number": "F-1",
        "total": 17.5,
        "stand": 2,
        "details": None,
    }


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"faults": ["chain"], "note": 1}, "A bicycle needs a number"),
        ({"serial": "B-18"}, "Nothing is broken"),
    ],
)
async def test_what_a_model_or_a_service_refuses_is_final(web, orchestrator, context, message):
    """One attempt, whether pydantic or the function let the PermanentError through."""
    _, task = await brought_in(web, orchestrator, context)

    assert task["status"] == "blocked_by_failures"
    by_name = await steps_of(orchestrator, task)
    inspect = by_name["inspect"]
    assert (inspect["current_state"], inspect["attempts"]) == ("error", 1)
    assert message in inspect["results"]["error"]["message"]
    assert by_name["mend"]["attempts"] == 0


async def test_a_retryable_error_is_retried(web, orchestrator):
    """The supplier is closed once."""
    services = importlib.import_module("workshop.services")
    services.FAILURES["supplier"] = 1

    _, task = await brought_in(web, orchestrator, {"serial": "B-19", "faults": ["bell"]})

    assert task["status"] == "complete"
    assert (await steps_of(orchestrator, task))["order_parts"]["attempts"] == 2


async def test_a_missing_dependency_is_none(web, orchestrator):
    """Whoever looks refuses for good; whoever does not is retried until the attempts are used."""
    _, task = await brought_in(web, orchestrator, {}, template="lost")

    assert task["status"] == "blocked_by_failures"
    by_name = await steps_of(orchestrator, task)
    guarded, careless = by_name["order_parts"], by_name["careless"]
    assert guarded["attempts"] == 1
    assert guarded["results"]["error"]["message"] == "Missing inspect dependency"
    assert careless["attempts"] == 2
    assert "NoneType" in careless["results"]["error"]["message"]


async def test_a_task_that_cannot_be_created_is_noted(web):
    """Any failure is an exception, which the application turns into a record of its own."""
    answer = await web.post("/repairs/", json={"template": "nothing", "context": {}})

    assert answer.json()["status"] == "task_creation_failed"
    assert "nothing" in answer.json()["why"]


async def test_a_task_from_a_background_job(web, orchestrator):
    """Created after the answer has gone out."""
    context = {"serial": "B-20", "faults": ["saddle"]}
    answer = await web.post("/repairs/later", json={"context": context})
    assert answer.status_code == 202

    record = (await web.get(f"/repairs/{answer.json()['id']}")).json()

    assert record["status"] == "processing"
    assert (await ended(orchestrator, record["task_uuid"]))["status"] == "complete"


async def test_the_lifespan_starts_and_stops_one_worker(environment):
    """Healthy inside, degraded outside; one that runs already is left alone."""
    from tasker_core import Worker, is_worker_running

    app = importlib.import_module("workshop.main").app
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        async with app.router.lifespan_context(app):
            assert UUID(app.state.worker_id)
            assert (await client.get("/health")).json() == {"status": "healthy", "worker": True}
            first = Worker.instance()
            async with app.router.lifespan_context(app):
                assert Worker.instance() is first
            assert is_worker_running()
        assert (await client.get("/health")).json() == {"status": "degraded", "worker": False}


# --- unit tests as generated projects have them --------------------------------------------


@pytest.fixture
def handlers(home: Path):
    """The two modules of handlers."""
    names = ("repairs", "kinds")
    return [importlib.import_module(f"workshop.handlers.{name}") for name in names]


def test_a_handler_s_class_with_a_mocked_context(handlers):
    """`fn._handler_class()`, a context of two mocks, and a result that tells."""
    repairs, _ = handlers
    handler = repairs.send_invoice._handler_class()
    context = MagicMock()
    context.get_input = MagicMock(side_effect=lambda key: {"serial": "B-1"}.get(key))
    context.get_dependency_result = MagicMock(
        side_effect=lambda step: {
            "inspect": {"number": "B-1", "faults": ["x"], "estimate": 10.0},
            "order_parts": {"parts": ["y"], "cost": 2.5},
            "reserve_stand": {"stand": 3},
        }.get(step)
    )

    result = handler.call(context)

    assert result.success is True
    assert result.result["total"] == 12.5

    context.get_input = MagicMock(return_value=None)
    refused = handler.call(context)
    assert refused.success is False
    assert (refused.error_code, refused.retryable) == ("MISSING_NUMBER", False)


def test_a_function_stays_a_function(handlers):
    """Called with its dependencies by name, and no context."""
    repairs, _ = handlers

    assert repairs.reserve_stand(stand=None, context=None).stand == 1


def test_an_api_handler_with_its_get_patched(handlers):
    """No network is touched."""
    _, kinds = handlers
    handler = kinds.fetch_price._handler_class()
    handler.get = MagicMock(
        return_value=MagicMock(ok=True, status_code=200, headers={}, body={"cents": 450})
    )
    context = MagicMock()
    context.get_input = MagicMock(return_value="bell")

    result = handler.call(context)

    assert result.success is True
    assert result.result["cents"] == 450
    handler.get.assert_called_once_with("/prices", params={"part": "bell"})


def test_decisions_and_batches(handlers):
    """The other decorators, and what their results look like."""
    _, kinds = handlers
    context = MagicMock()
    context.get_input = MagicMock(side_effect={"cents": 2000, "bicycles": 25}.get)
    context.step_inputs = {"cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 10}}

    routed = kinds.route._handler_class().call(context)
    counted = kinds.count._handler_class().call(context)
    cleaned = kinds.clean._handler_class().call(context)

    assert routed.result["decision_point_outcome"]["step_names"] == ["dear"]
    assert counted.result["worker_count"] == 3
    assert cleaned.result["items_processed"] == 10


async def steps_of(orchestrator: httpx.AsyncClient, task: dict) -> dict[str, dict]:
    """Give the steps of a task by name, with their results."""
    answer = await orchestrator.get(f"/v1/tasks/{task['task_uuid']}/workflow_steps")
    return {step["name"]: step for step in answer.json()}


async def _database(server_url: str) -> str:
    url = await create_database(server_url)
    conn = await asyncpg.connect(url)
    await upgrade(conn)
    await conn.close()
    return url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(page: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            if httpx.get(page, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server is not ready")
