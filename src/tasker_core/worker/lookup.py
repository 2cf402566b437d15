"""Results that did not come along with a claim.

The results of direct parents arrive with the step. Those of older ancestors, and
large ones, are read when a handler asks for them, once a task. A handler asks in the
middle of its code, in a thread or on the event loop, and waits for the answer; so a
thread with a loop and a connection of its own gives it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from tasker_core.db.connect import Database, reconnect
from tasker_core.engine.claim import Claim, read_batch_results, read_context, read_results
from tasker_core.payload import decode
from tasker_core.worker.broken import BROKEN, connect, rest
from tasker_core.worker.plan import StepPlan

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

KEPT_CHARACTERS = 16 * 1024 * 1024
ANSWER_SECONDS = 30.0
ANSWER_ON_LOOP_SECONDS = 5.0  # an async handler that asks holds up the whole worker


class Lookup:
    """Reads results for handlers. Starts its thread when it is first asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shelf = _Shelf(KEPT_CHARACTERS)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        # these belong to that loop
        self._turn = asyncio.Lock()
        self._stop = asyncio.Event()
        self._conn: Connection | None = None

    def results(self, task_uuid: UUID, names: frozenset[str]) -> dict[str, str]:
        """Give the results of these steps as JSON text; a step without one is left out."""
        found = self._shelf.find(task_uuid, names)
        missing = names.difference(found)
        if missing:
            found.update(self.ask(lambda conn: self._read(conn, task_uuid, missing)))
        return found

    def batch_results(self, task_uuid: UUID, workers: frozenset[str]) -> dict[str, str]:
        """Give the results of all steps made from these batch workers, by their names."""
        return self.ask(lambda conn: read_batch_results(conn, task_uuid, sorted(workers)))

    def context(self, task_uuid: UUID) -> str:
        """Give the context of a task as JSON text."""
        kept = self._shelf.get((task_uuid, None))
        return self.ask(lambda conn: self._read_context(conn, task_uuid)) if kept is None else kept

    def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Give what a question of the caller's own finds; asked again if the connection breaks."""
        with self._lock:
            if self._is_closed:
                raise ConnectionError("the worker has stopped")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="tasker-lookup", daemon=True
                )
                self._thread.start()
            loop = self._loop
        seconds = ANSWER_SECONDS if _is_in_thread() else ANSWER_ON_LOOP_SECONDS
        future = asyncio.run_coroutine_threadsafe(self._answer(question, seconds), loop)
        return future.result(seconds + 1)

    def close(self) -> None:
        """End the thread; who asks from now on gets a ConnectionError."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join(ANSWER_SECONDS)

    # --- reading, on the thread's loop, one question at a time -----------------------------

    async def _read(
        self, conn: Connection, task_uuid: UUID, names: frozenset[str]
    ) -> dict[str, str]:
        found = self._shelf.find(task_uuid, names)  # somebody else may have asked meanwhile
        missing = names.difference(found)
        if missing:
            read = await read_results(conn, task_uuid, sorted(missing))
            for name, text in read.items():
                self._shelf.put((task_uuid, name), text)
            found.update(read)
        return found

    async def _read_context(self, conn: Connection, task_uuid: UUID) -> str:
        kept = self._shelf.get((task_uuid, None))
        if kept is None:
            kept = await read_context(conn, task_uuid)
            self._shelf.put((task_uuid, None), kept)
        return kept

    async def _answer(self, question: Callable[[Connection], Awaitable[T]], seconds: float) -> T:
        async with asyncio.timeout(seconds), self._turn:
            failures = 0
            while True:
                if self._conn is None:
                    self._conn = await reconnect(self._connect, self._stop)
                if self._conn is None:
                    raise ConnectionError("the worker has stopped")
                try:
                    return await question(self._conn)
                except BROKEN:
                    self._conn.terminate()
                    self._conn = None
                    failures += 1
                await rest(failures - 1, self._stop)

    async def _connect(self) -> Connection:
        return await connect(self._database, "tasker worker lookup")

    # --- the thread ---------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        await self._stop.wait()
        if self._conn is not None:
            self._conn.terminate()
            await asyncio.sleep(0)  # the socket is closed in the loop's next round


class _Shelf:
    """Texts of late, by task and step (None: the task's context), up to a size in all."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[UUID, str | None], str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[UUID, str | None]) -> str | None:
        with self._lock:
            text = self._kept.get(key)
            if text is not None:
                self._kept.move_to_end(key)
            return text

    def find(self, task_uuid: UUID, names: frozenset[str]) -> dict[str, str]:
        texts = ((name, self.get((task_uuid, name))) for name in names)
        return {name: text for name, text in texts if text is not None}

    def put(self, key: tuple[UUID, str | None], text: str) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = text
                self._size -= len(text)
            while self._size < 0 and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self._size += len(oldest)


def _is_in_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class EarlierResults(Mapping[str, Any]):
    """Step name → result, of every step that this one comes after. Parsed when asked for."""

    def __init__(
        self,
        lookup: Lookup,
        claim: Claim,
        plan: StepPlan,
    ) -> None:
        self._lookup = lookup
        self._task_uuid = claim.task_uuid
        self._plan = plan
        self._parent_results = claim.parent_results
        self._texts: dict[str, str] | None = None  # of all parents, once one was missing
        self._parsed: dict[str, Any] | None = None
        self._has_batches = False

    def __getitem__(self, step_name: str) -> Any:
        parsed = self._near()
        if step_name in parsed:
            return parsed[step_name]
        if step_name in self._plan.parents:
            text = self._parents()[step_name]  # KeyError: it has no result
        elif step_name in self._plan.ancestors():
            text = self._lookup.results(self._task_uuid, frozenset({step_name}))[step_name]
        else:
            return self._with_batches()[step_name]  # KeyError: no step before this one
        parsed[step_name] = decode(text)
        return parsed[step_name]

    def __iter__(self) -> Iterator[str]:
        parsed = self._with_batches()
        missing = self._plan.ancestors().difference(parsed)
        if missing:
            found = self._lookup.results(self._task_uuid, missing)
            parsed.update((name, decode(text)) for name, text in found.items())
        return iter(list(parsed))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Whether there may be any; else Python would count, and so read, all of them."""
        return bool(self._near()) or bool(self._plan.ancestors())

    def _parents(self) -> dict[str, str]:
        """Read the results of all parents at once: too many, or too large, to come along."""
        if self._texts is None:
            missing = self._plan.parents.difference(self._near())
            self._texts = self._lookup.results(self._task_uuid, missing)
        return self._texts

    def _with_batches(self) -> dict[str, Any]:
        """Read the results of batch workers too: their names are not in the template."""
        parsed = self._near()
        workers = frozenset() if self._has_batches else self._plan.batch_workers()
        if workers:
            found = self._lookup.batch_results(self._task_uuid, workers)
            parsed.update((name, decode(text)) for name, text in found.items())
        self._has_batches = True
        return parsed

    def _near(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = decode(self._parent_results) or {}
        return self._parsed
