"""What the routes work with: connections, templates, settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from starlette.requests import Request

from tasker_core.db.connect import Connection
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.registration import TemplateOutcome
from tasker_core.errors import DatabaseUnreachable
from tasker_core.server.live.live import Live
from tasker_core.settings import Settings

ACQUIRE_SECONDS = 5.0

# The database is not there, is going down, is somewhere else by now, or has no room.
_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)


class Backend:
    """The server's hold on the database. `pool` is there while the server runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shelf = TemplateShelf(environment=settings.environment)
        self.pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.templates: list[TemplateOutcome] = []  # what became of those given at start
        self.draining = False  # about to stop: not ready any more
        self.live = Live(self.connection, lambda: self.draining)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises:
            DatabaseUnreachable: There is none, or it broke; the call may be repeated.
        """
        if self.pool is None:
            raise DatabaseUnreachable("the database", "the server is not running")
        try:
            async with self.pool.acquire(timeout=ACQUIRE_SECONDS) as conn:
                yield conn
        except asyncpg.DataError:  # an argument of ours; an InterfaceError all the same
            raise
        except _UNREACHABLE as error:
            raise DatabaseUnreachable("the database", str(error) or type(error).__name__) from error


def backend_of(request: Request) -> Backend:
    """Give the backend of the app that serves this request."""
    # of a router in somebody else's app, in the request; see tasker_core.fastapi
    own: Backend | None = getattr(request.state, "tasker_backend", None)
    backend: Backend = request.app.state.backend if own is None else own
    return backend


def path_of(request: Request, path: str) -> str:
    """Give a path of the API as this caller sees it, below wherever the API stands."""
    route: str = request.scope["route"].path  # with or without what it was included under
    parts = route.rpartition("/v1/")[2].count("/") + 2
    asked: str = request.scope["path"]
    return asked.rsplit("/", parts)[0] + path
