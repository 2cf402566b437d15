"""What every call has in common: who may, how it is refused, and what is counted."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from support.credentials import bearer
from support.flows import CHAIN, ONE, begin_one, template
from support.rpc import RpcClient, details, refusal, told, trailer
from tasker_core.engine.api_keys import create_api_key
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.register import register_template
from tasker_core.server.app import create_app
from tasker_core.server.permissions import PERMISSIONS, WILDCARDS
from tasker_core.server.rpc import api, messages
from tasker_core.server.run import Server
from tasker_core.settings import Settings

TASK = str(uuid4())
STEP = {"task_uuid": TASK, "step_uuid": str(step_uuid(uuid4(), 1))}
# Every call with the least that it takes, and with the permission that it asks for.
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "TaskService/CreateTask": ({"name": "flow"}, "tasks:create"),
    "TaskService/GetTask": ({"task_uuid": TASK}, "tasks:read"),
    "TaskService/ListTasks": ({}, "tasks:list"),
    "TaskService/CancelTask": ({"task_uuid": TASK}, "tasks:cancel"),
    "TaskService/GetTaskContext": ({"task_uuid": TASK}, "tasks:context_read"),
    "TaskService/GetTaskSummary": ({"task_uuid": TASK}, "tasks:read"),
    "StepService/GetStep": (STEP, "steps:read"),
    "StepService/ListSteps": ({"task_uuid": TASK}, "steps:read"),
    "StepService/GetStepAudit": (STEP, "steps:read"),
    "StepService/ResolveStep": (STEP, "steps:resolve"),
    "TemplateService/ListTemplates": ({}, "templates:read"),
    "TemplateService/GetTemplate": ({"name": "flow"}, "templates:read"),
    "AnalyticsService/GetPerformanceMetrics": ({}, "system:analytics_read"),
    "AnalyticsService/GetBottleneckAnalysis": ({}, "system:analytics_read"),
    "DlqService/ListEntries": ({}, "dlq:read"),
    "DlqService/GetEntryByTask": ({"task_uuid": TASK}, "dlq:read"),
    "DlqService/UpdateInvestigation": ({"dlq_entry_uuid": TASK}, "dlq:update"),
    "DlqService/GetStats": ({}, "dlq:stats"),
    "DlqService/GetInvestigationQueue": ({}, "dlq:read"),
    "DlqService/GetStalenessMonitoring": ({}, "dlq:read"),
    "ConfigService/GetConfig": ({}, "system:config_read"),
}
PUBLIC = {f"HealthService/Check{name}" for name in ("Health", "Liveness", "Readiness")}
PUBLIC |= {"HealthService/CheckDetailedHealth"}


def metadata(*permissions: str, **more: Any) -> dict[str, str]:
    """Carry a token, under the name that gRPC wants."""
    return {name.lower(): value for name, value in bearer(*permissions, **more).items()}


async def test_every_call_asks_for_its_permission(guarded_rpc: RpcClient) -> None:
    """Without it, PERMISSION_DENIED; with it alone, whatever else; with none, UNAUTHENTICATED."""
    every = {
        f"{service.name}/{method.name}"
        for service in messages.services()
        for method in service.methods
    }
    assert every == {*CALLS, *PUBLIC, "TaskService/StreamTaskStatus"}
    for name, (given, needed) in CALLS.items():
        others = [one for one in PERMISSIONS if one != needed]
        nobody = await refusal(guarded_rpc.call(name, **given))
        denied = await refusal(guarded_rpc.call(name, metadata(*others), **given))
        try:
            await guarded_rpc.call(name, metadata(needed), **given)
        except Exception as error:
            code = getattr(error, "code", lambda: None)()
            assert code in (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT), name

        assert nobody.code() is StatusCode.UNAUTHENTICATED, name
        assert trailer(nobody)["x-auth-failure-reason"] == "missing"
        assert denied.code() is StatusCode.PERMISSION_DENIED, name
        assert denied.details().startswith(
            f"AUTHORIZATION_FAILED: this needs the permission {needed}"
        )
        assert details(denied)["ErrorInfo"]["reason"] == "AUTHORIZATION_FAILED"
    for name in PUBLIC:
        await guarded_rpc.call(name)
    stream = guarded_rpc.stream("TaskService/StreamTaskStatus", task_uuid=TASK)
    assert (await refusal(anext(told(stream)))).code() is StatusCode.UNAUTHENTICATED


async def test_a_key_a_token_and_what_is_neither(conn: Any, guarded_rpc: RpcClient) -> None:
    """Each is taken for what it is."""
    key, _ = await create_api_key(conn, "till", permissions=["tasks:list"], actor="ada")

    await guarded_rpc.call("TaskService/ListTasks", {"x-api-key": key})
    await guarded_rpc.call("TaskService/ListTasks", metadata("tasks:list"))
    for given, reason in (
        ({"x-api-key": "nonsense"}, "invalid"),
        ({"authorization": "Bearer nonsense"}, "malformed"),
    ):
        error = await refusal(guarded_rpc.call("TaskService/ListTasks", given))
        assert error.code() is StatusCode.UNAUTHENTICATED
        assert trailer(error)["x-auth-failure-reason"] == reason


async def test_other_namespaces_are_not_there(conn: Any, guarded_rpc: RpcClient) -> None:
    """Not to read, not to list, not to follow, and nothing can be begun in them."""
    task = await begin_one(conn, template(CHAIN, namespace="bank"))
    shop = metadata(*WILDCARDS, worker_namespaces=["shop"])
    here = {"task_uuid": str(task)}

    async def code(name: str, /, **given: Any) -> StatusCode:
        return (await refusal(guarded_rpc.call(name, shop, **given))).code()

    assert await code("TaskService/GetTask", **here) is StatusCode.NOT_FOUND
    assert await code("TaskService/CancelTask", **here) is StatusCode.NOT_FOUND
    assert await code("StepService/ListSteps", **here) is StatusCode.NOT_FOUND
    create = {"name": "flow", "namespace": "bank"}
    assert await code("TaskService/CreateTask", **create) is StatusCode.PERMISSION_DENIED
    read = {"name": "flow", "namespace": "bank", "version": "1.0.0"}
    assert await code("TemplateService/GetTemplate", **read) is StatusCode.NOT_FOUND
    assert "tasks" not in await guarded_rpc.call("TaskService/ListTasks", shop)
    stream = guarded_rpc.stream("TaskService/StreamTaskStatus", shop, **here)
    assert (await refusal(anext(told(stream)))).code() is StatusCode.NOT_FOUND


async def test_what_is_wrong_is_told(conn: Any, rpc: RpcClient) -> None:
    """Each mistake with its status, its code and its place."""
    await register_template(
        conn, template(ONE, input_schema={"type": "object", "required": ["order"]})
    )
    flow = {"name": "flow", "namespace": "shop"}

    missing = await refusal(rpc.call("TaskService/CreateTask", **flow))
    unknown = await refusal(rpc.call("TaskService/CreateTask", name="none"))
    nameless = await refusal(rpc.call("TaskService/CreateTask"))
    no_id = await refusal(rpc.call("TaskService/GetTask", task_uuid="bulk/../x"))
    empty = await refusal(rpc.call("TaskService/GetTask"))
    nowhere = await refusal(rpc.call("TaskService/GetTask", task_uuid=TASK))
    page = await refusal(rpc.call("TaskService/ListTasks", pagination={"limit": 101}))
    state = await refusal(rpc.call("TaskService/ListTasks", states=["TASK_STATE_UNSPECIFIED"]))
    large = await refusal(
        rpc.call("TaskService/CreateTask", **flow, context={"text": "x" * 200_000})
    )

    assert missing.code() is StatusCode.INVALID_ARGUMENT
    assert missing.details().startswith("VALIDATION_ERROR: ")
    (violation,) = details(missing)["BadRequest"]["field_violations"]
    assert violation["reason"] == "REQUIRED"
    assert violation["field"] == "/context/order"
    assert unknown.code() is StatusCode.INVALID_ARGUMENT
    assert unknown.details().startswith("NOT_FOUND: ")
    assert details(nameless)["BadRequest"]["field_violations"][0]["field"] == "/name"
    assert no_id.details() == "INVALID_UUID: task_uuid is 'bulk%2F..%2Fx', but must be a UUID"
    assert empty.code() is StatusCode.INVALID_ARGUMENT
    assert nowhere.code() is StatusCode.NOT_FOUND
    assert page.code() is StatusCode.INVALID_ARGUMENT
    assert "is no state of a task" in state.details()
    assert large.code() is StatusCode.RESOURCE_EXHAUSTED
    assert large.details().startswith("PAYLOAD_TOO_LARGE: ")
    request_id = trailer(nowhere)["x-request-id"]
    assert details(nowhere)["RequestInfo"]["request_id"] == request_id


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xff", "cannot be read"), ("nan", "nan is no number in JSON")],
    ids=["no message", "no number"],
)
async def test_what_cannot_be_read_is_the_callers_mistake(
    rpc: RpcClient, content: bytes | str, said: str
) -> None:
    """And not INTERNAL."""
    if content == "nan":
        message = messages.message("CreateTaskRequest")(name="flow")
        message.context.fields["n"].number_value = float("nan")
        content = message.SerializeToString()

    error = await refusal(rpc.channel.unary_unary("/tasker.v1.TaskService/CreateTask")(content))

    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert said in error.details()


async def test_too_much_is_refused_for_a_while(conn: Any, settings: Settings) -> None:
    """UNAVAILABLE while a queue is full, RESOURCE_EXHAUSTED for who asks too often."""
    full = {"max_enqueued_steps": 1, "requests_per_minute": 60, "requests_burst": 2}
    await begin_one(conn, template(ONE))
    async with Server(create_app(settings.model_copy(update=full)), port=0) as server:
        assert server.rpc is not None
        async with RpcClient(server.rpc.address) as rpc:
            busy = await refusal(rpc.call("TaskService/CreateTask", name="flow", namespace="shop"))
            await rpc.call("TaskService/ListTasks")
            often = await refusal(rpc.call("TaskService/ListTasks"))

    assert busy.code() is StatusCode.UNAVAILABLE
    assert busy.details().startswith("BACKPRESSURE: ")
    seconds = trailer(busy)["retry-after"]
    assert 24 <= int(seconds) <= 36
    assert details(busy)["RetryInfo"]["retry_delay"] == f"{seconds}s"
    assert details(busy)["ErrorInfo"]["metadata"]["queue"] == "shop"
    assert often.code() is StatusCode.RESOURCE_EXHAUSTED
    assert trailer(often)["retry-after"] == "1"


async def test_a_failure_of_the_server_tells_nothing_of_itself(
    rpc: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERNAL and an id; what happened is in the log."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    with capture_logs() as logged:
        monkeypatch.setattr("tasker_core.engine.search.count_tasks", broken)
        inside = await refusal(rpc.call("TaskService/ListTasks"))
        monkeypatch.setattr(api.Api, "ask", broken)
        outside = await refusal(rpc.call("TaskService/ListTasks"))

    for error in (inside, outside):
        assert error.code() is StatusCode.INTERNAL
        assert error.details().startswith("INTERNAL_ERROR: the server failed")
        assert "secret" not in str(trailer(error))
        assert trailer(error)["x-request-id"]
    told = [one["event"] for one in logged if one["log_level"] == "error"]
    assert told == ["request_failed", "call_failed"]
    assert "secret" in str(logged)


async def test_calls_are_counted_apart_from_requests(server: Server, rpc: RpcClient) -> None:
    """By method and status; the request that one call stands for is not counted again."""
    await rpc.call("TaskService/ListTasks", {"x-request-id": "mine"})
    error = await refusal(rpc.call("TaskService/GetTask", task_uuid=TASK))
    async with httpx.AsyncClient(base_url=server.url) as client:
        text = (await client.get("/metrics")).text

    assert error.code() is StatusCode.NOT_FOUND
    name = 'tasker_grpc_calls_total{code="%s",method="tasker.v1.TaskService/%s"} 1.0'
    assert name % ("OK", "ListTasks") in text
    assert name % ("NOT_FOUND", "GetTask") in text
    assert 'route="/v1/tasks"' not in text


async def test_a_call_that_is_given_up_ends_here_too(
    rpc: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was waiting for is let go of."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hanging(*_: object, **__: object) -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    monkeypatch.setattr("tasker_core.engine.search.count_tasks", hanging)
    call = asyncio.create_task(rpc.call("TaskService/ListTasks"))
    await begun.wait()
    call.cancel()

    async with asyncio.timeout(10):
        await ended.wait()
