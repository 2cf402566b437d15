"""Write all files, or none.

Everything is looked at before anything is written; then each file is written beside
its place, and only when all are, they are moved there. If a move fails, what was moved
before is put back.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasker_core.cli.scaffold.errors import FilesExist, InTheWay
from tasker_core.cli.scaffold.package import PlannedFile


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one file."""

    path: Path
    action: str  # "created", "updated": lines were added, "replaced"
    text: str
    check: str | None


def plan_changes(files: Iterable[PlannedFile], directory: Path, *, force: bool) -> list[Change]:
    """Say what becomes of each file; nothing is written.

    Raises:
        FilesExist: Files are there already, and `force` is not given.
        InTheWay: A directory has the name of a file, or the other way round.
    """
    changes = []
    for file in files:
        path = directory / file.path
        _check_place(path)
        action = "updated" if file.merged else "replaced" if path.exists() else "created"
        changes.append(Change(path, action, file.text, file.check))
    existing = [str(change.path) for change in changes if change.action == "replaced"]
    if existing and not force:
        raise FilesExist(existing)
    return changes


def write(changes: Sequence[Change]) -> None:
    """Write the files.

    Raises:
        OSError: It failed, and everything is as it was before.
    """
    made: list[Path] = []  # directories, outer ones first
    staged: list[tuple[Path, Change]] = []
    undo: list[tuple[Path, bytes | None]] = []
    try:
        for change in changes:
            made += _make_directories(change.path.parent)
            staged.append((_stage(change), change))
        for temporary, change in staged:
            before = change.path.read_bytes() if change.path.exists() else None
            undo.append((change.path, before))
            temporary.replace(change.path)
    except BaseException:
        for path, before in undo:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        for directory in reversed(made):
            with contextlib.suppress(OSError):  # somebody has put something into it
                directory.rmdir()
        raise


def _stage(change: Change) -> Path:
    number, name = tempfile.mkstemp(prefix=f".{change.path.name}.", dir=change.path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
            file.write(change.text)
        temporary.chmod(_mode(change.path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _mode(path: Path) -> int:
    """Give the permissions that the file has, or that a new one would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _make_directories(directory: Path) -> list[Path]:
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise InTheWay(f"{path} is a directory", path=str(path))
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise InTheWay(f"{parent} is no directory", path=str(parent))
            return
