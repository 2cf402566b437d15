"""Create in one call what several requests ask for at the same moment.

A call and a commit cost nearly the same for one task as for twenty. So while a call is
under way, requests gather for the next one. Each task is still created for itself, and
whoever comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from tasker_core.db.connect import Connection
from tasker_core.engine.create import CreatedTask, NewTask, create_each, create_task
from tasker_core.tracing import has_current_span, tracer

if TYPE_CHECKING:
    from tasker_core.server.backend import Backend

CALLS = 2  # under way at the same time
MOST = 64  # tasks in a call

_Asked = tuple[NewTask, "asyncio.Future[CreatedTask]"]


class Creations:
    """The tasks that a server is creating."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: deque[_Asked] = deque()
        self._calls = 0
        self._under_way: set[asyncio.Task[None]] = set()

    async def create(self, new: NewTask) -> CreatedTask:
        """Create a task. Whoever gives up waiting does not stop it.

        Raises:
            TaskerError: As `create_task` does.
            Overloaded: Too many wait already.
        """
        most = self._backend.settings.server_waiting_requests
        if self._calls == CALLS and len(self._waiting) >= most:
            raise self._backend.too_many(f"{len(self._waiting)} tasks wait to be created already")
        asked: _Asked = (new, asyncio.get_running_loop().create_future())
        if tracer() is not None or has_current_span():  # whose span it would be, else
            self._begin(self._create_alone(asked))
        else:
            self._waiting.append(asked)
            if self._calls < CALLS:
                self._calls += 1
                self._begin(self._create_waiting())
        return await asked[1]

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _create_waiting(self) -> None:
        try:
            while self._waiting:
                count = min(MOST, len(self._waiting))
                await self._create_together([self._waiting.popleft() for _ in range(count)])
        finally:
            self._calls -= 1

    async def _create_together(self, asked: Sequence[_Asked]) -> None:
        """Create them in one call; if one of them is in its way, each for itself."""
        try:
            async with self._backend.connection() as conn:
                outcomes = await self._try(conn, asked)
        except Exception as error:
            outcomes = [error] * len(asked)
        if outcomes is None:
            for one in asked:
                self._begin(self._create_alone(one))
            return
        for (_, future), outcome in zip(asked, outcomes, strict=True):
            _settle(future, outcome)

    async def _try(
        self, conn: Connection, asked: Sequence[_Asked]
    ) -> Sequence[CreatedTask | Exception] | None:
        """Create them in one call; None: the database refused, and none was created."""
        try:
            return await create_each(
                conn,
                self._backend.shelf,
                [new for new, _ in asked],
                max_context_bytes=self._backend.settings.max_context_bytes,
                patient=False,
            )
        except asyncpg.PostgresConnectionError:
            raise  # it is not known what was created
        except asyncpg.PostgresError:
            return None

    async def _create_alone(self, asked: _Asked) -> None:
        new, future = asked
        outcome: CreatedTask | Exception
        try:
            async with self._backend.connection() as conn:
                outcome = await create_task(
                    conn,
                    self._backend.shelf,
                    new,
                    max_context_bytes=self._backend.settings.max_context_bytes,
                )
        except Exception as error:
            outcome = error
        _settle(future, outcome)


def _settle(future: asyncio.Future[CreatedTask], outcome: CreatedTask | Exception) -> None:
    if future.done():  # its request has ended
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
