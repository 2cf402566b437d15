"""Values as a person reads them."""

from __future__ import annotations

import json
from typing import Any

_TONES = {
    "complete": "good",
    "resolved_manually": "good",
    "healthy": "good",
    "manually_resolved": "good",
    "in_progress": "busy",
    "steps_in_process": "busy",
    "enqueued": "soon",
    "waiting_for_retry": "warn",
    "warning": "warn",
    "starved": "warn",
    "late": "warn",
    "dead_letter": "bad",
    "degraded": "warn",
    "blocked_by_failures": "bad",
    "error": "bad",
    "stale": "bad",
    "unhealthy": "bad",
    "permanently_failed": "bad",
}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def tone(state: str) -> str:
    """Say in which color a state is shown.

    >>> tone("complete"), tone("error"), tone("cancelled")
    ('good', 'bad', 'calm')
    """
    return _TONES.get(state, "calm")


def words(name: str) -> str:
    """Write the name of a state as words.

    >>> words("blocked_by_failures")
    'blocked by failures'
    """
    return str(name).replace("_", " ")


def count(number: float | None) -> str:
    """Write a number for a person; nothing measured is a dash.

    >>> count(12345), count(0.25), count(None)
    ('12,345', '0.2', '–')
    """
    if number is None:
        return "–"
    return f"{number:,.0f}" if float(number).is_integer() or number >= 10 else f"{number:.1f}"


def duration(seconds: float | None) -> str:
    """Write how long something takes, in its two largest units.

    >>> duration(0.0421), duration(3.14), duration(3723), duration(None)
    ('42 ms', '3.1 s', '1 h 2 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for at, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            smaller, its_unit = _UNITS[at + 1] if at + 1 < len(_UNITS) else (1, "s")
            less = rest // smaller
            return f"{whole} {unit} {less} {its_unit}" if less else f"{whole} {unit}"
    raise AssertionError(seconds)


def as_json(value: Any) -> str:
    """Write JSON to be read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def dump(value: Any) -> str:
    """Write JSON to be sent; integers of any length stay what they are."""
    return json.dumps(value, ensure_ascii=False)
