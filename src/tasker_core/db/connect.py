"""From the settings to a connection, and back to one after it broke.

`resolve_database` says where the database is and starts the embedded one when no
DATABASE_URL is set. Everything that talks to PostgreSQL gets its connections from
the `Database` that it returns. JSON stays text in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import structlog

from tasker_core.db.embedded import EmbeddedLease, acquire, ensure_running
from tasker_core.errors import DatabaseUnreachable, EmbeddedDatabaseError
from tasker_core.settings import Settings, safe_url

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

T = TypeVar("T")

CONNECT_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

# Words that libpq knows in a URL and that asyncpg would pass on as server settings.
_LIBPQ_ONLY = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "requirepeer",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)

_FAILURES = (
    OSError,
    TimeoutError,
    ValueError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # killed in the middle of a message
)

_log = structlog.get_logger("tasker.db")


@dataclass(slots=True)
class Database:
    """Where the database is. Close it when the last connection is closed."""

    url: str
    embedded: EmbeddedLease | None = None

    async def connect(self, application_name: str) -> asyncpg.Connection[asyncpg.Record]:
        """Open one connection; an embedded server that died is started again.

        Raises:
            DatabaseUnreachable: Nobody answers, or not to this user and password.
            EmbeddedDatabaseError: The embedded server does not start again.
        """
        try:
            return await self._connect(application_name)
        except DatabaseUnreachable:
            if self.embedded is None:
                raise
        await asyncio.to_thread(ensure_running, self.embedded.home)
        return await self._connect(application_name)

    async def _connect(self, application_name: str) -> asyncpg.Connection[asyncpg.Record]:
        try:
            conn = await asyncpg.connect(
                driver_url(self.url),
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": application_name},
            )
            try:
                await _read_committed(conn)
            except BaseException:  # cancelled, too: nobody else knows of it
                conn.terminate()
                raise
            return conn
        except _FAILURES as error:
            raise DatabaseUnreachable(safe_url(self.url), _reason(error)) from error

    async def pool(
        self,
        application_name: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        server_settings: Mapping[str, str] | None = None,
        resets: bool = True,
    ) -> asyncpg.Pool[asyncpg.Record]:
        """Open a pool, with these settings of PostgreSQL's; the caller closes it.

        Between two users a session is reset, which is a round trip, unless all leave it as it
        was. An open transaction is rolled back in any case.

        Raises:
            DatabaseUnreachable: As for `connect`.
            EmbeddedDatabaseError: As for `connect`.
        """
        probe = await self.connect(application_name)
        await probe.close()
        try:
            return await asyncpg.create_pool(
                driver_url(self.url),
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": application_name, **(server_settings or {})},
                init=_read_committed,
                reset=None if resets else _leave,
            )
        except _FAILURES as error:
            raise DatabaseUnreachable(safe_url(self.url), _reason(error)) from error

    def close(self) -> None:
        """Leave the embedded server; it stops with its last user. Blocks until then."""
        if self.embedded is not None:
            self.embedded.release()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def resolve_database(settings: Settings) -> Database:
    """Take the configured database, or become a user of the embedded one.

    Blocks while the embedded server starts, about a second the first time.

    Raises:
        DatabaseNotConfigured: No URL is set, and the extra `embedded` is missing.
        EmbeddedDatabaseError: The embedded server does not start.
    """
    if settings.database_url is not None:
        return Database(settings.database_url)
    lease = acquire(settings.home)
    return Database(lease.url, lease)


async def reconnect(connect: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """Call `connect` until it succeeds; None when `stop` is set first.

    The rests grow from 0.1 to 5 seconds, each drawn between nothing and its bound,
    so that a restarted database is not met by everybody at once.

    Raises:
        Exception: Whatever `connect` raises, but DatabaseUnreachable and
            EmbeddedDatabaseError, which are logged and tried again.
    """
    attempt = 0
    while not stop.is_set():
        try:
            return await connect()
        except (DatabaseUnreachable, EmbeddedDatabaseError) as error:
            attempt += 1
            rest = random.uniform(0, longest_rest(attempt))
            _log.warning(
                "database_unreachable", attempt=attempt, retry_in=round(rest, 2), error=str(error)
            )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), rest)
    return None


def longest_rest(attempt: int) -> float:
    """Say how long at most to rest after the failed attempt, counted from 1, in seconds.

    >>> [longest_rest(attempt) for attempt in (1, 2, 3, 10)]
    [0.1, 0.2, 0.4, 5.0]
    """
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, 10))


def driver_url(url: str) -> str:
    """Rewrite a URL made for libpq or SQLAlchemy into one that asyncpg accepts.

    >>> driver_url("postgresql+psycopg://me@db/app?connect_timeout=5&sslmode=require")
    'postgresql://me@db/app?sslmode=require'
    """
    parts = urlsplit(url)
    scheme = parts.scheme.split("+", 1)[0]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode(
        [(key, value) for key, value in pairs if key not in _LIBPQ_ONLY], quote_via=quote, safe="/"
    )
    return urlunsplit(("postgresql" if scheme == "postgres" else scheme, *parts[1:3], query, ""))


def libpq_url(url: str) -> str:
    """Rewrite a URL made for SQLAlchemy into one that libpq accepts.

    >>> libpq_url("postgresql+asyncpg://me@db/app?connect_timeout=5")
    'postgresql://me@db/app?connect_timeout=5'
    """
    scheme, colon, rest = url.partition(":")
    return scheme.partition("+")[0] + colon + rest


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {CONNECT_SECONDS:.0f} seconds"
    if isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError):
        # Its own words may quote a part of the password.
        return "its URL cannot be read; write special characters in it as %XX"
    return str(error) or type(error).__name__


async def _read_committed(conn: Connection) -> None:
    """See to the isolation that the engine is made for, whatever the database's default is.

    By a statement: poolers refuse start-up settings that they do not know.
    """
    await conn.execute(
        "select set_config('default_transaction_isolation', 'read committed', false) "
        "where current_setting('default_transaction_isolation') <> 'read committed'"
    )


async def _leave(_: object) -> None:
    """Leave a session as it is."""
