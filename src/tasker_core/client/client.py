"""The two clients: `TaskerClient` blocks, `AsyncTaskerClient` is awaited.

Both send the same calls, in the same way; see calls.py. httpx is imported with the
first call, so that importing this costs nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from tasker_core.client import calls
from tasker_core.client.address import auth_headers, resolve_timeout, resolve_url
from tasker_core.client.answers import (
    HealthResponse,
    StepAuditResponse,
    StepCause,
    StepResponse,
    TaskActionsResponse,
    TaskListResponse,
    TaskResponse,
    WhoamiResponse,
)
from tasker_core.client.calls import Call
from tasker_core.client.dlq import AsyncDlqCalls, DlqCalls
from tasker_core.client.errors import (
    TaskerClientError,
    TaskerConnectionError,
    TaskValidationError,
    TaskWaitTimeout,
)
from tasker_core.client.live import AsyncLiveCalls, LiveCalls, wait_within
from tasker_core.client.profile import read_profile
from tasker_core.client.views import AsyncViewCalls, ViewCalls
from tasker_core.errors import NotStorable
from tasker_core.payload import encode

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
TaskAction = Literal["cancel", "resolve", "reset"]

DEFAULT_RETRIES = 3

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_MAX_BODY_BYTES = 256 * 1024 * 1024  # the server has its own limit


class _Client:
    """What both clients know, and what they decide: everything but the sending."""

    def __init__(
        self,
        initiator: str = "tasker-core-python",
        source_system: str = "tasker-core",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        token: str | None = None,
        profile: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        transport: Any = None,
    ) -> None:
        self.initiator = initiator
        self.source_system = source_system
        found = read_profile(profile)
        self.base_url = resolve_url(base_url, found)
        self.timeout = resolve_timeout(timeout, found)
        given = max_retries if max_retries is not None else found.max_retries
        self.max_retries = DEFAULT_RETRIES if given is None else given
        self._transport = transport
        self._auth = auth_headers(api_key, token, found)
        self._http: Any = None

    def _options(self) -> dict[str, Any]:
        """Give the arguments of httpx.Client.

        Certificates are read only where they count, and no proxy stands between a
        client and its own machine.
        """
        from importlib.metadata import version

        agent = f"tasker-python/{version('tasker-py')}"
        return {
            "base_url": self.base_url,
            "headers": {"User-Agent": agent, "Accept": "application/json", **self._auth},
            "timeout": self.timeout,
            "transport": self._transport,
            "verify": self.base_url.startswith("https:"),
            "trust_env": urlsplit(self.base_url).hostname not in _THIS_MACHINE,
        }

    def _create(
        self,
        name: str,
        namespace: str,
        context: Mapping[str, Any] | None,
        version: str | None,
        reason: str,
        wait: float | None,
        or_get: bool,
        more: Mapping[str, Any],
    ) -> Call[TaskResponse]:
        return calls.create_task(
            name,
            namespace=namespace,
            context=context,
            version=version,
            initiator=self.initiator,
            source_system=self.source_system,
            reason=reason,
            wait=None if wait is None else min(math.ceil(wait), wait_within(self.timeout)),
            or_get=or_get,
            more=more,
        )

    def _after_answer(self, call: Call[T], response: httpx.Response, retry: int) -> float | None:
        """Say how long to rest before the next try; None: this is the answer."""
        if retry > self.max_retries or not calls.may_repeat(call, response.status_code):
            return None
        return calls.rest_before(retry, response.headers.get("Retry-After"))

    def _after_failure(self, call: Call[T], error: Exception, retry: int) -> float:
        """Say how long to rest before the next try.

        Raises:
            TaskerConnectionError: There is to be none.
        """
        import httpx

        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        if retry > self.max_retries or not (never_sent or call.repeatable):
            reason = str(error) or type(error).__name__
            if isinstance(error, httpx.TimeoutException):
                reason = f"no answer within {self.timeout:g} seconds"
            raise TaskerConnectionError(self.base_url, reason) from error
        return calls.rest_before(retry, None)

    def _after_stream(self, call: Call[Any], error: Exception | None, retry: int) -> float:
        """Say how long to rest before a stream is opened again.

        Raises:
            TaskerClientError: It is not to be: the server refuses, or is away for too long.
        """
        if error is None:  # it ended in good order, as when a server stops
            return calls.rest_before(max(1, retry), None)
        if isinstance(error, TaskerClientError):
            if not error.recoverable or retry > self.max_retries:
                raise error
            return calls.rest_before(retry, None)
        return self._after_failure(call, error, max(1, retry))


class TaskerClient(_Client, DlqCalls, LiveCalls, ViewCalls):
    """Talks to a Tasker server.

    Args:
        initiator: Who asks for tasks and acts on steps, where a call does not say.
        source_system: The system that asks for tasks, where a call does not say.
        base_url: The server; else TASKER_URL or ORCHESTRATION_URL, else this machine's
            port 8080.
        api_key: An API key; else TASKER_API_KEY.
        token: A bearer token; beats a key.
        profile: The profile of `.config/tasker.toml` that says what is neither given nor in
            the environment; else TASKER_CLIENT_PROFILE, else none.
        timeout: Seconds to wait for each answer; else TASKER_ORCHESTRATION_TIMEOUT_MS, else
            the profile's, else 30.
        max_retries: How often a call is sent again that found nobody, or that may be
            sent twice and found the server busy; else the profile's, else 3.
        transport: An httpx transport, for tests.

    Every method raises TaskerClientError or one of its subclasses when the server says
    no or does not answer, and ValueError for an id that is no UUID.
    """

    def create_task(
        self,
        name: str,
        *,
        namespace: str = "default",
        context: Mapping[str, Any] | None = None,
        version: str | None = None,
        reason: str = "Task requested",
        wait: float | None = None,
        or_get: bool = False,
        **more: Any,
    ) -> TaskResponse:
        """Begin a task.

        Args:
            name: The template.
            namespace: Its namespace.
            context: What the steps work on; anything that has a JSON form.
            version: None takes the newest registered one.
            reason: Why.
            wait: Seconds to wait for its end, at most 25; `results` of a task that has ended
                is what came of it. One that has not goes on.
            or_get: Give the task that a request with this `idempotency_key` and context has
                created before, where there is one; else that is a TaskConflictError.
            more: `tags`, `priority`, `correlation_id`, `parent_correlation_id`,
                `idempotency_key`, `initiator`, `source_system`.

        Raises:
            TaskNotFoundError: There is no such template.
            TaskConflictError: A task with this identity exists.
            TaskValidationError: The context does not fit; `errors` says where.
        """
        return self._send(
            self._create(name, namespace, context, version, reason, wait, or_get, more)
        )

    def get_task(self, task_uuid: UUID | str, *, include_steps: bool = True) -> TaskResponse:
        """Read a task, with where its steps stand."""
        return self._send(calls.get_task(task_uuid, include_steps=include_steps))

    def list_tasks(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        namespace: str | None = None,
        status: str | None = None,
        **filters: Any,
    ) -> TaskListResponse:
        """List tasks, the youngest first.

        Args:
            limit: How many, at most 100.
            offset: How many to skip; rounded down to a multiple of `limit`.
            namespace: Only of this namespace.
            status: Only in this state, or in these, with commas.
            filters: `name`, `q` (how the name begins), `version`, `initiator`,
                `source_system`, `correlation_id`, `parent_correlation_id`, `tag` (one or a
                list of them), `created_after`, `created_before`, `context` (a mapping that the
                context contains), and `active=True` for tasks that have not ended.
        """
        wanted = {"namespace": namespace, "status": status, **filters}
        return self._send(calls.list_tasks(limit, offset, wanted))

    def cancel_task(self, task_uuid: UUID | str, *, reason: str | None = None) -> dict[str, bool]:
        """Cancel a task; to cancel it twice is no error."""
        return self._send(calls.cancel_task(task_uuid, reason))

    def act_on_tasks(
        self,
        action: TaskAction,
        *,
        task_uuids: Iterable[UUID | str] | None = None,
        where: Mapping[str, Any] | None = None,
        reason: str,
        actor: str | None = None,
        drop_checkpoints: bool = False,
        dry_run: bool = False,
        limit: int = 1000,
        cursor: UUID | str | None = None,
    ) -> TaskActionsResponse:
        """Cancel, resolve or reset many tasks, each for itself.

        A reset runs all the failed steps of a task again; to resolve a task is to declare it
        settled, with its steps as they are.

        Args:
            action: `"cancel"`, `"resolve"` or `"reset"`.
            task_uuids: These tasks, at most 1000; with `where`, those of them that fit.
            where: What the tasks have in common: `status` (a list), `namespace`, `name`,
                `version`, `failed_step`, `error_type`, `created_after`, `created_before`.
            reason: Why; kept in the history of each.
            actor: Who; the client's `initiator` if None.
            drop_checkpoints: Of a reset: the steps begin from their start.
            dry_run: Change nothing, and say what would become of each.
            limit: How many to find at most, without `task_uuids`.
            cursor: The `next_cursor` of the answer before, to go on from there.

        Raises:
            TaskValidationError: It does not say which tasks, or says it with unknown words.
        """
        call = calls.act_on_tasks(
            action,
            task_uuids=task_uuids,
            where=where,
            reason=reason,
            actor=actor or self.initiator,
            drop_checkpoints=drop_checkpoints,
            dry_run=dry_run,
            limit=limit,
            cursor=cursor,
        )
        return self._send(call)

    def list_task_steps(self, task_uuid: UUID | str) -> list[StepResponse]:
        """List a task's steps with their results, parents before children."""
        return self._send(calls.list_task_steps(task_uuid))

    def list_task_transitions(self, task_uuid: UUID | str) -> list[dict[str, Any]]:
        """List every change of state of a task and its steps, the oldest first."""
        return self._send(calls.list_task_transitions(task_uuid))

    def explain_task(self, task_uuid: UUID | str) -> list[StepCause]:
        """Say of each step that is neither running nor done why it is not."""
        return self._send(calls.explain_task(task_uuid))

    def get_step(self, task_uuid: UUID | str, step_uuid: UUID | str) -> StepResponse:
        """Read one step with its result."""
        return self._send(calls.get_step(task_uuid, step_uuid))

    def get_step_audit_history(
        self, task_uuid: UUID | str, step_uuid: UUID | str
    ) -> list[StepAuditResponse]:
        """List what happened to a step, the newest first."""
        return self._send(calls.get_step_audit_history(task_uuid, step_uuid))

    def reset_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        drop_checkpoint: bool = False,
    ) -> StepResponse:
        """Run a failed step again, with all its attempts before it."""
        action = calls.reset_action(reason, actor or self.initiator, drop_checkpoint)
        return self._send(calls.change_step(task_uuid, step_uuid, action))

    def resolve_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        force: bool = False,
    ) -> StepResponse:
        """Declare a step settled without a result; `force` even while it is running."""
        action = calls.resolve_action(reason, actor or self.initiator, force)
        return self._send(calls.change_step(task_uuid, step_uuid, action))

    def complete_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        result: Any,
        *,
        reason: str,
        metadata: Any = None,
        actor: str | None = None,
        force: bool = False,
    ) -> StepResponse:
        """Complete a step with a result of yours; `force` even while it is running."""
        action = calls.complete_action(result, metadata, reason, actor or self.initiator, force)
        return self._send(calls.change_step(task_uuid, step_uuid, action))

    def list_templates(self, *, namespace: str | None = None) -> dict[str, Any]:
        """List what is registered: `{"namespaces": [], "templates": [], "total_count": int}`."""
        return self._send(calls.list_templates(namespace))

    def get_template(self, namespace: str, name: str, version: str) -> dict[str, Any]:
        """Read one version of a template."""
        return self._send(calls.get_template(namespace, name, version))

    def get_performance_metrics(
        self, *, hours: int = 24, namespace: str | None = None
    ) -> dict[str, Any]:
        """Measure how the tasks of the last hours do: `{"total_tasks": int, …}`."""
        return self._send(calls.get_performance_metrics(hours, namespace))

    def get_bottlenecks(
        self,
        *,
        limit: int = 10,
        min_executions: int = 5,
        hours: int = 24,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Find the slowest of the last hours: `{"slow_steps": [], "slow_tasks": [], …}`."""
        return self._send(calls.get_bottlenecks(limit, min_executions, hours, namespace))

    def health_check(self) -> HealthResponse:
        """Ask whether the server answers."""
        return self._send(calls.health_check())

    def whoami(self) -> WhoamiResponse:
        """Ask whom the server takes this client for, and what it may do.

        Raises:
            TaskerUnauthorizedError: For nobody; `reason` says why.
        """
        return self._send(calls.whoami())

    def readiness(self) -> dict[str, Any]:
        """Ask whether the server can work: `{"status": "ready" or "not_ready", "checks": {}}`."""
        return self._send(calls.readiness())

    def wait_for_completion(
        self,
        task_uuid: UUID | str,
        *,
        timeout: float = 30,
        poll_interval: float = 1,
        failure_grace: float = 10,
    ) -> TaskResponse:
        """Wait until a task has ended.

        Args:
            task_uuid: The task.
            timeout: Seconds to wait at most.
            poll_interval: Seconds between two looks.
            failure_grace: Seconds for which a task may be blocked by failures before that
                counts as its end.

        Raises:
            TaskWaitTimeout: It did not end in time.
        """
        patience = _Patience(timeout, poll_interval, failure_grace)
        while True:
            rest = patience.rest_after(self.get_task(task_uuid, include_steps=False))
            if rest is None:
                return self.get_task(task_uuid)
            time.sleep(rest)

    def close(self) -> None:
        """Close the connections. The next call opens them again."""
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def __enter__(self) -> TaskerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> httpx.Client:
        import httpx

        if self._http is None:
            self._http = httpx.Client(**self._options())
            weakref.finalize(self, self._http.close)  # few callers close a client
        http: httpx.Client = self._http
        return http

    def _send(self, call: Call[T]) -> T:
        import httpx

        body = _body(call)
        http = self._open()
        retry = 0
        while True:
            retry += 1
            try:
                response = http.request(call.method, call.path, params=call.query, **body)
            except httpx.TransportError as error:
                rest = self._after_failure(call, error, retry)
            else:
                pause = self._after_answer(call, response, retry)
                if pause is None:
                    return _read(call, response)
                rest = pause
            time.sleep(rest)


class AsyncTaskerClient(_Client, AsyncDlqCalls, AsyncLiveCalls, AsyncViewCalls):
    """Talks to a Tasker server from async code: `TaskerClient` with `await`, see there."""

    async def create_task(
        self,
        name: str,
        *,
        namespace: str = "default",
        context: Mapping[str, Any] | None = None,
        version: str | None = None,
        reason: str = "Task requested",
        wait: float | None = None,
        or_get: bool = False,
        **more: Any,
    ) -> TaskResponse:
        """Begin a task; see `TaskerClient.create_task`."""
        return await self._send(
            self._create(name, namespace, context, version, reason, wait, or_get, more)
        )

    async def get_task(self, task_uuid: UUID | str, *, include_steps: bool = True) -> TaskResponse:
        """Read a task, with where its steps stand."""
        return await self._send(calls.get_task(task_uuid, include_steps=include_steps))

    async def list_tasks(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        namespace: str | None = None,
        status: str | None = None,
        **filters: Any,
    ) -> TaskListResponse:
        """List tasks, the youngest first."""
        wanted = {"namespace": namespace, "status": status, **filters}
        return await self._send(calls.list_tasks(limit, offset, wanted))

    async def cancel_task(
        self, task_uuid: UUID | str, *, reason: str | None = None
    ) -> dict[str, bool]:
        """Cancel a task; to cancel it twice is no error."""
        return await self._send(calls.cancel_task(task_uuid, reason))

    async def act_on_tasks(
        self,
        action: TaskAction,
        *,
        task_uuids: Iterable[UUID | str] | None = None,
        where: Mapping[str, Any] | None = None,
        reason: str,
        actor: str | None = None,
        drop_checkpoints: bool = False,
        dry_run: bool = False,
        limit: int = 1000,
        cursor: UUID | str | None = None,
    ) -> TaskActionsResponse:
        """Cancel, resolve or reset many tasks, each for itself; see `TaskerClient`."""
        call = calls.act_on_tasks(
            action,
            task_uuids=task_uuids,
            where=where,
            reason=reason,
            actor=actor or self.initiator,
            drop_checkpoints=drop_checkpoints,
            dry_run=dry_run,
            limit=limit,
            cursor=cursor,
        )
        return await self._send(call)

    async def list_task_steps(self, task_uuid: UUID | str) -> list[StepResponse]:
        """List a task's steps with their results, parents before children."""
        return await self._send(calls.list_task_steps(task_uuid))

    async def list_task_transitions(self, task_uuid: UUID | str) -> list[dict[str, Any]]:
        """List every change of state of a task and its steps, the oldest first."""
        return await self._send(calls.list_task_transitions(task_uuid))

    async def explain_task(self, task_uuid: UUID | str) -> list[StepCause]:
        """Say of each step that is neither running nor done why it is not."""
        return await self._send(calls.explain_task(task_uuid))

    async def get_step(self, task_uuid: UUID | str, step_uuid: UUID | str) -> StepResponse:
        """Read one step with its result."""
        return await self._send(calls.get_step(task_uuid, step_uuid))

    async def get_step_audit_history(
        self, task_uuid: UUID | str, step_uuid: UUID | str
    ) -> list[StepAuditResponse]:
        """List what happened to a step, the newest first."""
        return await self._send(calls.get_step_audit_history(task_uuid, step_uuid))

    async def reset_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        drop_checkpoint: bool = False,
    ) -> StepResponse:
        """Run a failed step again, with all its attempts before it."""
        action = calls.reset_action(reason, actor or self.initiator, drop_checkpoint)
        return await self._send(calls.change_step(task_uuid, step_uuid, action))

    async def resolve_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        *,
        reason: str,
        actor: str | None = None,
        force: bool = False,
    ) -> StepResponse:
        """Declare a step settled without a result; `force` even while it is running."""
        action = calls.resolve_action(reason, actor or self.initiator, force)
        return await self._send(calls.change_step(task_uuid, step_uuid, action))

    async def complete_step(
        self,
        task_uuid: UUID | str,
        step_uuid: UUID | str,
        result: Any,
        *,
        reason: str,
        metadata: Any = None,
        actor: str | None = None,
        force: bool = False,
    ) -> StepResponse:
        """Complete a step with a result of yours; `force` even while it is running."""
        action = calls.complete_action(result, metadata, reason, actor or self.initiator, force)
        return await self._send(calls.change_step(task_uuid, step_uuid, action))

    async def list_templates(self, *, namespace: str | None = None) -> dict[str, Any]:
        """List what is registered: `{"namespaces": [], "templates": [], "total_count": int}`."""
        return await self._send(calls.list_templates(namespace))

    async def get_template(self, namespace: str, name: str, version: str) -> dict[str, Any]:
        """Read one version of a template."""
        return await self._send(calls.get_template(namespace, name, version))

    async def get_performance_metrics(
        self, *, hours: int = 24, namespace: str | None = None
    ) -> dict[str, Any]:
        """Measure how the tasks of the last hours do: `{"total_tasks": int, …}`."""
        return await self._send(calls.get_performance_metrics(hours, namespace))

    async def get_bottlenecks(
        self,
        *,
        limit: int = 10,
        min_executions: int = 5,
        hours: int = 24,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Find the slowest of the last hours: `{"slow_steps": [], "slow_tasks": [], …}`."""
        return await self._send(calls.get_bottlenecks(limit, min_executions, hours, namespace))

    async def health_check(self) -> HealthResponse:
        """Ask whether the server answers."""
        return await self._send(calls.health_check())

    async def whoami(self) -> WhoamiResponse:
        """Ask whom the server takes this client for, and what it may do."""
        return await self._send(calls.whoami())

    async def readiness(self) -> dict[str, Any]:
        """Ask whether the server can work: `{"status": "ready" or "not_ready", "checks": {}}`."""
        return await self._send(calls.readiness())

    async def wait_for_completion(
        self,
        task_uuid: UUID | str,
        *,
        timeout: float = 30,  # noqa: ASYNC109 - the sync twin has it too
        poll_interval: float = 1,
        failure_grace: float = 10,
    ) -> TaskResponse:
        """Wait until a task has ended; TaskWaitTimeout when it does not in time."""
        patience = _Patience(timeout, poll_interval, failure_grace)
        while True:
            rest = patience.rest_after(await self.get_task(task_uuid, include_steps=False))
            if rest is None:
                return await self.get_task(task_uuid)
            await asyncio.sleep(rest)

    async def close(self) -> None:
        """Close the connections. The next call opens them again."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def __aenter__(self) -> AsyncTaskerClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(**self._options())
        http: httpx.AsyncClient = self._http
        return http

    async def _send(self, call: Call[T]) -> T:
        import httpx

        body = _body(call)
        http = self._open()
        retry = 0
        while True:
            retry += 1
            try:
                response = await http.request(call.method, call.path, params=call.query, **body)
            except httpx.TransportError as error:
                rest = self._after_failure(call, error, retry)
            else:
                pause = self._after_answer(call, response, retry)
                if pause is None:
                    return _read(call, response)
                rest = pause
            await asyncio.sleep(rest)


class _Patience:
    """How long to wait for a task."""

    def __init__(self, timeout: float, poll_interval: float, failure_grace: float) -> None:
        self._seconds = timeout
        self._deadline = time.monotonic() + timeout
        self._poll_interval = poll_interval
        self._failure_grace = failure_grace
        self._blocked_since: float | None = None

    def rest_after(self, task: TaskResponse) -> float | None:
        """Say how long to rest before the next look; None: the task has ended.

        Raises:
            TaskWaitTimeout: No time is left.
        """
        now = time.monotonic()
        if calls.has_ended(task):
            return None
        rest = self._poll_interval
        if task.status == "blocked_by_failures":
            self._blocked_since = now if self._blocked_since is None else self._blocked_since
            grace = self._blocked_since + self._failure_grace - now
            if grace <= 0:
                return None
            rest = min(rest, grace)
        else:
            self._blocked_since = None
        if now >= self._deadline:
            raise TaskWaitTimeout(task, self._seconds)
        return min(rest, self._deadline - now)


def _body(call: Call[Any]) -> dict[str, Any]:
    headers = dict(call.headers or {})
    if call.body is None:
        return {"headers": headers} if headers else {}
    try:
        text = encode(call.body, max_bytes=_MAX_BODY_BYTES)
    except NotStorable as error:
        wrong = {"pointer": error.pointer, "message": error.reason, "kind": "storable"}
        raise TaskValidationError(str(error), details={"errors": [wrong]}) from None
    return {"content": text.encode(), "headers": {"Content-Type": "application/json", **headers}}


def _read(call: Call[T], response: httpx.Response) -> T:
    content_type = response.headers.get("Content-Type", "")
    try:
        try:
            return calls.read_answer(call, response.status_code, response.content, content_type)
        except (KeyError, TypeError, AttributeError) as error:
            raise TaskerClientError(
                f"{call.method} {call.path} was answered with JSON of another shape ({error}); "
                f"is this a Tasker server?",
                status_code=response.status_code,
            ) from error
    except TaskerClientError as error:
        error.server = str(response.url.copy_with(raw_path=b"/")).rstrip("/")
        raise
