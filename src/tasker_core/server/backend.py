"""What the routes work with: connections, templates, settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from starlette.requests import Request

from tasker_core.db.connect import Connection
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.registration import TemplateOutcome
from tasker_core.errors import DatabaseUnreachable
from tasker_core.observe.gauges import Watch
from tasker_core.server.creations import Creations
from tasker_core.server.jwks import keys_of
from tasker_core.server.limits import Streams
from tasker_core.server.live.live import Live
from tasker_core.server.pressure import POOL_RETRY_SECONDS, Overloaded, Pressure
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
    """The server's hold on the database. `pool` is there while the server runs.

    Raises:
        InvalidSettings: The key that tokens are to be checked with cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shelf = TemplateShelf(environment=settings.environment)
        self.pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.templates: list[TemplateOutcome] = []  # what became of those given at start
        self.draining = False  # about to stop: not ready any more
        self.keys = keys_of(settings)  # that tokens are checked with; None: no tokens
        self.streams = Streams(settings.streams_per_caller)
        self.creations = Creations(self)
        self.live = Live(self.connection, lambda: self.draining)
        self.waiting = 0  # requests that wait for a connection
        self.taken_back = 0  # attempts, by this server's sweeps
        self.watch = Watch(self.connection)
        self.pressure = Pressure(self.watch, settings.max_enqueued_steps)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises:
            DatabaseUnreachable: There is none, or it broke; the call may be repeated.
            Overloaded: Too many wait for one, or it took too long to get one.
        """
        if self.pool is None:
            raise DatabaseUnreachable("the database", "the server is not running")
        try:
            conn = await self._acquire(self.pool)
            try:
                yield conn
            finally:
                await self.pool.release(conn)
        except asyncpg.DataError:  # an argument of ours; an InterfaceError all the same
            raise
        except _UNREACHABLE as error:
            raise DatabaseUnreachable("the database", str(error) or type(error).__name__) from error

    @property
    def is_full(self) -> bool:
        """Whether every connection that there may be is in use."""
        pool = self.pool
        return pool is not None and not (
            pool.get_size() < pool.get_max_size() or pool.get_idle_size()
        )

    async def _acquire(
        self, pool: asyncpg.Pool[asyncpg.Record]
    ) -> PoolConnectionProxy[asyncpg.Record]:
        if self.is_full and self.waiting >= self.settings.server_waiting_requests:
            raise self.too_many(f"{self.waiting} requests wait for a connection already")
        self.waiting += 1
        try:
            return await pool.acquire(timeout=ACQUIRE_SECONDS)
        except TimeoutError:
            if self.is_full:
                raise self.too_many(f"no connection was free for {ACQUIRE_SECONDS:g} s") from None
            raise
        finally:
            self.waiting -= 1

    def too_many(self, why: str) -> Overloaded:
        """Make the error for whoever is one too many."""
        return self.pressure.refusal("pool", f"{why}; try again later", POOL_RETRY_SECONDS)


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
