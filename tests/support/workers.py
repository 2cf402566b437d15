"""A worker in the test's own process, with handlers in a line."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg

from support.flows import begin
from tasker_core.db.connect import Database
from tasker_core.engine.create import NewTask, create_tasks
from tasker_core.engine.register import TemplateShelf
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.settings import Settings
from tasker_core.templates.model import TaskTemplate
from tasker_core.worker.loop import AsyncWorker

Call = Callable[[Any], Any]

SETTLED = ("complete", "blocked_by_failures", "cancelled", "error", "resolved_manually")


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, seconds: float = 20.0
) -> Any:
    """Give what `condition` gives once it is true; fail the test after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        await asyncio.sleep(0.005)


def registry(handlers: Mapping[str, Call]) -> HandlerRegistry:
    """Register functions of the context, async or not, as handlers."""
    made = HandlerRegistry()
    for name, function in handlers.items():
        made.register(name, handler_class(name, function))
    return made


def handler_class(name: str, function: Call) -> type[StepHandler]:
    """Make a handler class whose `call` is this function."""
    if inspect.iscoroutinefunction(function):

        async def call(self: StepHandler, context: Any) -> Any:
            return await function(context)

    else:

        def call(self: StepHandler, context: Any) -> Any:
            return function(context)

    return type(name, (StepHandler,), {"handler_name": name, "call": call})


class Bench:
    """Tasks and workers on one database. Workers stop with the context."""

    def __init__(self, url: str, conn: asyncpg.Connection) -> None:
        self.database = Database(url)
        self.conn = conn
        self._stack = AsyncExitStack()

    async def worker(
        self,
        handlers: Mapping[str, Call] | HandlerRegistry,
        *,
        namespaces: list[str] | None = None,
        **settings: Any,
    ) -> AsyncWorker:
        """Start a worker. The settings are not checked: a lease may be shorter than allowed."""
        chosen = Settings(worker_concurrency=10, shutdown_seconds=5).model_copy(update=settings)
        known = handlers if isinstance(handlers, HandlerRegistry) else registry(handlers)
        worker = AsyncWorker(self.database, chosen, known, namespaces=namespaces)
        await worker.start()
        self._stack.push_async_callback(worker.stop, drain_seconds=0.2)
        return worker

    async def begin(self, flow: TaskTemplate, **fields: Any) -> UUID:
        """Register a template, and create a task."""
        return (await begin(self.conn, flow, **fields))[0]

    async def create(self, flow: TaskTemplate, count: int = 1, **fields: Any) -> list[UUID]:
        """Create tasks from a template that is registered."""
        new = NewTask(name=flow.name, namespace=flow.namespace, **fields)
        created = await create_tasks(self.conn, TemplateShelf(), [new] * count)
        return [one.task_uuid for one in created]

    async def settled(self, task_uuid: UUID, *, seconds: float = 20.0) -> str:
        """Wait until a task has come to rest; give its state."""

        async def state() -> str | None:
            found = await self.conn.fetchval(
                "select state from tasker.tasks where task_uuid = $1", task_uuid
            )
            return found if found in SETTLED else None

        return await eventually(state, seconds=seconds)

    async def run(self, flow: TaskTemplate, **fields: Any) -> tuple[str, UUID]:
        """Begin a task, and wait until it has come to rest."""
        task_uuid = await self.begin(flow, **fields)
        return await self.settled(task_uuid), task_uuid

    async def result(self, task_uuid: UUID, step: str) -> Any:
        """Read the result of a step, parsed."""
        text = await self.conn.fetchval(
            "select result from tasker.steps where task_uuid = $1 and name = $2", task_uuid, step
        )
        return _parsed(text)

    async def attempts(self, task_uuid: UUID, step: str | None = None) -> list[dict[str, Any]]:
        """Read the attempts of a task, or of one of its steps, in order."""
        rows = await self.conn.fetch(
            "select past.*, step.name from tasker.attempts as past "
            "join tasker.steps as step using (task_uuid, step_no) "
            "where task_uuid = $1 and ($2::text is null or step.name = $2) "
            "order by step_no, past.attempt",
            task_uuid,
            step,
        )
        return [
            {**row, "error": _parsed(row["error"]), "metadata": _parsed(row["metadata"])}
            for row in rows
        ]

    async def outcomes(self, task_uuid: UUID, step: str | None = None) -> list[str]:
        """Read how the attempts ended."""
        return [past["outcome"] for past in await self.attempts(task_uuid, step)]

    async def close(self) -> None:
        """Stop the workers, the last one first."""
        await self._stack.aclose()


def _parsed(text: str | None) -> Any:
    import orjson

    return None if text is None else orjson.loads(text)
