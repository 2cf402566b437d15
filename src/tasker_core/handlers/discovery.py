"""Import handler modules, and find the handlers in them.

An import that fails hides handlers, and a step whose handler is hidden waits
without a word. So every failure is caught, kept with its traceback and reported,
and the modules beside it are imported all the same.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tasker_core.errors import HandlerLoadError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import handler_class_of


def import_package(name: str) -> Iterator[ModuleType | HandlerLoadError]:
    """Import a module and all modules below it, one after the other.

    Folders without `__init__.py` count as packages, as they do for `import`;
    `__main__` modules are left alone.
    """
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        yield load_error(name, exc)
        return
    yield module
    folders = list(getattr(module, "__path__", ()))
    for child in _children(folders):
        yield from import_package(f"{name}.{child}")


def import_directory(directory: Path) -> Iterator[ModuleType | HandlerLoadError]:
    """Put a directory on `sys.path`, and import every module and package in it."""
    folder = str(directory.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    for child in _children([folder]):
        yield from import_package(child)


def import_target(path: str) -> Any | None:
    """Give what a dotted path leads to, `package.module.Name`; None if it leads nowhere.

    Raises:
        HandlerLoadError: A module on the way exists, but cannot be imported.
    """
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            target: Any = importlib.import_module(module_name)
        except (Exception, SystemExit) as exc:
            if _is_missing(module_name, exc):
                continue
            raise load_error(module_name, exc) from exc
        for part in parts[length:]:
            target = getattr(target, part, None)
        return target
    return None


def handlers_in(module: ModuleType, base: type = StepHandler) -> dict[str, type[StepHandler]]:
    """Find the handlers that a module has, by name: classes and decorated functions.

    Classes without a name and abstract ones are no handlers. Of two classes with one
    name, the one that says the name itself goes before the one that inherits it.
    """
    found: dict[str, type[StepHandler]] = {}
    for value in list(vars(module).values()):
        handler = handler_class_of(value)
        if (
            isinstance(handler, type)
            and issubclass(handler, base)
            and handler is not base
            and issubclass(handler, StepHandler)
            and handler.handler_name
            and not inspect.isabstract(handler)
        ):
            name = handler.handler_name
            if name not in found or says_its_name(handler):
                found[name] = handler
    return found


def says_its_name(handler: type) -> bool:
    """Say whether a class sets `handler_name` itself, and does not inherit it."""
    return "handler_name" in vars(handler)


def load_error(module: str, exc: BaseException) -> HandlerLoadError:
    """Describe a failed import, with its traceback."""
    error = HandlerLoadError(
        module, f"{type(exc).__name__}: {exc}", "".join(traceback.format_exception(exc))
    )
    error.__cause__ = exc
    return error


def _children(folders: list[str]) -> list[str]:
    names = {info.name for info in pkgutil.iter_modules(folders)}
    for folder in folders:
        names.update(path.name for path in Path(folder).glob("*/") if _holds_modules(path))
    return sorted(name for name in names if name.isidentifier() and name != "__main__")


def _holds_modules(path: Path) -> bool:
    return not path.name.startswith("__") and next(path.rglob("*.py"), None) is not None


def _is_missing(module_name: str, exc: BaseException) -> bool:
    """Tell a module that is not there from one that lacks something itself."""
    return (
        isinstance(exc, ModuleNotFoundError)
        and exc.name is not None
        and (module_name == exc.name or module_name.startswith(f"{exc.name}."))
    )
