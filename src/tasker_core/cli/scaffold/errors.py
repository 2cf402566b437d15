"""Whatever can be wrong before files are written, each with what to do about it.

Nothing has been written when one of these is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tasker_core.cli.failures import ExitCode, Failure


class ScaffoldError(Exception):
    """Root of what this package raises.

    Args:
        message: What is wrong, with which values.
        hint: What to do about it.
        details: The same for a program.
    """

    code = "scaffold_error"
    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.details = details

    def failure(self) -> Failure:
        """Say how the command ends."""
        return Failure(self.exit_code, self.code, str(self), self.hint, self.details)


class InvalidConfig(ScaffoldError):
    """A configuration file cannot be read."""

    code = "invalid_config"
    exit_code = ExitCode.INVALID

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}", path=str(path))


class InvalidPlugin(ScaffoldError):
    """A manifest, or the metadata of a template, is not what it must be."""

    code = "invalid_plugin"
    exit_code = ExitCode.INVALID

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}", path=str(path))


class UnknownScaffold(ScaffoldError):
    """No plugin has a template of this name."""

    code = "unknown_scaffold"
    exit_code = ExitCode.NOT_FOUND

    def __init__(self, name: str, known: Sequence[str], where: str = "") -> None:
        super().__init__(
            f"there is no template {name!r}{where}",
            _meant(name, known) or "see: tasker-ctl template list",
            name=name,
            known=list(known),
        )


class UnknownLanguage(ScaffoldError):
    """No plugin generates this language."""

    code = "unknown_language"
    exit_code = ExitCode.USAGE

    def __init__(self, language: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no plugin generates {language!r}", _meant(language, known), known=list(known)
        )


class UnknownPlugin(ScaffoldError):
    """There is no plugin of this name."""

    code = "unknown_plugin"
    exit_code = ExitCode.NOT_FOUND

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no plugin {name!r}", _meant(name, known), known=list(known))


class AmbiguousScaffold(ScaffoldError):
    """Several plugins have a template of this name."""

    code = "ambiguous_scaffold"
    exit_code = ExitCode.USAGE

    def __init__(self, name: str, candidates: Sequence[tuple[str, str]]) -> None:
        listed = ", ".join(f"{plugin} ({language})" for plugin, language in candidates)
        super().__init__(
            f"several plugins have a template {name!r}: {listed}",
            f"say which: --plugin {candidates[0][0]}",
            candidates=[{"plugin": p, "language": lang} for p, lang in candidates],
        )


class BadParameters(ScaffoldError):
    """Parameters are missing, unknown or wrong: everything that is wrong, at once."""

    code = "bad_parameters"
    exit_code = ExitCode.USAGE

    def __init__(self, template: str, problems: Sequence[str]) -> None:
        super().__init__(
            "; ".join(problems),
            f"see: tasker-ctl template info {template}",
            problems=list(problems),
        )


class RenderFailed(ScaffoldError):
    """A template's source has a fault, or makes a file that cannot be used."""

    code = "render_failed"
    exit_code = ExitCode.INVALID

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}", source=source)


class NameClash(ScaffoldError):
    """The name chosen makes another thing unreachable."""

    code = "name_clash"
    exit_code = ExitCode.USAGE


class InTheWay(ScaffoldError):
    """Something in the directory keeps the files from being written as they must be."""

    code = "in_the_way"


class FilesExist(ScaffoldError):
    """Files are there already, and may hold somebody's work."""

    code = "files_exist"

    def __init__(self, paths: Iterable[str]) -> None:
        found = list(paths)
        what = "this file exists" if len(found) == 1 else "these files exist"
        super().__init__(
            f"{what} already: {', '.join(found)}; nothing was written",
            "choose another name, or replace with --force",
            paths=found,
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give `; did you mean …?`, or nothing if nothing is near.

    >>> did_you_mean("nmae", ["name", "module_name"])
    '; did you mean name?'
    """
    close = get_close_matches(word.lower(), list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _meant(word: str, known: Sequence[str]) -> str | None:
    close = get_close_matches(word.lower(), known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else None
