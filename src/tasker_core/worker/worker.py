"""What an application starts: one worker a process, in a thread of its own.

::

    @asynccontextmanager
    async def lifespan(app):
        worker = Worker.start(handler_packages=["app.handlers"])
        yield
        worker.stop()

The worker's event loop runs beside the application's, so neither waits for the other.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import structlog

from tasker_core.db.connect import Database, resolve_database
from tasker_core.db.migrate import check, upgrade
from tasker_core.engine.registration import register_directories
from tasker_core.errors import WorkerBootstrapError, WorkerNotInitializedError
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.settings import Settings
from tasker_core.templates.load import find_template_directory
from tasker_core.worker.broken import connect, unreachable_if_broken
from tasker_core.worker.loop import AsyncWorker

_log = structlog.get_logger("tasker.worker")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """How the worker of this process is."""

    running: bool
    worker_id: str = ""
    supported_namespaces: list[str] = field(default_factory=list)
    steps_in_progress: int = 0
    steps_finished: int = 0
    handler_count: int = 0
    load_errors: list[str] = field(default_factory=list)
    error: str | None = None


class Worker:
    """The worker of this process. Start it with `Worker.start`; there is one at a time."""

    _instance: ClassVar[Worker | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self) -> None:
        self._worker: AsyncWorker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._registry: HandlerRegistry | None = None

    # --- start and stop -----------------------------------------------------------------

    @classmethod
    def start(
        cls,
        handler_packages: Sequence[str] | str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        templates: Sequence[str | Path] | None = None,
        namespaces: Sequence[str] | None = None,
        max_concurrent_handlers: int | None = None,
        strict: bool = False,
    ) -> Self:
        """Start to work in the background; returns when the worker claims steps.

        The database is DATABASE_URL, or the embedded PostgreSQL of the working directory,
        whose schema is then brought up to date.

        Args:
            handler_packages: Dotted names of packages to import handlers from, with all
                their modules. PYTHON_HANDLER_PATH names a directory to import besides.
            config: Settings by name, over those of file and environment.
            templates: Directories of task templates to register; None: TASKER_TEMPLATE_PATH,
                or the usual places (`config/tasks`, `templates`, …).
            namespaces: Serve only these; None serves whatever the handlers can do.
            max_concurrent_handlers: How many steps run at a time; None as the settings say.
            strict: Refuse to start when a handler module or a template has an error,
                instead of logging it.

        Returns:
            The worker; the running one, when this process has one already.

        Raises:
            WorkerBootstrapError: It cannot start; the cause says why.
        """
        with cls._lock:
            running = Worker._instance
            if running is not None and running.is_running:
                _log.warning("worker_already_running", worker_uuid=running.worker_id)
                assert isinstance(running, cls)
                return running
            chosen = dict(config or {})
            if max_concurrent_handlers is not None:
                chosen["worker_concurrency"] = max_concurrent_handlers
            if namespaces is not None:
                chosen["namespaces"] = tuple(namespaces)
            worker = cls()
            try:
                worker._begin(Settings(**chosen), handler_packages or (), templates, strict)
            except Exception as error:
                raise WorkerBootstrapError(f"the worker cannot start: {error}") from error
            Worker._instance = worker
            return worker

    def stop(self) -> None:
        """Claim no more, let running handlers end, give back the rest. May be called twice."""
        with Worker._lock:
            if Worker._instance is self:
                Worker._instance = None
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or self._worker is None:
            return
        with suppress(RuntimeError):  # it has stopped by itself
            loop.call_soon_threadsafe(self._ask_to_stop)
        if thread is not threading.current_thread():  # an async handler cannot wait for itself
            thread.join()

    @classmethod
    def instance(cls) -> Worker | None:
        """The running worker of this process, if there is one."""
        running = Worker._instance
        return running if running is not None and running.is_running else None

    @classmethod
    def reset_instance(cls) -> None:
        """Stop the worker of this process, if there is one."""
        running = Worker._instance
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what it is ---------------------------------------------------------------------

    @property
    def worker_id(self) -> str:
        """The worker's id in the database; empty before it has started."""
        return str(self._worker.worker_uuid) if self._worker else ""

    @property
    def is_running(self) -> bool:
        """Whether it works."""
        return self._thread is not None and self._thread.is_alive() and self._started.is_set()

    @property
    def handler_load_errors(self) -> list[str]:
        """What could not be imported."""
        return [str(error) for error in self._registry.load_errors] if self._registry else []

    @property
    def bootstrap_result(self) -> WorkerStatus:
        """How the start went.

        Raises:
            WorkerNotInitializedError: It has not been started.
        """
        if self._worker is None:
            raise WorkerNotInitializedError("Worker has not been started")
        return self.status()

    def status(self) -> WorkerStatus:
        """How it is at this moment."""
        worker = self._worker
        if worker is None or not self.is_running:
            return WorkerStatus(running=False, error="Worker system not initialized")
        return WorkerStatus(
            running=True,
            worker_id=self.worker_id,
            supported_namespaces=worker.namespaces,
            steps_in_progress=len(worker.runner.running),
            steps_finished=worker.finished_count,
            handler_count=self._registry.handler_count() if self._registry else 0,
            load_errors=self.handler_load_errors,
        )

    # --- the thread ---------------------------------------------------------------------

    def _begin(
        self,
        settings: Settings,
        packages: Sequence[str] | str,
        templates: Sequence[str | Path] | None,
        strict: bool,
    ) -> None:
        self._registry = load_handlers(packages, strict=strict)
        self._thread = threading.Thread(
            target=self._run, args=(settings, templates, strict), name="tasker-worker", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def _run(
        self, settings: Settings, templates: Sequence[str | Path] | None, strict: bool
    ) -> None:
        try:
            with resolve_database(settings) as database:
                run_loop(self._live(database, settings, templates, strict))
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                _log.error("worker_failed", error=str(error), exc_info=error)
        finally:
            self._started.set()

    async def _live(
        self,
        database: Database,
        settings: Settings,
        templates: Sequence[str | Path] | None,
        strict: bool,
    ) -> None:
        assert self._registry is not None
        self._loop = asyncio.get_running_loop()
        await prepare_database(database, settings, templates, strict=strict)
        worker = AsyncWorker(database, settings, self._registry)
        await worker.start()
        self._worker = worker
        self._started.set()
        try:
            await worker.wait_closed()
        finally:
            await worker.stop()

    def _ask_to_stop(self) -> None:
        assert self._worker is not None
        self._stopper = asyncio.ensure_future(self._worker.stop())


# --- shared with the command line -------------------------------------------------------


def load_handlers(packages: Sequence[str] | str, *, strict: bool = False) -> HandlerRegistry:
    """Import these packages, and what PYTHON_HANDLER_PATH names, into the process's registry.

    Raises:
        HandlerLoadError: If strict, the first module that cannot be imported.
    """
    registry = HandlerRegistry.instance()
    before = registry.load_errors
    for package in [packages] if isinstance(packages, str) else packages:
        registry.discover_handlers(package)
    directory = os.environ.get("PYTHON_HANDLER_PATH")
    if directory:
        registry.discover_directory(directory)
    new = [error for error in registry.load_errors if error not in before]
    if strict and new:
        raise new[0]
    return registry


async def prepare_database(
    database: Database,
    settings: Settings,
    templates: Sequence[str | Path] | None,
    *,
    strict: bool = False,
) -> None:
    """Bring an embedded database up to date, and register the templates.

    Raises:
        InvalidTemplate, TemplateChanged: If strict; otherwise they are logged.
    """
    conn = await connect(database, "tasker setup")
    try:
        with unreachable_if_broken():
            if database.embedded is not None:
                await upgrade(conn)
            await check(conn)
            if templates is None:
                found = find_template_directory(settings.template_path)
                templates = [] if found is None else [found]
            await register_directories(conn, templates, strict=strict)
    finally:
        conn.terminate()


def run_loop(main: Any) -> None:
    """Run a coroutine to its end on the fastest loop that is installed."""
    try:
        import uvloop
    except ImportError:  # not on every platform
        asyncio.run(main)
    else:
        uvloop.run(main)


# --- upstream's functions ----------------------------------------------------------------


def bootstrap_worker(config: Mapping[str, Any] | None = None) -> WorkerStatus:
    """Start the worker of this process, or find it running."""
    return Worker.start(config=config).status()


def stop_worker() -> str:
    """Stop the worker of this process; say whether there was one."""
    if Worker.instance() is None:
        return "Worker system not running"
    Worker.reset_instance()
    return "Worker system stopped"


def get_worker_status() -> WorkerStatus:
    """Tell how the worker of this process is."""
    running = Worker.instance()
    return Worker().status() if running is None else running.status()


def is_worker_running() -> bool:
    """Say whether this process has a worker at work."""
    return Worker.instance() is not None
