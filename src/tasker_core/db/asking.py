"""Statements, apart from the connection that runs them.

What the engine may have to do in a transaction of an application's is written as a
generator: it yields a `Statement`, is given its rows, and returns its answer. It cannot
tell whose connection that is, of which library, sync or async. `ask` runs it on one of
the engine's own, and drivers.py on those of applications.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from tasker_core.db.connect import Connection

T = TypeVar("T")

Argument: TypeAlias = "str | list[str] | list[str | None] | None"
Rows: TypeAlias = Sequence[Sequence[Any]]


class Statement(NamedTuple):
    """SQL with its arguments.

    Arguments are texts, and so is every column but a plain number: these pass every
    driver alike, whatever codecs an application has set. The SQL casts them, by
    `cast($1 as …)`, as a colon begins a name for some libraries.
    """

    sql: str  # with $1, $2, …
    args: tuple[Argument, ...]


Asking: TypeAlias = Generator[Statement, Rows, T]


async def ask(conn: Connection, asking: Asking[T]) -> T:
    """Run it on one of the engine's connections."""

    async def fetch(statement: Statement) -> Rows:
        return cast(Rows, await conn.fetch(statement.sql, *statement.args))

    return await answer_async(asking, fetch)


async def answer_async(asking: Asking[T], fetch: Callable[[Statement], Awaitable[Rows]]) -> T:
    """Run it with a function that runs one statement."""
    try:
        statement = next(asking)
        while True:
            statement = asking.send(await fetch(statement))
    except StopIteration as end:
        return cast(T, end.value)


def answer(asking: Asking[T], fetch: Callable[[Statement], Rows]) -> T:
    """Do `answer_async` without `await`."""
    try:
        statement = next(asking)
        while True:
            statement = asking.send(fetch(statement))
    except StopIteration as end:
        return cast(T, end.value)
