"""JSON on its way into the database: contexts, results, metadata.

Everything that is stored passes through `encode`. What JSON or PostgreSQL cannot
hold (NaN, a NUL character, half a surrogate pair, a cycle, a file handle) is
refused here, by the path to it, so that no statement fails half-way for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from tasker_core.errors import NotStorable

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 100

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


def encode(value: Any, *, max_bytes: int = MAX_BYTES) -> str:
    """Write a value as JSON text that PostgreSQL can hold.

    Datetimes become ISO 8601, UUIDs, decimals and paths strings, sets and tuples
    lists, timedeltas seconds; pydantic models and dataclasses become objects.

    Args:
        value: Anything made of the above and of JSON's own types.
        max_bytes: The longest text allowed, in bytes of UTF-8.

    Raises:
        NotStorable: With the JSON pointer of the first thing that cannot be stored.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        _find_culprit(value)
        raise NotStorable("", f"is not JSON: {error}") from None
    # NaN and infinity come out as null: only a text with a null, or with so many
    # brackets that it may be too deep, needs the slow look.
    if b"null" in text or b"\\u0000" in text or text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _find_culprit(value)
    if len(text) > max_bytes:
        raise NotStorable("", f"takes {len(text):,} bytes of JSON, the limit is {max_bytes:,}")
    return text.decode()


def encode_known(value: Any) -> str:
    """Write once more what `encode` has passed before, without looking into it again."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS).decode()


def decode(text: str | bytes | None) -> Any:
    """Read JSON text; None stays None."""
    return None if text is None else orjson.loads(text)


def storable_text(text: str) -> str:
    """Make any text storable: for messages and tracebacks, which must never be lost."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    """Turn what orjson does not know into what it knows."""
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="python", by_alias=False)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if isinstance(value, Decimal | PurePath | UUID):  # a UUID of another kind, such as a driver's
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"it is of type {type(value).__name__}, which has no JSON form")


def _find_culprit(value: Any) -> None:
    """Raise NotStorable for the first thing that cannot be stored; return if there is none."""
    _walk(value, "", 0, set())


def _walk(value: Any, pointer: str, depth: int, open_ids: set[int]) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, pointer)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise NotStorable(pointer, f"is an integer of more than 64 bits: {value}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise NotStorable(pointer, f"is {value}, which JSON does not have")
    elif isinstance(value, datetime | date | time | UUID):
        return
    else:
        _walk_container(value, pointer, depth, open_ids)


def _walk_container(value: Any, pointer: str, depth: int, open_ids: set[int]) -> None:
    if depth >= MAX_DEPTH:
        raise NotStorable(pointer, f"is nested more than {MAX_DEPTH} deep")
    if id(value) in open_ids:
        raise NotStorable(pointer, "contains itself")
    open_ids.add(id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | UUID | date | time | Enum | None):
                raise NotStorable(pointer, f"has a key of type {type(key).__name__}")
            name = str(key)
            inner = pointer + "/" + name.replace("~", "~0").replace("/", "~1")
            _check_text(name, inner)
            _walk(item, inner, depth + 1, open_ids)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{pointer}/{index}", depth + 1, open_ids)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        _walk(fields, pointer, depth, open_ids)
    else:
        try:
            simpler = _plain(value)
        except TypeError as error:
            raise NotStorable(pointer, f"cannot be stored: {error}") from None
        _walk(simpler, pointer, depth, open_ids)
    open_ids.discard(id(value))


def _check_text(text: str, pointer: str) -> None:
    if "\x00" in text:
        raise NotStorable(pointer, "has a NUL character, which PostgreSQL cannot hold")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotStorable(pointer, "has half a surrogate pair, which is not text") from None
