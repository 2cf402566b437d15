"""Changed handlers and templates take effect while everything runs.

Handlers: all modules of the application are forgotten and imported anew, into new
registries of handlers, publishers and subscribers, which the worker then uses. What is
running goes on with the code that it began with, and durable events wait meanwhile. If a
module fails that did not fail before, everything stays as it was.

Templates: all files are read again, and those that changed are registered. A broken
one is reported, and what is registered stays.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tasker_core.cli import handlers
from tasker_core.cli.output import Output
from tasker_core.observe.visible import visible

if TYPE_CHECKING:
    from tasker_core.db import Database
    from tasker_core.handlers.registry import HandlerRegistry
    from tasker_core.worker.loop import AsyncWorker

FOREIGN_DIRECTORIES = frozenset({"site-packages", "dist-packages", "node_modules", ".venv", "venv"})


class HandlerCode:
    """The handlers of an application, as they were last imported.

    Args:
        packages: What to import handlers from.
        home: Modules below this directory are the application's.
    """

    def __init__(
        self, out: Output, packages: Sequence[str], home: Path, registry: HandlerRegistry
    ) -> None:
        self.registry = registry
        self._out = out
        self._packages = tuple(packages)
        self._homes = {home.resolve(), *_homes_of(packages)}

    def modules(self) -> dict[str, ModuleType]:
        """Give the imported modules that are the application's."""
        return {
            name: module
            for name, module in list(sys.modules.items())
            if _top(name) not in ("tasker_core", "__main__") and self._is_own(_file_of(module))
        }

    def directories(self) -> set[Path]:
        """Give the directories that hold the application's imported modules."""
        files = (_file_of(module) for module in self.modules().values())
        return {file.parent for file in files if file is not None}

    def reload(self) -> bool:
        """Import everything anew; False if a module failed and everything stays as it was."""
        from tasker_core.handlers.events.anew import Earlier
        from tasker_core.handlers.functional import declared
        from tasker_core.handlers.registry import HandlerRegistry
        from tasker_core.worker.worker import load_handlers

        before, declared_before = self.modules(), declared.all()
        events = Earlier()
        for name in before:
            del sys.modules[name]
        importlib.invalidate_caches()
        HandlerRegistry.reset_instance()
        registry = HandlerRegistry.instance(skip_bootstrap=True)
        load_handlers(self._packages)
        known = {error.module for error in self.registry.load_errors}
        failed = [error for error in registry.load_errors if error.module not in known]
        if not failed:
            self.registry = registry
            events.keep_but(before)
            return True
        for name in self.modules():
            del sys.modules[name]
        sys.modules.update(before)
        for handler in declared_before.values():
            declared.add(handler)
        HandlerRegistry._instance = self.registry
        events.restore()
        handlers.tell(self._out, failed)
        return False

    def _is_own(self, file: Path | None) -> bool:
        if file is None or FOREIGN_DIRECTORIES.intersection(file.parts):
            return False
        return any(file.is_relative_to(home) for home in self._homes)


class TemplateFiles:
    """The templates of an application, registered as they change."""

    def __init__(self, out: Output, directories: Sequence[Path], database: Database) -> None:
        self.directories = tuple(directories)
        self.callables: set[tuple[str, str]] = set()  # namespace and callable of every step
        self._out = out
        self._database = database

    async def register(self, only: Iterable[Path] | None = None) -> int:
        """Register what changed, even under a version in use.

        Args:
            only: Tell what is wrong with these files; None tells it of all.

        Returns:
            How many templates are registered as their files say.
        """
        from tasker_core.engine.registration import register_directories

        told = None if only is None else {path.resolve() for path in only}
        conn = await self._database.connect("tasker dev")
        try:
            outcomes = await register_directories(conn, self.directories, force=True, logs=False)
        finally:
            await conn.close()
        self.callables = {
            (one.template.namespace, step.handler.callable)
            for one in outcomes
            if one.template is not None
            for step in one.template.steps
        }
        for one in outcomes:
            is_told = told is None or (one.path is not None and one.path.resolve() in told)
            for warning in one.warnings if is_told else ():
                self._out.warn(warning)
            if one.outcome == "refused":
                if is_told:
                    errors = [str(f) for f in one.findings if f.severity == "error"]
                    self._refuse(*(errors or [f"{one.path}: {one.reason}"]))
            elif told is not None and one.outcome == "registered":
                self._out.note(f"registered {visible(str(one.label))}")
        return sum(one.outcome != "refused" for one in outcomes)

    def _refuse(self, *problems: str) -> None:
        for problem in problems:
            self._out.warn(problem)
        self._out.note("not registered; what was registered before stays")


async def watch_code(code: HandlerCode, worker: AsyncWorker, out: Output) -> None:
    """Import the handlers anew whenever their code changes; runs until it is cancelled."""
    from watchfiles import PythonFilter, awatch

    while True:
        watched = code.directories()
        if not watched:
            return
        async for _ in awatch(*watched, watch_filter=PythonFilter(), recursive=False):
            async with worker.changing():
                is_new = await asyncio.to_thread(code.reload)
                if is_new:
                    worker.use(code.registry)
            if is_new:
                out.note(f"reloaded {code.registry.handler_count()} handlers")
            else:
                out.note("not reloaded; the handlers stay as they were")
            if code.directories() != watched:
                break


async def watch_templates(files: TemplateFiles, out: Output) -> None:
    """Register templates whenever their files change; runs until it is cancelled."""
    from asyncpg import PostgresError
    from watchfiles import awatch

    from tasker_core.errors import SetupError

    if not files.directories:
        return
    watched = {path if path.is_dir() else path.parent for path in files.directories}
    deep = all(path.is_dir() for path in files.directories)
    async for changes in awatch(*watched, recursive=deep):
        changed = [Path(path) for _, path in changes if path.endswith((".yaml", ".yml"))]
        if not changed:
            continue
        try:
            await files.register(only=changed)
        except (OSError, PostgresError, SetupError) as error:
            out.warn(f"templates are not registered: {error}")


# --- helpers --------------------------------------------------------------------------------


def _homes_of(packages: Sequence[str]) -> set[Path]:
    """Give where the handler packages lie, should that be elsewhere."""
    homes = set()
    for package in packages:
        file = _file_of(sys.modules.get(_top(package)))
        if file is not None:
            homes.add(file.parent)
    return homes


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return Path(file).resolve()
    folders = list(getattr(module, "__path__", ()))
    return Path(folders[0]).resolve() / "__init__.py" if folders else None


def _top(name: str) -> str:
    return name.partition(".")[0]
