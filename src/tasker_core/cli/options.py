"""What holds for every command, wherever it stands on the line.

`tasker-ctl --json task get X` and `tasker-ctl task get X --json` are the same, unless
the command has an option of that name itself.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, pairwise

FLAGS = frozenset({"--json", "--quiet", "-q", "--no-color", "--verbose", "-v", "-vv", "-vvv"})
_VERBOSE = frozenset({"--verbose", "-v", "-vv", "-vvv"})  # "--verbose" has one v, too
WITH_VALUE = frozenset({"--format", "--url", "--profile", "--timeout"})


class Format(StrEnum):
    """How data is written to stdout."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of every command, as they were given."""

    format: Format = Format.TABLE
    quiet: bool = False
    verbose: int = 0
    color: bool = True
    url: str | None = None  # None: wherever the client finds its server
    profile: str | None = None  # likewise
    timeout: float | None = None  # of one request, in seconds; None: as the client has it


def split(args: Sequence[str], own: Container[str] = ()) -> tuple[list[str], list[str]]:
    """Take the options of every command out of a command line.

    Args:
        args: The words after `tasker-ctl`.
        own: Options that the command has itself, which it keeps.

    Returns:
        What holds for every command, and the rest, both in the order of the line.

    >>> split(["task", "get", "X", "--format", "json"])
    (['--format', 'json'], ['task', 'get', 'X'])
    """
    common: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, is_joined, _ = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in own:
            rest.append(word)
        elif word in FLAGS or (name in WITH_VALUE and is_joined):
            common.append(word)
        elif word in WITH_VALUE:
            common += [word, *islice(words, 1)]
        else:
            rest.append(word)
    return common, rest


def glance(args: Sequence[str]) -> Options:
    """Guess format and verbosity of a line that could not be understood, to report it."""
    common, _ = split(args)
    value = dict(pairwise(common)).get("--format", "")
    value = next((w.partition("=")[2] for w in common if w.startswith("--format=")), value)
    if "--json" in common:
        value = Format.JSON
    return Options(
        format=Format(value) if value in list(Format) else Format.TABLE,
        quiet="--quiet" in common or "-q" in common,
        verbose=sum(word.count("v") for word in common if word in _VERBOSE),
        color="--no-color" not in common,
    )
