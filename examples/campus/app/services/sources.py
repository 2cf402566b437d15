"""Three places where attendance is written down, each in its own way.

Their records are made up from the numbers of week and student, so that they are the same
whenever one asks. A real source would be a file, a table or an API.
"""

from __future__ import annotations

from typing import Any

from app import outages
from tasker_core.errors import RetryableError


async def read_gates(week: int, students: int) -> list[dict[str, Any]]:
    """Read the gates: when each student came and went, in minutes since midnight."""
    await _ask("gates")
    return [
        {"badge": f"S{no:05d}", "in": 480 + no % 30, "out": 480 + no % 30 + 60 + (no * week) % 90}
        for no in range(1, students + 1)
    ]


async def read_labs(week: int, students: int) -> list[dict[str, Any]]:
    """Read the sheets of the laboratories: hours, as people write them. Not all come."""
    await _ask("labs")
    return [
        {"student": str(no), "hours": f"{(no + week) % 3},5"}
        for no in range(1, students + 1)
        if no % 2 == 0
    ]


async def read_online(week: int, students: int) -> list[dict[str, Any]]:
    """Read the video platform: seconds watched."""
    await _ask("online")
    return [
        {"user_id": no, "watched_seconds": 60 * ((no * 7 + week) % 120)}
        for no in range(1, students + 1)
    ]


async def _ask(place: str) -> None:
    if await outages.is_down(place):
        raise RetryableError(f"source {place!r} does not answer", error_code="SOURCE_UNAVAILABLE")
