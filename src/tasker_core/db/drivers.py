"""Run statements on a connection that an application brought, of whatever library.

A connection is known by the names of its classes, so that no library is imported here
before its connection has come. Whatever transaction is open on it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tasker_core.db.asking import Asking, Rows, Statement, answer, answer_async

if TYPE_CHECKING:
    import asyncpg
    import psycopg
    import sqlalchemy
    from asyncpg.pool import PoolConnectionProxy
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.connection import ConnectionProxy
    from sqlalchemy.ext.asyncio import AsyncConnection as AlchemyAsyncConnection
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

SyncConnection: TypeAlias = (
    "psycopg.Connection[Any] | sqlalchemy.Connection | Session | scoped_session[Any] "
    "| BaseDatabaseWrapper | ConnectionProxy"
)
AsyncConnection: TypeAlias = (
    "asyncpg.Connection[Any] | PoolConnectionProxy[Any] | psycopg.AsyncConnection[Any] "
    "| AlchemyAsyncConnection | AsyncSession | async_scoped_session[Any]"
)

T = TypeVar("T")
F = TypeVar("F")

SYNC_KINDS = "psycopg Connection, SQLAlchemy Connection and Session, django.db.connection"
ASYNC_KINDS = (
    "asyncpg Connection, psycopg AsyncConnection, SQLAlchemy AsyncConnection and AsyncSession"
)


def ask_sync(connection: SyncConnection, asking: Asking[T]) -> T:
    """Run it on a sync connection.

    Raises:
        TypeError: It is none, or not to PostgreSQL; nothing has been run.
    """
    return answer(asking, partial(_of_kind(_SYNC, connection, SYNC_KINDS), connection))


async def ask_async(connection: AsyncConnection, asking: Asking[T]) -> T:
    """Run it on an async connection.

    Raises:
        TypeError: It is none, or not to PostgreSQL; nothing has been run.
    """
    fetch = partial(_of_kind(_ASYNC, connection, ASYNC_KINDS), connection)
    return await answer_async(asking, fetch)


# --- one function a library -------------------------------------------------------------


async def _asyncpg(connection: Any, statement: Statement) -> Rows:
    rows: Rows = await connection.fetch(statement.sql, *statement.args)
    return rows


def _psycopg(connection: Any, statement: Statement) -> Rows:
    from psycopg import Cursor
    from psycopg.rows import tuple_row

    # not the connection's own factories: those may give dicts, or want another SQL
    with Cursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(_with_percents(statement.sql), _named(statement)).fetchall()


async def _psycopg_async(connection: Any, statement: Statement) -> Rows:
    from psycopg import AsyncCursor
    from psycopg.rows import tuple_row

    async with AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(_with_percents(statement.sql), _named(statement))
        return await cursor.fetchall()


def _sqlalchemy(connection: Any, statement: Statement) -> Rows:
    from sqlalchemy import text

    _want_postgresql(connection.dialect.name)
    rows: Rows = connection.execute(text(_with_colons(statement.sql)), _named(statement)).all()
    return rows


def _sqlalchemy_session(session: Any, statement: Statement) -> Rows:
    # its connection, so that nothing of the session is flushed for this
    return _sqlalchemy(session.connection(), statement)


async def _sqlalchemy_async(connection: Any, statement: Statement) -> Rows:
    rows: Rows = await connection.run_sync(_sqlalchemy, statement)
    return rows


async def _sqlalchemy_async_session(session: Any, statement: Statement) -> Rows:
    return await _sqlalchemy_async(await session.connection(), statement)


def _django(connection: Any, statement: Statement) -> Rows:
    _want_postgresql(getattr(connection, "vendor", "no database"))
    with connection.cursor() as cursor:
        cursor.execute(_with_percents(statement.sql), _named(statement))
        rows: Rows = cursor.fetchall()
        return rows


_SYNC: Mapping[str, Callable[[Any, Statement], Rows]] = {
    "psycopg.Connection": _psycopg,
    "sqlalchemy.engine.base.Connection": _sqlalchemy,
    "sqlalchemy.orm.session.Session": _sqlalchemy_session,
    "sqlalchemy.orm.scoping.scoped_session": _sqlalchemy_session,
    "django.db.backends.base.base.BaseDatabaseWrapper": _django,
    "django.utils.connection.ConnectionProxy": _django,
}
_ASYNC: Mapping[str, Callable[[Any, Statement], Awaitable[Rows]]] = {
    "asyncpg.connection.Connection": _asyncpg,
    "asyncpg.pool.PoolConnectionProxy": _asyncpg,
    "psycopg.AsyncConnection": _psycopg_async,
    "sqlalchemy.ext.asyncio.engine.AsyncConnection": _sqlalchemy_async,
    "sqlalchemy.ext.asyncio.session.AsyncSession": _sqlalchemy_async_session,
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": _sqlalchemy_async_session,
}


# --- helpers ----------------------------------------------------------------------------


def _of_kind(known: Mapping[str, F], connection: object, told: str) -> F:
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(connection).__mro__]
    for name in names:
        if name in known:
            return known[name]
    advice = f"it takes {told}"
    if any(name in _ASYNC for name in names):
        advice = "it is async: await create_task_async or create_tasks_async"
    elif any(name in _SYNC for name in names):
        advice = "it is sync: call create_task or create_tasks"
    raise TypeError(f"no task can be created here through a {names[0]}; {advice}")


def _want_postgresql(name: str) -> None:
    if name != "postgresql":
        raise TypeError(f"tasks are created in PostgreSQL, but this connection is to {name}")


def _named(statement: Statement) -> dict[str, Any]:
    return {f"a{number}": value for number, value in enumerate(statement.args, 1)}


def _with_percents(sql: str) -> str:
    """Write arguments as psycopg wants them.

    >>> _with_percents("select $1, $12")
    'select %(a1)s, %(a12)s'
    """
    return re.sub(r"\$(\d+)", r"%(a\1)s", sql)


def _with_colons(sql: str) -> str:
    """Write arguments as SQLAlchemy wants them.

    >>> _with_colons("select $1, $12")
    'select :a1, :a12'
    """
    return re.sub(r"\$(\d+)", r":a\1", sql)
