"""Durable FastAPI: tasks in the request's own transaction, a worker, and the API under yours.

::

    tasker = Tasker(session=get_session, handlers="shop.handlers", templates="templates")
    app = FastAPI(lifespan=tasker.lifespan)
    app.include_router(tasker.router(authenticate=current_user), prefix="/tasker")

    @app.post("/orders", status_code=202)
    async def place_order(order: Order, session: Session, tasks: Annotated[Tasks, tasker.tasks]):
        session.add(OrderRow(...))
        task_uuid = await tasks.create("fulfil_order", {"order_id": order.id}, namespace="shop")
        await session.commit()  # the order and its task, or neither
        return {"task": task_uuid}
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from tasker_core.engine import inspect
from tasker_core.server.app import ROOMS, create_app, running
from tasker_core.server.auth import name_caller
from tasker_core.server.backend import Backend
from tasker_core.server.dashboard.rooms import PAGES
from tasker_core.server.render import task_response
from tasker_core.settings import Settings
from tasker_core.transactional import NewTask, create_task_async, create_tasks_async
from tasker_core.wire.tasks import TaskResponse

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tasker_core.db.drivers import AsyncConnection

__all__ = ["NewTask", "TaskResponse", "Tasker", "Tasks"]

Dependency = Callable[..., Any]


class Tasks:
    """Creates tasks in the transaction of one request. They begin when it commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self, name: str, context: Mapping[str, Any] | BaseModel | None = None, **more: Any
    ) -> UUID:
        """Create a task; nobody else sees it before the request's transaction commits.

        Args:
            name: The template's.
            context: What the task is about: an object of JSON, or a model.
            more: `namespace`, `version`, `priority`, `tags`, `idempotency_key`, `initiator`,
                `source_system`, `reason`, `correlation_id`, `parent_correlation_id`.

        Returns:
            The task's id.

        Raises:
            TaskerError: As `tasker_core.transactional.create_task` does.
        """
        return await create_task_async(
            self._connection, name, {} if context is None else context, **more
        )

    async def create_many(self, new: Iterable[NewTask]) -> list[UUID]:
        """Create many tasks at once, all of them or none; gives their ids in order."""
        return await create_tasks_async(self._connection, new)


class Tasker:
    """What an application has of Tasker.

    Args:
        session: The application's own dependency for its database: it gives an SQLAlchemy
            `AsyncSession` or `AsyncConnection`, an asyncpg or a psycopg `AsyncConnection`, to
            the database that has the schema `tasker`. None: the application creates its
            tasks otherwise.
        handlers: Dotted names of packages with handlers; the application then is a worker,
            too. None: workers run elsewhere.
        templates: Directories of templates to register at start.
        config: Settings by name, over those of file and environment.
    """

    def __init__(
        self,
        session: Dependency | None = None,
        *,
        handlers: str | Sequence[str] | None = None,
        templates: str | Path | Sequence[str | Path] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._handlers = [handlers] if isinstance(handlers, str) else handlers
        self._templates = [templates] if isinstance(templates, str | Path) else list(templates)
        self._config = dict(config or {})
        self._settings = Settings(**self._config)
        self._backend = Backend(self._settings)

    @property
    def tasks(self) -> Any:
        """The dependency that gives a `Tasks`: `Annotated[Tasks, tasker.tasks]`.

        It creates in the transaction of the session that the same request works with.

        Raises:
            TypeError: There is no session to create tasks with.
        """
        if self._session is None:
            raise TypeError(
                "Tasker has no session to create tasks with; give the dependency that your "
                "requests get theirs from: Tasker(session=get_session)"
            )

        def tasks_of(connection: Any = Depends(self._session)) -> Tasks:  # noqa: B008
            return Tasks(connection)

        return Depends(tasks_of)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Work as long as the application runs: claim steps, sweep, follow, relay.

        Give it to `FastAPI(lifespan=…)`, or enter it in a lifespan of your own.

        Raises:
            WorkerBootstrapError: The worker cannot start; the cause says why.
            SetupError: There is no database, or its schema is not this program's.
        """
        async with AsyncExitStack() as stack:
            if self._handlers is not None:
                worker = await asyncio.to_thread(self._start_worker)
                stack.push_async_callback(asyncio.to_thread, worker.stop)
            await stack.enter_async_context(
                running(self._backend, None, self._templates, strict=False)
            )
            yield
            self._backend.draining = True

    def router(self, *, authenticate: Dependency | None, dashboard: bool = False) -> APIRouter:
        """Build the HTTP API, to be included under a path of the application's.

        Its own description is at `api-docs/openapi.json` below that path. Errors are
        problems as everywhere; whatever `authenticate` raises is the application's.

        Args:
            authenticate: The application's own dependency, which raises for whoever may not
                call. If it gives text, that is who acts, in the history. None lets
                everybody in.
            dashboard: Also the pages for a browser, at the path itself.
        """
        router = APIRouter(dependencies=[self._admission(authenticate)])
        for room in (*ROOMS, *(PAGES if dashboard else ())):
            router.include_router(room, include_in_schema=False)
        document = create_app(self._settings).openapi()

        async def describe() -> JSONResponse:
            return JSONResponse(document)

        router.add_api_route("/api-docs/openapi.json", describe, include_in_schema=False)
        return router

    async def wait(self, task_uuid: UUID, *, seconds: float = 10) -> TaskResponse:
        """Wait until a task has ended or is blocked by failures, and say how it stands then.

        No connection is held meanwhile. Of a task that is `complete`, `results` has what
        its last steps returned.

        Raises:
            UnknownTask: There is none; it may not be committed yet.
            DatabaseUnreachable: The lifespan has not begun, or the database is away.
        """
        await self._backend.live.wait_until_settled(task_uuid, seconds)
        async with self._backend.connection() as conn:
            task = await inspect.get_task(conn, task_uuid)
            steps = await inspect.list_steps(conn, task_uuid)
        return task_response(task, steps, with_results=True)

    def _start_worker(self) -> Any:
        from tasker_core.worker.worker import Worker

        return Worker.start(self._handlers, self._config, templates=self._templates)

    def _admission(self, authenticate: Dependency | None) -> Any:
        backend = self._backend

        if authenticate is None:

            def admit(request: Request) -> None:
                request.state.tasker_backend = backend

            return Depends(admit)

        def admit_known(
            request: Request,
            who: Any = Depends(authenticate),  # noqa: B008
        ) -> None:
            request.state.tasker_backend = backend
            if isinstance(who, str):
                name_caller(request, who)

        return Depends(admit_known)
