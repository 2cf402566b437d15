"""Whole workflows in a test: the real engine and worker, mocked steps, a clock to move.

`run_workflow` runs one template; a `Bench`, which the fixture `tasker` is, runs as many as
a test likes on one database. Both give a `Run`. Everything here is for code that is not
async; `run_workflow_async` and `Bench.run_async` leave the test's own loop free meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from uuid import UUID

from tasker_core.db.connect import Connection
from tasker_core.engine.create import CreatedTask, NewTask, create_task
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.engine.sweep import sweep
from tasker_core.handlers.bound import BoundHandler, HandlerDefinition
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.events.types import InProcessDomainEvent
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.settings import Settings
from tasker_core.templates.model import TaskTemplate
from tasker_core.testing.clock import Clock, hold, move_on_to, release
from tasker_core.testing.database import ThrowAwayDatabase, shared_database
from tasker_core.testing.mocks import Mocks, Outcome
from tasker_core.testing.records import read_snapshot
from tasker_core.testing.run import Run, no_handler
from tasker_core.testing.sources import (
    ENVIRONMENT,
    Handlers,
    HandlerSources,
    TemplateSource,
    find_template,
)
from tasker_core.testing.stepwise import StepwiseWorker

RUN_SECONDS = 30.0  # of real time
MOST_WAITS = 1000  # that one run skips

_ENDED = "('complete', 'error', 'cancelled', 'resolved_manually')"


class TaskFields(TypedDict, total=False):
    """What else a task may be created with; see `NewTask`."""

    priority: int
    tags: Sequence[str]
    initiator: str
    source_system: str
    reason: str
    correlation_id: UUID
    parent_correlation_id: UUID
    idempotency_key: str


class RunOptions(TaskFields, total=False):
    """How a workflow is run; see `Bench.run`."""

    mocks: Mapping[str, Outcome] | None
    handlers: Handlers | None
    packages: Sequence[str]
    until: str | None
    skip_waits: bool
    timeout: float


class Bench:
    """A throw-away database and a worker for one test. The fixture `tasker` is one.

    Args:
        database: None is the one of this process, made when it is first needed.
        packages: Packages whose handlers every run may use.
        templates: The directory of templates that runs name.
        environment: Whose overrides of the templates hold.

    The database is emptied when a bench begins; what is in it afterwards may be looked at.
    """

    def __init__(
        self,
        database: ThrowAwayDatabase | None = None,
        *,
        packages: Sequence[str] = (),
        templates: Path | str | None = None,
        environment: str = ENVIRONMENT,
    ) -> None:
        self.database = database or shared_database()
        self.clock: Clock = self.database.clock
        self.shelf = TemplateShelf(environment=environment)
        self.turn_count = 0
        self._packages = tuple(packages)
        self._templates = templates
        self._runs: dict[UUID, Run] = {}
        self._others = HandlerSources(None, self._packages)
        if self.database.guest is not None:
            self.database.guest.close()
        self.database.clean()
        self._worker = self.database.portal.call(self._make_worker())
        self.database.guest = self
        self.is_open = True

    @property
    def url(self) -> str:
        """The database's address, for code under test that connects by itself."""
        return self.database.url

    def run(
        self,
        template: TemplateSource,
        context: Mapping[str, Any] | None = None,
        *,
        mocks: Mapping[str, Outcome] | None = None,
        handlers: Handlers | None = None,
        packages: Sequence[str] = (),
        until: str | None = None,
        skip_waits: bool = False,
        timeout: float = RUN_SECONDS,
        **fields: Unpack[TaskFields],
    ) -> Run:
        """Create a task, and run it until nothing can run at the moment.

        Args:
            template: A file, a name, YAML, a dict, or the template; see `find_template`.
            context: The task's context. It is checked as every task's is.
            mocks: Step → outcome, or a list of one outcome an attempt; see `Mocks`.
            handlers: Handlers by the name that the template calls them; or a list of them,
                each with a name of its own; or a `HandlerRegistry`. Before all others.
            packages: Packages to import handlers from. A handler that neither has is looked
                for where a worker would: among all that are imported, and by dotted path.
            until: Begin no step any more once this one has ended.
            skip_waits: Move the clock to the next retry whenever nothing else can run.
            timeout: How long it may take, in seconds of real time.
            fields: `priority`, `tags`, `idempotency_key` and so on.

        Raises:
            InvalidContext, DuplicateTask, MissingIdempotencyKey: As creating it anywhere.
            HandlerLoadError: A module of `packages` cannot be imported.
            AssertionError, ResolutionError, TimeoutError: See `Run.go_on`.
        """
        found = find_template(template, self._templates)
        new = NewTask(
            name=found.name,
            namespace=found.namespace,
            version=found.version,
            context=dict(context or {}),
            **fields,
        )
        sources = HandlerSources(handlers, (*self._packages, *packages))
        played = Mocks(found, mocks or {})

        async def create(conn: Connection) -> CreatedTask:
            await register_template(conn, found, force=True)
            return await create_task(conn, self.shelf, new)

        created = self.do(create)
        there = created.template.template  # as it is in this environment
        run = Run(
            self, created.task_uuid, there, played, sources, skip_waits=skip_waits, timeout=timeout
        )
        return self._begin(run, until)

    async def run_async(
        self,
        template: TemplateSource,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Do what `run` does in a thread: servers on the test's own loop go on answering."""
        return await asyncio.to_thread(functools.partial(self.run, template, context, **options))

    def follow(
        self,
        task_uuid: UUID,
        *,
        mocks: Mapping[str, Outcome] | None = None,
        handlers: Handlers | None = None,
        packages: Sequence[str] = (),
        until: str | None = None,
        skip_waits: bool = False,
        timeout: float = RUN_SECONDS,
    ) -> Run:
        """Run a task that code under test has created in this database.

        Raises:
            UnknownTask: There is no such task.
        """

        async def read(conn: Connection) -> TaskTemplate:
            seen = await read_snapshot(conn, task_uuid)
            return (await self.shelf.get(conn, seen.task.template_uuid)).template

        found = self.do(read)
        sources = HandlerSources(handlers, (*self._packages, *packages))
        played = Mocks(found, mocks or {})
        run = Run(self, task_uuid, found, played, sources, skip_waits=skip_waits, timeout=timeout)
        return self._begin(run, until)

    def register(self, template: TemplateSource) -> TaskTemplate:
        """Register a template, for code under test that creates tasks by itself."""
        found = find_template(template, self._templates)
        self.do(lambda conn: register_template(conn, found, force=True))
        return found

    def do(self, work: Callable[[Connection], Any]) -> Any:
        """Do something with a connection to the database: `bench.do(lambda conn: …)`.

        Args:
            work: A function, async or giving an awaitable, of an asyncpg connection.

        Returns:
            What it gives.
        """
        self.turn_count += 1
        return self.read(work)

    def close(self) -> None:
        """Stop the worker. A second call does nothing."""
        if self.is_open:
            self.is_open = False
            self.database.portal.call(self._worker.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- for runs ---------------------------------------------------------------------------

    def read(self, work: Callable[[Connection], Any]) -> Any:
        """Do something that changes nothing."""
        self._check_open()
        return self.database.do(work)

    def drive(self, run: Run, until: str | None, skip_waits: bool, seconds: float) -> None:
        """Work until nothing can run; see `Run.go_on`."""
        self._check_open()
        self.turn_count += 1
        self.database.portal.call(self._drive(run, until, skip_waits, seconds))

    def look_for_handlers(self) -> None:
        """Something is mocked, or not, that was otherwise before."""
        self._worker.forget_plans()

    def lose(self, task_uuid: UUID, step: str) -> None:
        """Let go of a step as a worker that dies does."""
        self._worker.lose(task_uuid, step)

    def published(self, task_uuid: UUID) -> list[InProcessDomainEvent]:
        """Give the events of a task; at the end those that no worker published."""
        told = self._worker.recorder.published.get(task_uuid, [])
        if not self.is_open:
            return told
        known = {event.event_id for event in told}
        rows = self.read(
            lambda conn: conn.fetch(
                "select event_uuid, event from tasker.outbox "
                "where task_uuid = $1 order by event_no",
                task_uuid,
            )
        )
        by_others = [row["event"] for row in rows if row["event_uuid"] not in known]
        return [*told, *map(InProcessDomainEvent.model_validate_json, by_others)]

    def handler(self, wanted: HandlerDefinition) -> BoundHandler | None:
        """Give what runs these steps of whatever task; None if nobody can."""
        found = (run.find(wanted) for run in reversed(self._runs.values()))
        shown = next(filter(None, found), None) or self._others.find(wanted)
        if shown is None:
            return None

        def execute(context: StepContext) -> Any:
            run = self._runs.get(context.task_uuid)
            if run is not None:
                return run.execute(wanted, context)
            other = self._others.find(wanted)
            if other is None:
                raise no_handler(context.step_name, wanted.callable)
            return other.run(context)

        # Whether it is async is known only when the task is: the worker awaits what it gives.
        return BoundHandler(shown.name, shown.version, False, execute)

    def _check_open(self) -> None:
        if not self.is_open:
            raise RuntimeError("this run is over: its database is another test's by now")

    # --- on the loop ------------------------------------------------------------------------

    def _begin(self, run: Run, until: str | None) -> Run:
        self._runs[run.task_uuid] = run
        self.look_for_handlers()
        return run.go_on(until=until)

    async def _make_worker(self) -> StepwiseWorker:
        # Not read from file and environment: tests are the same everywhere.
        settings = Settings.model_construct(worker_concurrency=10, shutdown_seconds=0.0)
        return StepwiseWorker(self.database.database, settings, _BenchRegistry(self))

    async def _drive(self, run: Run, until: str | None, skip_waits: bool, seconds: float) -> None:
        conn = self.database.conn  # the worker's, which nobody else uses meanwhile

        async def is_reached() -> bool:
            ended: bool = await conn.fetchval(
                "select count(*) > 0 and "
                f"bool_and(state in {_ENDED}) from tasker.steps "
                "where task_uuid = $1 and (name = $2 or template_step = $2)",
                run.task_uuid,
                until,
            )
            return ended

        stop = None if until is None else is_reached
        run.is_held = until is not None
        held = [one.task_uuid for one in self._runs.values() if one.is_held and one is not run]
        async with asyncio.timeout(seconds):
            if not held:
                return await self._work(conn, run, stop, skip_waits)
            await hold(conn, held)
            try:
                await self._work(conn, run, stop, skip_waits)
            finally:
                await asyncio.shield(release(conn))

    async def _work(
        self,
        conn: Connection,
        run: Run,
        stop: Callable[[], Awaitable[bool]] | None,
        skip_waits: bool,
    ) -> None:
        for _ in range(MOST_WAITS):
            await sweep(conn)  # what is due, what was dropped
            stopped = await self._worker.settle(self.database.conn, stop)
            if stopped or run.has_problem:
                return
            due = await self._next_due(conn, run) if skip_waits else None
            if due is None:
                return await self._refuse_starved(conn, run)
            await move_on_to(conn, due)
        raise TimeoutError(f"more than {MOST_WAITS} waits")

    async def _next_due(self, conn: Connection, run: Run) -> Any:
        return await conn.fetchval(
            "select min(moment) from ("
            "select due_at from tasker.delayed where task_uuid = $1 "
            "union all select ends_at from tasker.leases where task_uuid = $1) as due (moment)",
            run.task_uuid,
        )

    async def _refuse_starved(self, conn: Connection, run: Run) -> None:
        row = await conn.fetchrow(
            "select step.name, lane.callable from tasker.ready as ready "
            "join tasker.steps as step using (task_uuid, step_no) "
            "join tasker.lanes as lane on lane.lane = ready.lane "
            "where task_uuid = $1 order by step_no limit 1",
            run.task_uuid,
        )
        if row is not None:
            raise no_handler(row["name"], row["callable"])


class _BenchRegistry(HandlerRegistry):
    """What the worker asks for handlers: it asks the runs."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def find(self, definition: HandlerDefinition, *, strict: bool = False) -> BoundHandler | None:
        """Give what runs these steps of whatever task."""
        return self._bench.handler(definition)


_own: Bench | None = None  # made by run_workflow


def run_workflow(
    template: TemplateSource,
    context: Mapping[str, Any] | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """Run a whole workflow on a throw-away database, with no fixture.

    Each call begins with an empty database, and ends what an earlier one began: one run at
    a time. In a test that uses the fixture `tasker` it is `tasker.run`.

    Args:
        template, context, options: See `Bench.run`.

    Returns:
        The run, when nothing can run at the moment.

    Raises:
        NoTestDatabase: There is no PostgreSQL.
        Exception: See `Bench.run`.

    >>> template = {
    ...     "name": "greet",
    ...     "namespace_name": "hall",
    ...     "version": "1.0.0",
    ...     "steps": [{"name": "say", "handler": {"callable": "say_hello"}}],
    ... }
    >>> run = run_workflow(template, {"name": "Ada"}, mocks={"say": {"text": "Hello, Ada"}})
    >>> run.assert_complete()
    >>> run.results["say"]
    {'text': 'Hello, Ada'}
    """
    global _own
    fixture = shared_database().guest
    if isinstance(fixture, Bench) and fixture.is_open and fixture is not _own:
        return fixture.run(template, context, **options)
    _own = Bench()
    return _own.run(template, context, **options)


async def run_workflow_async(
    template: TemplateSource,
    context: Mapping[str, Any] | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """Do what `run_workflow` does in a thread: servers on the test's own loop go on answering."""
    return await asyncio.to_thread(functools.partial(run_workflow, template, context, **options))
