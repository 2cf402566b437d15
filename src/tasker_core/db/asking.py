"""Statements, apart from the connection that runs them.

What the engine must do in a transaction of the application's is written as a generator:
it yields a `Statement`, is given its rows, and returns its answer. It cannot tell whose
connection that is, of which library, sync or async; `ask` runs it on the engine's own
kind, and drivers.py on those of applications.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tasker_core.db.connect import Connection

T = TypeVar("T")

Argument: TypeAlias = "str | None | list[str] | list[str | None]"
Rows: TypeAlias = Sequence[Sequence[Any]]


class Statement(NamedTuple):
    """SQL with its arguments.

    Arguments are texts, and so is every column that is not a plain number: that is what
    all drivers pass alike, whatever codecs an application has set. The SQL casts, with
    `cast($1 as …)`, since some libraries read a colon as a name.
    """

    sql: str  # with $1, $2, …
    args: tuple[Argument, ...]


Asking: TypeAlias = Generator[Statement, Rows, T]


async def ask(conn: Connection, asking: Asking[T]) -> T:
    """Run it on one of the engine's connections."""
    try:
        statement = next(asking)
        while True:
            statement = asking.send(await conn.fetch(statement.sql, *statement.args))
    except StopIteration as end:
        answer: T = end.value
        return answer
