"""The step's own transaction, as a handler sees it.

What a handler writes in it is committed together with its result, or not at all. This is
only the block; the worker opens the connection, records the result on it, and commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from tasker_core.errors import TransactionMisuse

T = TypeVar("T")
AsyncConn = TypeVar("AsyncConn")
SyncConn = TypeVar("SyncConn")


class TransactionHost(Protocol):
    """The attempt whose transaction it is. Of a transaction that blocks, nothing here waits."""

    async def open_transaction(self, engine: Any, *, is_async: bool) -> Any:
        """Begin; give the connection."""

    async def leave_transaction(self, *, failed: bool) -> None:
        """Roll back, or leave it open for the result."""


class StepTransaction(Generic[AsyncConn, SyncConn]):
    """The block of `context.transaction()`: `async with` in async handlers, `with` in others.

    Leaving it commits nothing: the worker commits, with the handler's result, once the
    handler has returned. An exception that leaves it rolls back at once.
    """

    def __init__(self, host: TransactionHost, engine: Any = None) -> None:
        self._host = host
        self._engine = engine

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TransactionMisuse(
            f"context.transaction() is a block, which has no {name}: write `async with "
            f"context.transaction() as conn:` in an async handler, `with context.transaction() "
            f"as conn:` in others, and inside it conn.{name}"
        )

    async def __aenter__(self) -> AsyncConn:
        conn: AsyncConn = await self._host.open_transaction(self._engine, is_async=True)
        return conn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._host.leave_transaction(failed=kind is not None)

    def __enter__(self) -> SyncConn:
        if _is_on_loop():
            raise TransactionMisuse(
                "an async handler takes its transaction with `async with context.transaction()`: "
                "`with` would hold up the whole worker"
            )
        conn: SyncConn = run_blocking(self._host.open_transaction(self._engine, is_async=False))
        return conn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run_blocking(self._host.leave_transaction(failed=kind is not None))


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: whatever it calls blocks this thread instead.

    So code that serves drivers of both kinds is written once.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("it waits for an event loop, and there is none")


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
