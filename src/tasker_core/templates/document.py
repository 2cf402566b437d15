"""Read YAML (or JSON) text, and remember where everything was written.

The first stage of loading. YAML is read by its events, not by its nodes: no
recursion, whatever the text. Plain words mean what YAML 1.2 says: `yes` and `on`
are text, a date is text, and only what JSON has comes out. Merge keys (`<<`)
work as in YAML 1.1, because shared retry blocks need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

from tasker_core.errors import Finding, NotStorable, Severity
from tasker_core.payload import MAX_DEPTH, encode

MAX_BYTES = 64 * 1024 * 1024
MAX_ALIASED_VALUES = 100_000  # what aliases may repeat: the "billion laughs" stop here

Path = tuple[str | int, ...]


def pointer(path: Path) -> str:
    """Write a path as a JSON pointer.

    >>> pointer(("steps", 0, "a/b"))
    '/steps/0/a~1b'
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


@dataclass(slots=True)
class Place:
    """Where one value was written. Lines and columns count from 1."""

    line: int
    column: int
    text: str = ""  # a scalar as written: 1.10 is 1.1 as a number
    key: tuple[int, int] | None = None  # where its key was written
    inside: dict[str | int, Place] = field(default_factory=dict)

    def at(self, path: Path) -> Place:
        """Find the place of a value, or of the nearest thing around it."""
        place = self
        for part in path:
            inner = place.inside.get(part)
            if inner is None:
                return place
            place = inner
        return place


@dataclass(frozen=True, slots=True)
class Document:
    """A text that was read: plain JSON values, and their places."""

    value: Any
    place: Place


def read_document(text: str, file: str | None = None) -> tuple[Document | None, list[Finding]]:
    """Read one document; None when the text cannot be read at all.

    Repeated keys are errors, but do not stop the reading.
    """
    composer = _Composer(file)
    try:
        document = composer.read(text)
        encode(document.value, max_bytes=MAX_BYTES)
    except _Unreadable as error:
        as_json = _read_json(text)
        if as_json is None:
            return None, [*composer.findings, error.finding]
        document = as_json
    except NotStorable as error:
        path = tuple(int(p) if p.isdigit() else p for p in error.pointer.split("/")[1:])
        place = document.place.at(path)
        unfit = composer.error("BAD_VALUE", str(error), place.line, place.column, error.pointer)
        return None, [*composer.findings, unfit]
    return document, composer.findings


class _Unreadable(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being filled."""

    value: Any
    place: Place
    anchor: str | None
    size: int = 1  # how many values it holds, itself included
    key: str | None = None  # the key that waits for its value
    key_place: tuple[int, int] = (1, 1)
    merges: list[tuple[Any, Place]] = field(default_factory=list)


class _Composer:
    """Build values from events, with a stack of its own."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, Place, int] | None] = {}  # None: still open
        self.aliased = 0
        self.root: Document | None = None

    def error(
        self, code: str, message: str, line: int, column: int, path: str = "", hint: str = ""
    ) -> Finding:
        return Finding(
            code, Severity.ERROR, message, self.file, line, column, path, None, hint or None
        )

    def stop(self, message: str, line: int, column: int, hint: str = "") -> _Unreadable:
        return _Unreadable(self.error("INVALID_YAML", message, line, column, self._pointer(), hint))

    def read(self, text: str) -> Document:
        try:
            for event in _events(text):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        except yaml.reader.ReaderError as error:
            line = text.encode()[: error.position].count(b"\n") + 1
            message = f"the text has a character that YAML does not allow: {error.reason}"
            raise self.stop(message, line, 1, "write it as an escape in quotes") from None
        if self.root is None:
            raise self.stop("the file is empty", 1, 1, "a template begins with name: …")
        return self.root

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> _Unreadable:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or "cannot be read"
        lines = text.splitlines()
        written = lines[line - 1] if line <= len(lines) else ""
        hint = ""
        if "\t" in written[: len(written) - len(written.lstrip())]:
            hint = "indent with spaces: YAML does not allow tabs there"
        elif "mapping values are not allowed" in problem:
            hint = "put text that contains ': ' in quotes, and check the indentation"
        return self.stop(f"this is not YAML: {problem}", line, column, hint)

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            line, column = _position(event)
            raise self.stop(
                "the file has a second document", line, column, "give each template its own file"
            )

    def _scalar(self, event: Any) -> None:
        line, column = _position(event)
        if self._awaits_key():
            self._key(event.value, line, column, plain=event.implicit[0])
            if event.anchor:
                self.anchors[event.anchor] = (event.value, Place(line, column, event.value), 1)
            return
        if event.implicit[0]:
            value = plain_scalar(event.value)
        elif event.implicit[1] or event.tag in ("!", _TAG + "str"):
            value = event.value
        elif event.tag in _SCALAR_TAGS:
            value = plain_scalar(event.value)
            if not isinstance(value, _SCALAR_TAGS[event.tag]):
                raise self.stop(f"{event.value!r} is not {event.tag[len(_TAG) :]}", line, column)
        else:
            raise self._tag(event)
        place = Place(line, column, event.value)
        if event.anchor:
            self.anchors[event.anchor] = (value, place, 1)
        self._put(value, place, 1)

    def _alias(self, event: Any) -> None:
        line, column = _position(event)
        if event.anchor not in self.anchors:
            raise self.stop(f"nothing is called &{event.anchor}", line, column)
        known = self.anchors[event.anchor]
        if known is None:
            raise self.stop(f"&{event.anchor} contains itself", line, column)
        value, place, size = known
        if self._awaits_key():
            if isinstance(value, dict | list):
                raise self._bad_key(line, column)
            self._key(place.text, line, column, plain=False)
            return
        self.aliased += size
        if self.aliased > MAX_ALIASED_VALUES:
            raise self.stop(f"aliases repeat more than {MAX_ALIASED_VALUES:,} values", line, column)
        self._put(value, Place(line, column, place.text, inside=place.inside), size)

    def _start(self, event: Any) -> None:
        line, column = _position(event)
        if self._awaits_key():
            raise self._bad_key(line, column)
        if not event.implicit and event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            raise self._tag(event)
        if len(self.open) >= MAX_DEPTH:
            raise self.stop(f"values are nested more than {MAX_DEPTH} deep", line, column)
        if event.anchor:
            self.anchors[event.anchor] = None
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.open.append(_Open(value, Place(line, column), event.anchor))

    def _end(self) -> None:
        top = self.open.pop()
        for value, place in top.merges:
            self._merge(top, value, place)
        if top.anchor:
            self.anchors[top.anchor] = (top.value, top.place, top.size)
        self._put(top.value, top.place, top.size)

    def _merge(self, top: _Open, value: Any, place: Place) -> None:
        sources = value if isinstance(value, list) else [value]
        for index, source in enumerate(sources):
            if not isinstance(source, dict):
                raise self.stop(
                    "<< takes a mapping, or a list of mappings", place.line, place.column
                )
            origin = place.inside[index] if isinstance(value, list) else place
            for key in source.keys() - top.value.keys():
                top.place.inside[key] = origin.inside[key]
            top.value.update({k: v for k, v in source.items() if k not in top.value})

    def _put(self, value: Any, place: Place, size: int) -> None:
        if not self.open:
            self.root = Document(value, place)
            return
        top = self.open[-1]
        top.size += size
        if isinstance(top.value, list):
            top.place.inside[len(top.value)] = place
            top.value.append(value)
            return
        key, top.key = top.key, None
        assert key is not None  # a mapping's events alternate: key, value
        place.key = top.key_place
        if key == _MERGE:
            top.merges.append((value, place))
        elif key not in top.value:  # a repeated key was reported; the first one stands
            top.value[key] = value
            top.place.inside[key] = place

    def _awaits_key(self) -> bool:
        return (
            bool(self.open) and isinstance(self.open[-1].value, dict) and self.open[-1].key is None
        )

    def _key(self, key: str, line: int, column: int, *, plain: bool) -> None:
        top = self.open[-1]
        first = top.place.inside.get(key)
        if first is not None:
            path = self._pointer() + pointer((key,))
            before = f"line {first.key[0] if first.key else first.line}"
            message = f"the key {key!r} is written twice in one mapping, first on {before}"
            self.findings.append(
                self.error("DUPLICATE_KEY", message, line, column, path, "keep one of them")
            )
        top.key = _MERGE if plain and key == "<<" else key
        top.key_place = (line, column)

    def _bad_key(self, line: int, column: int) -> _Unreadable:
        return self.stop("a key must be text, not a list or a mapping", line, column)

    def _tag(self, event: Any) -> _Unreadable:
        line, column = _position(event)
        return self.stop(f"the tag {event.tag} means nothing here", line, column, "leave it out")

    def _pointer(self) -> str:
        """The pointer of the innermost open container."""
        return pointer(
            tuple(
                len(outer.value) if isinstance(outer.value, list) else outer.key or ""
                for outer in self.open[:-1]
            )
        )


_TAG = "tag:yaml.org,2002:"
_MERGE = "\x00<<"  # no key of a text can be this: YAML has no NUL outside of quotes
_SCALAR_TAGS: dict[str, Any] = {
    _TAG + "int": int,
    _TAG + "float": int | float,
    _TAG + "bool": bool,
    _TAG + "null": type(None),
}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{
        sign + word: float(sign + "inf")
        for sign in ("", "+", "-")
        for word in (".inf", ".Inf", ".INF")
    },
}
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]{1,400})|0o(?P<oct>[0-7]{1,400})|0x(?P<hex>[0-9a-fA-F]{1,400})"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
)


def plain_scalar(text: str) -> Any:
    """Say what an unquoted word means: YAML 1.2's core rules, which contain JSON's.

    >>> [plain_scalar(word) for word in ("yes", "true", "0x1F", "1e3", "2024-05-01")]
    ['yes', True, 31, 1000.0, '2024-05-01']
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    if number["int"]:
        return int(text)
    if number["oct"]:
        return int(number["oct"], 8)
    if number["hex"]:
        return int(number["hex"], 16)
    return float(text)


def _events(text: str) -> Iterator[Any]:
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    return events


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _read_json(text: str) -> Document | None:
    """Read JSON that is not YAML (`\\ud83d\\ude00` is not); places are lost."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = orjson.loads(text)
        encode(value, max_bytes=MAX_BYTES)
    except (ValueError, NotStorable):
        return None
    return Document(value, Place(1, 1))
