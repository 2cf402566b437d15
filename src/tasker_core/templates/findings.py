"""Collect what there is to say about one template, with the place of each thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tasker_core.errors import Finding, Severity
from tasker_core.templates.document import Document, Path, pointer

# Comparing a word with every other is dear: beyond this, no suggestion.
MAX_CANDIDATES = 500
MAX_WORD = 100


class Findings:
    """The findings about one document, as they come.

    Paths are tuples (`("steps", 0, "name")`); line and column are looked up.
    With `at_key`, a finding stands where the key was written, not its value.
    """

    def __init__(self, document: Document, file: str | None = None) -> None:
        self.document = document
        self.file = file
        self.found: list[Finding] = []

    def error(
        self, code: str, path: Path, message: str, hint: str | None = None, *, at_key: bool = False
    ) -> None:
        self._add(Severity.ERROR, code, path, message, hint, at_key)

    def warning(
        self, code: str, path: Path, message: str, hint: str | None = None, *, at_key: bool = False
    ) -> None:
        self._add(Severity.WARNING, code, path, message, hint, at_key)

    def info(self, code: str, path: Path, message: str, hint: str | None = None) -> None:
        self._add(Severity.INFO, code, path, message, hint, False)

    def written(self, path: Path) -> str:
        """Give a scalar as it was written: 1.10, where the value is the number 1.1."""
        return self.document.place.at(path).text

    def _add(
        self,
        severity: Severity,
        code: str,
        path: Path,
        message: str,
        hint: str | None,
        at_key: bool,
    ) -> None:
        place = self.document.place.at(path)
        line, column = (place.line, place.column)
        if at_key and place.key is not None:
            line, column = place.key
        step = self._step(path)
        self.found.append(
            Finding(code, severity, message, self.file, line, column, pointer(path), step, hint)
        )

    def _step(self, path: Path) -> str | None:
        if len(path) < 2 or path[0] != "steps" or not isinstance(path[1], int):
            return None
        step = self.document.value["steps"][path[1]]
        name = step.get("name") if isinstance(step, dict) else None
        return name if isinstance(name, str) else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """Suggest the candidate that looks most like the word, if one does.

    >>> did_you_mean("dependancies", ["dependencies", "description"])
    'did you mean dependencies?'
    """
    words = list(candidates)
    if len(words) > MAX_CANDIDATES or len(word) > MAX_WORD:
        return None
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {close[0]}?" if close else None


def shown(value: object) -> str:
    """Show a value in a message, cut short when it is long.

    >>> shown(True), shown("x" * 100)[-6:]
    ('true', 'xxx...')
    """
    words = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict | list):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}" if value else f"an empty {kind[2:]}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
