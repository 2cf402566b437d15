"""Where plugins are looked for, and what is taken when the command line does not say.

Later wins, and plugin paths add up:

1. the user's `~/.config/tasker-ctl.toml`;
2. the project's, of the nearest directory above that has one: `.config/tasker.toml`
   (table `cli`), else `.tasker-ctl.toml`, else `pyproject.toml` (table `tool.tasker.cli`).

The keys are `plugin-paths`, `default-language` and `default-output-dir`; paths are
relative to the directory of the project, or to the user's file. Other keys belong to
others.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasker_core.cli.scaffold.errors import InvalidConfig


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, of all files together."""

    plugin_paths: tuple[Path, ...] = ()  # in the order in which they are searched
    default_language: str | None = None
    default_output_dir: Path | None = None


def read_config(here: Path) -> Config:
    """Read the settings that hold in a directory.

    Raises:
        InvalidConfig: A file cannot be read, or has a value of the wrong kind.
    """
    project = next((found for d in (here, *here.parents) if (found := _of_project(d))), None)
    user = _of_user()
    tables = [table for table in (project, user) if table is not None]
    return Config(
        plugin_paths=tuple(path for table in tables for path in table.plugin_paths),
        default_language=next((t.default_language for t in tables if t.default_language), None),
        default_output_dir=next(
            (t.default_output_dir for t in tables if t.default_output_dir), None
        ),
    )


def _of_project(directory: Path) -> Config | None:
    for name, keys in _PLACES:
        path = directory / name
        table = _table(path, keys)
        if table is not None:
            return _read(path, table, directory)
    return None


_PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (".config/tasker.toml", ("cli",)),
    (".tasker-ctl.toml", ()),
    ("pyproject.toml", ("tool", "tasker", "cli")),
)


def _of_user() -> Config | None:
    base = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    path = base / "tasker-ctl.toml"
    table = _table(path, ())
    return None if table is None else _read(path, table, base)


def _table(path: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Give a table of a file; None if there is no such file, or no such table in it."""
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        if path.name == "pyproject.toml":
            return None  # somebody else's file, and somebody else's complaint
        raise InvalidConfig(path, f"cannot be read: {error}") from error
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _read(path: Path, table: dict[str, Any], base: Path) -> Config:
    def texts() -> Iterator[str]:
        paths = table.get("plugin-paths", [])
        if not isinstance(paths, list) or not all(isinstance(item, str) for item in paths):
            raise InvalidConfig(path, 'plugin-paths must be a list, like ["~/my-plugins"]')
        yield from paths

    def text(key: str) -> str | None:
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidConfig(path, f'{key} must be text, like {key} = "…"')
        return value or None

    output = text("default-output-dir")
    return Config(
        plugin_paths=tuple(base / Path(item).expanduser() for item in texts()),
        default_language=text("default-language"),
        default_output_dir=base / Path(output).expanduser() if output else None,
    )
