"""Read what stands on the command line: JSON, `--set`, names of templates, ages.

Whatever cannot be read is a usage error that says where and what to write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

_UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_OLDEST_SECONDS = 36_500 * 86_400


def read_json(text: str, option: str) -> Any:
    """Read JSON from the word itself, from a file with `@FILE`, from stdin with `-`.

    Raises:
        typer.BadParameter: There is no such file, or it is not JSON.
    """
    source = _source(text, option)
    try:
        return json.loads(source, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise typer.BadParameter(
            f'not JSON: {error.msg} at {where}; write {option} \'{{"key": "value"}}\', '
            f"{option} @FILE, or {option} - to read stdin",
            param_hint=option,
        ) from None
    except (ValueError, RecursionError) as error:  # a constant, or far too deep
        raise typer.BadParameter(f"not JSON: {error}", param_hint=option) from None


def read_object(text: str, option: str) -> dict[str, Any]:
    """Read a JSON object, as `read_json` does."""
    value = read_json(text, option)
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f'must be a JSON object, like {{"key": "value"}}, not {json.dumps(value)[:60]}',
            param_hint=option,
        )
    return value


def apply_set(context: dict[str, Any], assignments: Iterable[str]) -> None:
    """Write `key=value` pairs into a context; keys have dots, values are JSON or words.

    >>> context = {"cart": {"items": [{"quantity": 1}]}}
    >>> apply_set(context, ["cart.items.0.quantity=2", "email=ada@example.com", "vip=true"])
    >>> context
    {'cart': {'items': [{'quantity': 2}]}, 'email': 'ada@example.com', 'vip': True}

    Raises:
        typer.BadParameter: There is no `=`, or the key leads through something that has
            no keys.
    """
    for assignment in assignments:
        key, is_assigned, text = assignment.partition("=")
        parts = key.split(".")
        if not is_assigned or not all(parts):
            raise _bad_set(assignment, "write key=value, or outer.inner=value")
        _assign(context, parts, _value(text), assignment)


def template_name(
    positional: str | None, name: str | None, namespace: str | None, version: str | None
) -> tuple[str, str, str | None]:
    """Put together what `namespace/name@version` and the single options say.

    Returns:
        Namespace, name and version; a version of None is the newest.

    >>> template_name("shop/order@1.2.0", None, None, None)
    ('shop', 'order', '1.2.0')

    Raises:
        typer.BadParameter: No name is given, or two that differ.
    """
    found = re.fullmatch(r"(?:([^/@\s]+)/)?([^/@\s]+)(?:@([^/@\s]+))?", positional or name or "")
    if found is None:
        given = positional or name
        what = f"{given!r} is not a template" if given else "which template?"
        raise typer.BadParameter(f"{what}; write namespace/name or namespace/name@version")
    if positional and name and name != positional:
        raise typer.BadParameter(f"{positional!r} and --name {name!r} are two templates")
    return (
        _one_of("--namespace", found[1], namespace) or "default",
        found[2],
        _one_of("--version", found[3], version),
    )


def read_age(text: str | None, days: float | None, option: str = "--older-than") -> timedelta:
    """Read an age: a number with s, min, h, d or w; else so many days.

    >>> str(read_age("1.5d", None)), str(read_age(None, 30))
    ('1 day, 12:00:00', '30 days, 0:00:00')

    Raises:
        typer.BadParameter: It is no age, or nothing says how old.
    """
    if text is None:
        if days is None:
            raise typer.BadParameter(
                f"how old? write {option} 30d, or set retention_days", param_hint=option
            )
        return timedelta(days=days)
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|h|d|w|m)", text)
    if found is not None and found[2] == "m":
        raise typer.BadParameter(
            f"{text!r} may be minutes or months; write {found[1]}min, or a number of days "
            f"such as 30d",
            param_hint=option,
        )
    if found is None or float(found[1]) * _UNIT_SECONDS[found[2]] > _OLDEST_SECONDS:
        raise typer.BadParameter(
            f"{text!r} is no age up to 100 years; write a number and a unit, such as 90min, 12h, "
            f"30d or 4w",
            param_hint=option,
        )
    return timedelta(seconds=float(found[1]) * _UNIT_SECONDS[found[2]])


def read_where(pairs: Iterable[str]) -> dict[str, Any]:
    """Read what tasks have in common from `KEY=VALUE` words, as the API takes it.

    >>> read_where(["status=error,blocked_by_failures", "template=shop/refund@1.0.0"])
    {'status': ['error', 'blocked_by_failures'], 'namespace': 'shop', 'name': 'refund', \
'version': '1.0.0'}

    Raises:
        typer.BadParameter: A key is unknown or given twice, or its value cannot be read.
    """
    where: dict[str, Any] = {}
    for pair in pairs:
        key, is_given, text = pair.partition("=")
        if key not in WHERE_KEYS or not is_given or not text.strip():
            close = get_close_matches(key, WHERE_KEYS, 1)
            known = f"did you mean {close[0]}?" if close else f"keys: {', '.join(WHERE_KEYS)}"
            advice = "write KEY=VALUE" if key in WHERE_KEYS else known
            raise typer.BadParameter(f"{pair!r}: {advice}", param_hint="--where")
        for name, value in _criteria(key, text.strip()):
            if name in where:
                raise typer.BadParameter(f"{name} is given twice", param_hint="--where")
            where[name] = value
    return where


WHERE_KEYS = (
    "status",
    "namespace",
    "template",
    "failed_step",
    "error_type",
    "created_after",
    "created_before",
)


def _criteria(key: str, text: str) -> Iterator[tuple[str, Any]]:
    if key == "status":
        check_status(text, "--where")
        words = (word.strip() for word in text.split(","))
        yield key, ["complete" if word == "completed" else word for word in words]
    elif key == "template":
        found = re.fullmatch(r"(?:([^/@\s]+)/)?([^/@\s]+)(?:@([^/@\s]+))?", text)
        if found is None:
            advice = "write name, namespace/name or namespace/name@version"
            raise typer.BadParameter(f"{text!r} is not a template; {advice}", param_hint="--where")
        names = zip(("namespace", "name", "version"), found.groups(), strict=True)
        yield from ((name, value) for name, value in names if value is not None)
    elif key.startswith("created"):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            advice = "write 2026-01-31, or 2026-01-31T08:00:00+01:00"
            raise typer.BadParameter(
                f"{text!r} is no time; {advice}", param_hint="--where"
            ) from None
        yield key, text
    else:
        yield key, text


def check_status(status: str | None, option: str = "--status") -> str | None:
    """Give a list of states back, `a,b`, if all of them are states of a task.

    Raises:
        typer.BadParameter: One is none; it says what comes near.
    """
    from tasker_core.states import TaskState

    known = [*map(str, TaskState), "completed"]
    for word in (status or "").split(",") if status else ():
        if word.strip() not in known:
            close = get_close_matches(word, known, 1)
            advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise typer.BadParameter(f"{word!r} is no status; {advice}", param_hint=option)
    return status


# --- sources ------------------------------------------------------------------------------


def _source(text: str, option: str) -> str:
    if text == "-":
        if sys.stdin.isatty():
            sys.stderr.write("reading JSON from the terminal; end it with Ctrl-D\n")
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise typer.BadParameter(f"cannot read {text[1:]}: {reason}", param_hint=option) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{text[1:]} is not UTF-8", param_hint=option) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


# --- --set --------------------------------------------------------------------------------


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _assign(target: Any, parts: list[str], value: Any, assignment: str) -> None:
    for at, part in enumerate(parts[:-1]):
        place = _place(target, part, assignment, parts[:at])
        if isinstance(target, dict) and place not in target:
            target[place] = {}
        target = target[place]
    target[_place(target, parts[-1], assignment, parts[:-1])] = value


def _place(target: Any, part: str, assignment: str, before: list[str]) -> str | int:
    if isinstance(target, dict):
        return part
    where = ".".join(before)
    if not isinstance(target, list):
        raise _bad_set(assignment, f"{where} is {json.dumps(target)[:40]}, which has no keys")
    if not part.isdecimal() or int(part) >= len(target):
        raise _bad_set(assignment, f"{where} is a list of {len(target)}; {part} is no place in it")
    return int(part)


def _bad_set(assignment: str, why: str) -> typer.BadParameter:
    return typer.BadParameter(f"{assignment!r}: {why}", param_hint="--set")


def _one_of(option: str, first: str | None, second: str | None) -> str | None:
    if first and second and first != second:
        raise typer.BadParameter(f"{first} and {second} are given", param_hint=option)
    return first or second
