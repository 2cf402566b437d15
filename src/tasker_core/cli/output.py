"""Data to stdout, everything else to stderr.

A command hands over its data once, with a way to show it to a person; the format
decides which of the two is written. Nothing is coloured or cut short unless a
terminal reads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tasker_core.cli.options import Format, Options
from tasker_core.observe.visible import visible

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from tasker_core.cli.failures import Failure

PIPED_WIDTH = 100_000  # a line is a line, however long

STYLES = {
    "complete": "green",
    "resolved_manually": "green",
    "error": "bold red",
    "blocked_by_failures": "bold red",
    "cancelled": "magenta",
    "in_progress": "cyan",
    "steps_in_process": "cyan",
    "enqueued": "blue",
    "waiting_for_retry": "yellow",
    "pending": "dim",
    "warning": "yellow",
    "stale": "bold red",
    "healthy": "green",
    "permanently_failed": "bold red",
    "info": "dim",
}


class Output:
    """Where a command's words go."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def is_for_people(self) -> bool:
        """Whether the format is the one for reading."""
        return self.options.format is Format.TABLE

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at stdout."""
        return sys.stdout.isatty()

    def data(self, value: Any, show: Callable[[], RenderableType]) -> None:
        """Write the one document that was asked for.

        Args:
            value: The data: mappings, sequences, dataclasses, ids, times.
            show: Makes of it what a person reads.
        """
        if self.options.format is Format.JSON:
            print(to_json(value, indent=2))
        elif self.options.format is Format.YAML:
            print(_to_yaml(value), end="")
        else:
            self._show(show())

    def word(self, value: Any, text: str) -> None:
        """Write the one word that was asked for, in one piece, so that it can be copied."""
        if self.is_for_people:
            print(text)
        else:
            self.data(value, lambda: text)

    def event(self, value: Mapping[str, Any], line: RenderableType) -> None:
        """Write one item of a stream, at once."""
        if self.options.format is Format.JSON:
            print(to_json(value))
        elif self.options.format is Format.YAML:
            print("---\n" + _to_yaml(value), end="")
        else:
            self._show(line)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell something that is not the data: progress, a hint. Silent with --quiet."""
        if not self.options.quiet:
            self._say(text, "dim")

    def warn(self, text: str) -> None:
        """Tell something that may be wrong; not silenced."""
        self._say(text, "yellow")

    def fail(self, failure: Failure) -> None:
        """Tell why the command failed: to a person on stderr, to a program on stdout."""
        if self.options.format is Format.JSON:
            print(to_json({"error": failure.to_dict()}))
        elif self.options.format is Format.YAML:
            print(_to_yaml({"error": failure.to_dict()}), end="")
        else:
            self._say(f"error: {failure.message}", "bold red")
            if failure.hint and not self.options.quiet:
                self._say(f"hint: {failure.hint}", "dim")

    def console(self, *, error: bool = False) -> Console:
        """Make the console for a stream; it takes no markup out of what it prints."""
        from rich.console import Console

        stream: TextIO = sys.stderr if error else sys.stdout
        terminal = stream.isatty()
        return Console(
            file=stream,
            force_terminal=terminal,
            no_color=not self.options.color,
            width=None if terminal else PIPED_WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def _show(self, what: RenderableType) -> None:
        console = self.console()
        if self.on_terminal:
            console.print(what)
            return
        with console.capture() as captured:
            console.print(what)
        lines = captured.get().splitlines()
        print("\n".join(line.rstrip() for line in lines))

    def _say(self, text: str, style: str) -> None:
        if not sys.stderr.isatty():
            print(visible(text, "\n"), file=sys.stderr, flush=True)
        else:
            self.console(error=True).print(visible(text, "\n"), style=style, soft_wrap=True)


# --- what a person reads ----------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Make a plain table; cells that name a state have its colour."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="ellipsis", no_wrap=column in ("TASK", "STEP", "ENTRY"))
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def fields(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Make a list of names and values, without those that are None."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, cell(value))
    return made


def cell(value: Any) -> Text:
    """Show one value: structures as JSON, None as a dash."""
    from datetime import datetime

    from rich.text import Text

    if value is None:
        return Text("-", style="dim")
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        return Text(written(value))
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, Mapping | list | tuple):
        return Text(visible(to_json(value)))
    return Text(visible(str(value)), style=STYLES.get(str(value), ""))


def written(moment: datetime, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Write a moment for a person, in UTC.

    >>> from datetime import datetime
    >>> written(datetime.fromisoformat("2026-01-31T08:00:00.25+01:00"))
    '2026-01-31 07:00:00 UTC'
    """
    from datetime import UTC

    return f"{moment.astimezone(UTC):{pattern}} UTC"


# --- what a program reads -----------------------------------------------------------------


def to_json(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON: ids and times as text."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Turn dataclasses, ids and times into what JSON has."""
    from dataclasses import fields as fields_of
    from dataclasses import is_dataclass
    from datetime import datetime
    from enum import Enum

    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields_of(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _to_yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True)
    return text
