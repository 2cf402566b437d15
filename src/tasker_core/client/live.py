"""What both clients do to follow tasks and to wait for them.

A stream that breaks off is opened again after the last event that came, so what is
yielded has no gap and no event twice, whatever happens to connections and servers.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import orjson

from tasker_core.client import calls
from tasker_core.client.answers import TaskEvent, TaskResponse
from tasker_core.client.calls import Call
from tasker_core.client.errors import TaskerClientError, TaskWaitTimeout

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

SILENCE_SECONDS = 45.0  # three heartbeats: after that the connection is dead

_LAST = ("finished", "deleted")  # after these nothing comes


@dataclass
class Follower:
    """Where one reader of a stream is; it reads lines, and talks to nobody."""

    path: str
    query: Mapping[str, Any]
    last_id: str | None
    cause: str | None = None  # why the server has ended the stream
    _data: list[str] = field(default_factory=list)

    @property
    def call(self) -> Call[None]:
        """The request that goes on where this reader is."""
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return Call("GET", self.path, lambda _: None, query=self.query, headers=headers)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.cause in _LAST

    def begin(self) -> None:
        """Forget what a broken connection left behind."""
        self._data.clear()
        self.cause = None

    def read(self, line: str) -> TaskEvent | None:
        """Take in a line; give the event that it completes."""
        if not line:
            text, self._data = "\n".join(self._data), []
            return self._event(text) if text else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._data.append(value)
        return None

    def _event(self, text: str) -> TaskEvent | None:
        try:
            document = orjson.loads(text)
            if document["type"] == "stream.end":
                self.cause = document["data"]["cause"]
                return None
            return TaskEvent.from_dict(document)
        except (ValueError, KeyError, TypeError):
            raise TaskerClientError(
                f"GET {self.path} sent an event that cannot be read; is this a Tasker server?"
            ) from None


def follow_task(task_uuid: UUID | str, since: str | None, include_steps: bool) -> Follower:
    query = {} if include_steps else {"include_steps": "false"}
    return Follower(f"{calls.task_path(task_uuid)}/events", query, since)


def follow_tasks(since: str | None, filters: Mapping[str, Any]) -> Follower:
    query = {name: str(value) for name, value in filters.items() if value is not None}
    return Follower("/v1/events", query, since)


class Patience:
    """How long to go on asking for a task, a few seconds a request."""

    def __init__(self, seconds: float, longest: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._longest = longest  # of a request

    def prefer(self) -> int:
        """Say how long the next request may take, in whole seconds."""
        left = self._deadline - time.monotonic()
        return max(0, min(math.ceil(left), wait_within(self._longest)))

    def is_enough(self, task: TaskResponse) -> bool:
        """Say whether the task has ended, or waits for an operator.

        Raises:
            TaskWaitTimeout: It has not, and no time is left.
        """
        if calls.has_ended(task) or task.status == "blocked_by_failures":
            return True
        if time.monotonic() >= self._deadline:
            raise TaskWaitTimeout(task, self._seconds)
        return False


def wait_within(seconds: float) -> int:
    """Say for how long a request may wait that has so many seconds, 25 at most."""
    return max(0, min(int(seconds) - 1, calls.LONGEST_WAIT_SECONDS))


class LiveCalls:
    """The part of `TaskerClient` that follows tasks."""

    timeout: float

    def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _open(self) -> httpx.Client:
        raise NotImplementedError

    def _after_stream(self, call: Call[Any], error: Exception | None, retry: int) -> float:
        raise NotImplementedError

    def watch(
        self, task_uuid: UUID | str, *, since: str | None = None, include_steps: bool = True
    ) -> Generator[TaskEvent, None, None]:
        """Follow a task until it has ended: how it stands, then each event as it happens.

        Args:
            since: The `id` of the last event that is known; `"0"` tells everything from the
                begin. None begins with a `task.snapshot`.
            include_steps: False gives only what happens to the task itself.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskerConnectionError: The server is away for longer than the retries take.
        """
        return self._follow(follow_task(task_uuid, since, include_steps))

    def watch_all(
        self,
        *,
        since: str | None = None,
        namespace: str | None = None,
        template: str | None = None,
        state: str | None = None,
        correlation_id: UUID | str | None = None,
    ) -> Generator[TaskEvent, None, None]:
        """Follow all tasks that fit, without an end: creations, changes of state, ends.

        Args:
            since: The `id` of the last event that is known; None begins now.
            state: The new state, or several with commas.
        """
        wanted = {
            "namespace": namespace,
            "template": template,
            "state": state,
            "correlation_id": correlation_id,
        }
        return self._follow(follow_tasks(since, wanted))

    def wait(self, task_uuid: UUID | str, *, timeout: float = 30) -> TaskResponse:
        """Wait until a task has ended or is blocked by failures; `results` is what came of it.

        The server is what waits, so the end is heard of as it happens.

        Raises:
            TaskWaitTimeout: It did not end in time.
        """
        patience = Patience(timeout, self.timeout)
        while True:
            task = self._send(calls.await_task(task_uuid, patience.prefer()))
            if patience.is_enough(task):
                return task

    def _follow(self, follower: Follower) -> Generator[TaskEvent, None, None]:
        import httpx

        retry = 0
        while True:
            retry += 1
            error: Exception | None = None
            follower.begin()
            call = follower.call
            try:
                with self._open().stream(
                    call.method,
                    call.path,
                    params=call.query,
                    headers=dict(call.headers or {}),
                    timeout=httpx.Timeout(self.timeout, read=SILENCE_SECONDS),
                ) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        response.read()
                        error = calls.stream_error(call, response)
                    else:
                        for line in response.iter_lines():
                            event = follower.read(line)
                            if event is not None:
                                retry = 0
                                yield event
            except httpx.TransportError as broken:
                error = broken
            if follower.is_over:
                return
            time.sleep(self._after_stream(call, error, retry))


class AsyncLiveCalls:
    """The part of `AsyncTaskerClient` that follows tasks; see `LiveCalls`."""

    timeout: float

    async def _send(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _open(self) -> httpx.AsyncClient:
        raise NotImplementedError

    def _after_stream(self, call: Call[Any], error: Exception | None, retry: int) -> float:
        raise NotImplementedError

    def watch(
        self, task_uuid: UUID | str, *, since: str | None = None, include_steps: bool = True
    ) -> AsyncGenerator[TaskEvent, None]:
        """Follow a task until it has ended; see `TaskerClient.watch`."""
        return self._follow(follow_task(task_uuid, since, include_steps))

    def watch_all(
        self,
        *,
        since: str | None = None,
        namespace: str | None = None,
        template: str | None = None,
        state: str | None = None,
        correlation_id: UUID | str | None = None,
    ) -> AsyncGenerator[TaskEvent, None]:
        """Follow all tasks that fit, without an end; see `TaskerClient.watch_all`."""
        wanted = {
            "namespace": namespace,
            "template": template,
            "state": state,
            "correlation_id": correlation_id,
        }
        return self._follow(follow_tasks(since, wanted))

    async def wait(
        self,
        task_uuid: UUID | str,
        *,
        timeout: float = 30,  # noqa: ASYNC109 - the sync twin has it too
    ) -> TaskResponse:
        """Wait until a task has ended or is blocked by failures; see `TaskerClient.wait`."""
        patience = Patience(timeout, self.timeout)
        while True:
            task = await self._send(calls.await_task(task_uuid, patience.prefer()))
            if patience.is_enough(task):
                return task

    async def _follow(self, follower: Follower) -> AsyncGenerator[TaskEvent, None]:
        import httpx

        retry = 0
        while True:
            retry += 1
            error: Exception | None = None
            follower.begin()
            call = follower.call
            try:
                async with self._open().stream(
                    call.method,
                    call.path,
                    params=call.query,
                    headers=dict(call.headers or {}),
                    timeout=httpx.Timeout(self.timeout, read=SILENCE_SECONDS),
                ) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        await response.aread()
                        error = calls.stream_error(call, response)
                    else:
                        async for line in response.aiter_lines():
                            event = follower.read(line)
                            if event is not None:
                                retry = 0
                                yield event
            except httpx.TransportError as broken:
                error = broken
            if follower.is_over:
                return
            await asyncio.sleep(self._after_stream(call, error, retry))
