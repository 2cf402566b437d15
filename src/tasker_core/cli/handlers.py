"""Import handler packages for a worker, and tell what could not be imported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from tasker_core.errors import HandlerLoadError
    from tasker_core.handlers.registry import HandlerRegistry


def search_here() -> None:
    """Let packages of the current directory be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def detect_packages(directory: Path) -> list[str]:
    """Find handler packages in the usual places: `handlers`, and `app.handlers` for any app.

    Returns:
        Dotted names, sorted; empty if there are none.
    """
    found = ["handlers"] if _holds_handlers(directory) else []
    children = sorted(child for child in directory.iterdir() if child.name.isidentifier())
    return found + [f"{c.name}.handlers" for c in children if c.is_dir() and _holds_handlers(c)]


def load(out: Output, packages: Sequence[str], *, strict: bool) -> HandlerRegistry:
    """Import packages with all their modules; what fails is told, and the rest imported.

    Raises:
        HandlerLoadError: One of the packages itself cannot be imported; or, if strict,
            any module.
    """
    from tasker_core.worker.worker import load_handlers

    search_here()
    registry = load_handlers(packages)
    fatal = [e for e in registry.load_errors if strict or e.module in packages]
    tell(out, fatal[:1] or registry.load_errors, with_message=not fatal)
    if fatal:
        raise fatal[0]
    return registry


def tell(out: Output, errors: Iterable[HandlerLoadError], *, with_message: bool = True) -> None:
    """Say what could not be imported, and where in the application's own code."""
    told: set[str] = set()
    for error in errors:
        if with_message:
            out.warn(str(error))
        cause = error.__cause__
        what = "".join(traceback.format_exception_only(cause)) if cause else ""
        if cause is None or what in told:  # many modules fail with the one that they import
            continue
        told.add(what)
        frames = [f for f in traceback.extract_tb(cause.__traceback__) if _is_own(f.filename)]
        if frames or isinstance(cause, SyntaxError):
            out.warn("".join([*traceback.format_list(frames), what]).rstrip())


def _is_own(filename: str) -> bool:
    return "importlib" not in filename and "tasker_core" not in Path(filename).parts


def _holds_handlers(directory: Path) -> bool:
    package = directory / "handlers"
    return (directory / "handlers.py").is_file() or (
        package.is_dir() and next(package.glob("*.py"), None) is not None
    )
