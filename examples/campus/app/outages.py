"""Failures on request, to see what becomes of a task: `POST /outages`.

A place that may fail asks `is_down` first. The places are `bank`, `library`, `points`,
and the sources of the attendance report: `gates`, `labs`, `online`.
"""

from __future__ import annotations

from app.database import connect


async def plan(place: str, calls: int) -> None:
    """Let a place fail the next `calls` times."""
    async with connect() as conn:
        await conn.execute(
            "insert into campus.outages (place, calls_left) values ($1, $2) "
            "on conflict (place) do update set calls_left = excluded.calls_left",
            place,
            calls,
        )


async def is_down(place: str) -> bool:
    """Say whether this call fails, and count it."""
    async with connect() as conn:
        return bool(
            await conn.fetchval(
                "update campus.outages set calls_left = calls_left - 1 "
                "where place = $1 and calls_left > 0 returning true",
                place,
            )
        )
