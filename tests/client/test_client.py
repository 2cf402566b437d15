"""The two clients against servers that are made up: what is sent, what is read, when again."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from tasker_core.client import (
    AsyncTaskerClient,
    HealthResponse,
    TaskConflictError,
    TaskerClient,
    TaskerClientError,
    TaskerConnectionError,
    TaskerForbiddenError,
    TaskerUnauthorizedError,
    TaskNotFoundError,
    TaskResponse,
    TaskValidationError,
    TaskWaitTimeout,
    calls,
)
from tasker_core.errors import TaskerError

Serve = Callable[[httpx.Request], httpx.Response]
TASK = uuid4()


@pytest.fixture(autouse=True)
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody rests; how long they would have is written down."""
    noted: list[float] = []
    monkeypatch.setattr(time, "sleep", noted.append)
    return noted


class Answers:
    """Answers in turn, the last one for ever, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client(serve: Serve, **options: Any) -> TaskerClient:
    """Make a client that talks to a function."""
    return TaskerClient(
        "ann", "web", base_url="http://tasker", transport=httpx.MockTransport(serve), **options
    )


def ok(**document: Any) -> httpx.Response:
    """Answer 200 with this JSON."""
    return httpx.Response(200, json=document)


def problem(status: int, **more: Any) -> httpx.Response:
    """Answer as the server does when something is wrong."""
    return httpx.Response(status, json={"status": status, "code": "X", "detail": "no", **more})


# --- what is sent -----------------------------------------------------------------------


def test_create_sends_who_and_what() -> None:
    """Whatever has a JSON form may be in it; more fields overrule the client's own."""
    serve = Answers(httpx.Response(201, json={"task_uuid": "t", "status": "steps_in_process"}))
    correlation = uuid4()
    task = client(serve).create_task(
        "flow",
        namespace="shop",
        context={"at": datetime(2026, 1, 1, tzinfo=UTC), "id": TASK},
        reason="an order",
        tags=["a"],
        correlation_id=correlation,
        initiator="bob",
    )

    request = serve.requests[0]
    assert task == TaskResponse(task_uuid="t", status="steps_in_process")
    assert (request.method, request.url.path) == ("POST", "/v1/tasks")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("tasker-python/")
    assert orjson.loads(request.content) == {
        "name": "flow",
        "namespace": "shop",
        "version": None,
        "context": {"at": "2026-01-01T00:00:00+00:00", "id": str(TASK)},
        "initiator": "bob",
        "source_system": "web",
        "reason": "an order",
        "tags": ["a"],
        "correlation_id": str(correlation),
    }


def test_a_context_without_a_json_form_is_not_sent() -> None:
    """The error names the place."""
    serve = Answers(ok())
    with pytest.raises(TaskValidationError, match="/context/file") as caught:
        client(serve).create_task("flow", context={"file": object()})

    assert caught.value.errors[0]["pointer"] == "/context/file"
    assert serve.requests == []


def test_every_function_has_its_request() -> None:
    """Method, path and query of each."""
    serve = Answers(ok(), httpx.Response(200, json=[]))
    asked = client(serve)
    step = uuid4()
    path, step_path = f"/v1/tasks/{TASK}", f"/v1/tasks/{TASK}/workflow_steps/{step}"

    def sent(call: Callable[[], Any], answer: Any) -> str:
        serve.answers[:] = [httpx.Response(200, json=answer)]
        call()
        request = serve.requests[-1]
        return f"{request.method} {request.url.raw_path.decode()}"

    assert sent(lambda: asked.get_task(TASK), {}) == f"GET {path}"
    assert sent(lambda: asked.get_task(str(TASK), include_steps=False), {}) == (
        f"GET {path}?include_steps=false"
    )
    assert sent(lambda: asked.list_tasks(limit=20, offset=40, status="error", active=True), {}) == (
        "GET /v1/tasks?page=3&per_page=20&status=error&active=true"
    )
    assert sent(lambda: asked.cancel_task(TASK), {}) == f"DELETE {path}"
    assert sent(lambda: asked.cancel_task(TASK, reason="a b"), {}) == f"DELETE {path}?reason=a+b"
    assert sent(lambda: asked.list_task_steps(TASK), []) == f"GET {path}/workflow_steps"
    assert sent(lambda: asked.list_task_transitions(TASK), []) == f"GET {path}/transitions"
    assert sent(lambda: asked.explain_task(TASK), []) == f"GET {path}/why"
    assert sent(lambda: asked.get_step(TASK, step), {}) == f"GET {step_path}"
    assert sent(lambda: asked.get_step_audit_history(TASK, step), []) == f"GET {step_path}/audit"
    assert sent(lambda: asked.list_templates(namespace="a/b"), {}) == (
        "GET /v1/templates?namespace=a%2Fb"
    )
    assert sent(lambda: asked.get_template("a/b", "c d", "1"), {}) == (
        "GET /v1/templates/a%2Fb/c%20d/1"
    )
    assert sent(asked.get_performance_metrics, {}) == "GET /v1/analytics/performance?hours=24"
    assert sent(lambda: asked.get_bottlenecks(limit=3, namespace="a"), {}) == (
        "GET /v1/analytics/bottlenecks?limit=3&min_executions=5&hours=24&namespace=a"
    )
    assert sent(asked.whoami, {}) == "GET /v1/whoami"
    assert sent(asked.health_check, {}) == "GET /health"
    assert sent(asked.readiness, {}) == "GET /health/ready"


def test_actions_on_steps_name_who_acts() -> None:
    """The initiator, unless another actor is given."""
    serve = Answers(ok())
    asked = client(serve)
    asked.reset_step(TASK, TASK, reason="r", drop_checkpoint=True)
    asked.resolve_step(TASK, TASK, reason="r", actor="bob")
    asked.complete_step(TASK, TASK, {"a": 1}, reason="r", metadata={"b": 2}, force=True)

    assert {request.method for request in serve.requests} == {"PATCH"}
    assert [orjson.loads(request.content) for request in serve.requests] == [
        {
            "action_type": "reset_for_retry",
            "reason": "r",
            "reset_by": "ann",
            "drop_checkpoint": True,
        },
        {"action_type": "resolve_manually", "reason": "r", "resolved_by": "bob", "force": False},
        {
            "action_type": "complete_manually",
            "completion_data": {"result": {"a": 1}, "metadata": {"b": 2}},
            "reason": "r",
            "completed_by": "ann",
            "force": True,
        },
    ]


def test_credentials_are_sent() -> None:
    """In the header that is theirs."""
    serve = Answers(ok())
    client(serve, token="t").health_check()
    client(serve, api_key="k").health_check()

    assert serve.requests[0].headers["authorization"] == "Bearer t"
    assert serve.requests[1].headers["x-api-key"] == "k"


@pytest.mark.parametrize("bad", ["x", "", None, 5])
def test_what_is_no_uuid_is_a_value_error(bad: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="must be a UUID"):
        client(Answers(ok())).get_task(bad)


def test_a_bad_page_is_a_value_error() -> None:
    """Division by it would be worse."""
    with pytest.raises(ValueError, match="limit"):
        client(Answers(ok())).list_tasks(limit=0)


# --- what is read -----------------------------------------------------------------------


def test_health_is_read() -> None:
    """Healthy is what says so."""
    asked = client(Answers(ok(status="healthy", timestamp="now")))

    assert asked.health_check() == HealthResponse(True, "healthy", "now")


def test_not_ready_is_an_answer() -> None:
    """It is what was asked for."""
    serve = Answers(httpx.Response(503, json={"status": "not_ready", "checks": {}}))

    assert client(serve).readiness()["status"] == "not_ready"
    assert len(serve.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind", "recoverable"),
    [
        (400, TaskValidationError, False),
        (401, TaskerUnauthorizedError, False),
        (403, TaskerForbiddenError, False),
        (404, TaskNotFoundError, False),
        (408, TaskerClientError, True),
        (409, TaskConflictError, False),
        (413, TaskValidationError, False),
        (422, TaskValidationError, False),
        (429, TaskerClientError, True),
        (500, TaskerClientError, True),
        (503, TaskerClientError, True),
    ],
)
def test_each_status_is_its_error(
    status: int, kind: type[TaskerClientError], recoverable: bool
) -> None:
    """All are TaskerError and RuntimeError, and keep the document."""
    wrong = [{"pointer": "/a", "message": "m", "kind": "k"}]
    with pytest.raises(kind, match="no") as caught:
        client(Answers(problem(status, errors=wrong)), max_retries=0).get_task(TASK)

    error = caught.value
    assert type(error) is kind
    assert isinstance(error, TaskerError)
    assert isinstance(error, RuntimeError)
    assert (error.status_code, error.recoverable) == (status, recoverable)
    assert (error.error_code, error.details["code"], error.errors) == ("X", "X", wrong)


def test_the_older_error_is_read_too() -> None:
    """From a server that knows only `error`."""
    reply = httpx.Response(404, json={"error": {"code": "NOT_FOUND", "message": "gone"}})
    with pytest.raises(TaskNotFoundError, match="gone"):
        client(Answers(reply)).get_task(TASK)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, html="<html>hello</html>"),
        httpx.Response(500, html="<html>oops</html>"),
        httpx.Response(204),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(200, json="text"),
        httpx.Response(200, json=None),
    ],
)
def test_what_is_no_tasker_is_told(reply: httpx.Response) -> None:
    """Never a traceback out of the reading."""
    with pytest.raises(TaskerClientError, match="is this a Tasker server"):
        client(Answers(reply), max_retries=0).get_task(TASK)


# --- again ------------------------------------------------------------------------------


def test_nobody_there_is_told_with_what_to_start(rests: list[float]) -> None:
    """After three retries, whatever the call: nothing was sent."""
    serve = Answers(httpx.ConnectError("refused"))
    with pytest.raises(TaskerConnectionError, match="tasker-ctl dev") as caught:
        client(serve).create_task("flow")

    assert (len(serve.requests), len(rests)) == (4, 3)
    assert caught.value.recoverable
    assert caught.value.base_url == "http://tasker"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int, rests: list[float]) -> None:
    """When asking twice is the same as asking once."""
    serve = Answers(problem(status), problem(status), ok(task_uuid="t"))

    assert client(serve).get_task(TASK).task_uuid == "t"
    assert len(rests) == 2


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("slow"), httpx.ReadError("cut")])
def test_what_may_have_arrived_is_not_sent_twice(trouble: Exception) -> None:
    """A task that was perhaps created is not created again."""
    serve = Answers(trouble)
    for call in (
        lambda: client(serve).create_task("flow"),
        lambda: client(serve).reset_step(TASK, TASK, reason="r"),
    ):
        serve.requests.clear()
        with pytest.raises(TaskerConnectionError):
            call()
        assert len(serve.requests) == 1


def test_a_refusal_is_not_repeated(rests: list[float]) -> None:
    """503 to a creation, and 404, 409, 422 to anything."""
    serve = Answers(problem(503))
    with pytest.raises(TaskerClientError):
        client(serve).create_task("flow")
    serve.answers = [problem(409)]
    with pytest.raises(TaskConflictError):
        client(serve).cancel_task(TASK)

    assert (len(serve.requests), rests) == (2, [])


def test_retry_after_is_obeyed(rests: list[float]) -> None:
    """Up to half a minute."""
    busy, busier = problem(503), problem(503)
    busy.headers["retry-after"], busier.headers["retry-after"] = "7", "3600"
    client(Answers(busy, busier, ok())).get_task(TASK)

    assert rests == [7.0, 30.0]


def test_rests_grow_and_are_bounded() -> None:
    """Half a second, one, two … and never more than 30."""
    for retry, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (50, 30.0)):
        drawn = [calls.rest_before(retry, None) for _ in range(200)]
        assert 0 <= min(drawn) <= max(drawn) <= longest


# --- wait -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["complete", "error", "cancelled", "resolved_manually"])
def test_waiting_ends_with_the_task(status: str, rests: list[float]) -> None:
    """The task comes with its steps; the looks before it without."""
    serve = Answers(ok(status="steps_in_process"), ok(status=status), ok(status=status, steps=[{}]))
    task = client(serve).wait_for_completion(TASK, poll_interval=0.5)

    assert (task.status, task.steps) == (status, [{}])
    assert rests == [0.5]
    assert serve.requests[0].url.params["include_steps"] == "false"
    assert "include_steps" not in serve.requests[-1].url.params


def test_waiting_has_an_end() -> None:
    """The error is a TimeoutError too, and has the task as it stands."""
    serve = Answers(ok(status="steps_in_process", name="flow", total_steps=3))
    with pytest.raises(TimeoutError, match="0 of 3 steps") as caught:
        client(serve).wait_for_completion(TASK, timeout=0)

    assert isinstance(caught.value, TaskWaitTimeout)
    assert caught.value.task.name == "flow"


def test_a_blocked_task_has_a_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may still help; after it, blocked is an end."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    blocked, running = ok(status="blocked_by_failures"), ok(status="steps_in_process")
    serve = Answers(blocked, blocked, running, blocked)
    task = client(serve).wait_for_completion(TASK, timeout=60, failure_grace=2.5)

    assert task.status == "blocked_by_failures"
    assert now[0] == 3 + 2.5


# --- life -------------------------------------------------------------------------------


def test_a_closed_client_opens_again() -> None:
    """Close is for the end of a block, not of the object."""
    asked = client(Answers(ok(status="healthy")))
    with asked as same:
        assert same.health_check().healthy
    asked.close()
    assert asked.health_check().healthy


def test_both_clients_have_the_same_functions() -> None:
    """With the same parameters."""
    for name, function in inspect.getmembers(TaskerClient, inspect.isfunction):
        if not name.startswith("_"):
            twin = getattr(AsyncTaskerClient, name)
            yields = name in ("iter_tasks", "watch", "watch_all")
            assert yields or inspect.iscoroutinefunction(twin)
            one, other = inspect.signature(function), inspect.signature(twin)
            assert other.parameters == one.parameters, name
            assert yields or other.return_annotation == one.return_annotation, name


async def test_the_async_client_sends_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same rules."""
    monkeypatch.setattr(calls, "rest_before", lambda *_: 0)
    serve = Answers(httpx.ConnectError("refused"), problem(503), ok(task_uuid="t"))
    transport = httpx.MockTransport(serve)
    async with AsyncTaskerClient(base_url="http://tasker", transport=transport) as asked:
        task = await asked.get_task(UUID(str(TASK)))

    assert (task.task_uuid, len(serve.requests)) == ("t", 3)


def test_importing_costs_little() -> None:
    """No HTTP library, no pydantic, before the first call."""
    program = (
        "import sys, tasker_core.client; tasker_core.client.TaskerClient();"
        "print(sorted({'httpx', 'pydantic', 'fastapi', 'asyncpg'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
