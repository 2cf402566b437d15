"""Attendance: from the records of three sources to points for each student."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from app import outages
from app.database import connect
from app.models.attendance import Minutes, RawRecords
from tasker_core.errors import PermanentError, RetryableError

Row = tuple[int, int]  # student number, minutes

MINUTES_A_POINT = 30


def gate_row(record: dict[str, Any]) -> Row:
    return int(record["badge"].removeprefix("S")), record["out"] - record["in"]


def lab_row(record: dict[str, Any]) -> Row:
    return int(record["student"]), round(60 * float(record["hours"].replace(",", ".")))


def online_row(record: dict[str, Any]) -> Row:
    return record["user_id"], record["watched_seconds"] // 60


async def store(
    raw: RawRecords | None, to_row: Callable[[dict[str, Any]], Row], *, task_uuid: UUID
) -> Minutes:
    """Bring a source's records into the common table; a second time changes nothing.

    Raises:
        PermanentError: A record cannot be read, which another attempt does not change.
    """
    if raw is None:
        raise PermanentError("the records are missing", error_code="MISSING_DEPENDENCY")
    rows = list(_read(raw, to_row))
    async with connect() as conn:
        await conn.executemany(
            "insert into campus.attendance (task_uuid, source, student_no, minutes) "
            "values ($1, $2, $3, $4) on conflict do nothing",
            [(task_uuid, raw.source, *row) for row in rows],
        )
    return Minutes(
        source=raw.source, row_count=len(rows), minutes=sum(minutes for _, minutes in rows)
    )


async def count_students(task_uuid: UUID) -> int:
    async with connect() as conn:
        return await conn.fetchval(
            "select count(distinct student_no) from campus.attendance where task_uuid = $1",
            task_uuid,
        )


async def award_points(task_uuid: UUID, start: int, end: int) -> tuple[int, int]:
    """Award points to the students at places `start` to `end`, `end` not included.

    Returns:
        How many students and how many points, of this piece alone.

    Raises:
        RetryableError: The book of points is in use.
    """
    # Not for the first ones, so that an outage comes between two checkpoints.
    if start > 0 and await outages.is_down("points"):
        raise RetryableError("the book of points is in use", error_code="BOOK_IN_USE")
    async with connect() as conn:
        points = await conn.fetch(
            "insert into campus.points (task_uuid, student_no, minutes, points) "
            "select task_uuid, student_no, sum(minutes), sum(minutes) / $4 "
            "from campus.attendance where task_uuid = $1 group by task_uuid, student_no "
            "order by student_no offset $2 limit $3 "
            "on conflict (task_uuid, student_no) "
            "do update set written_count = points.written_count + 1 returning points",
            task_uuid,
            start,
            end - start,
            MINUTES_A_POINT,
        )
    return len(points), sum(row["points"] for row in points)


def _read(raw: RawRecords, to_row: Callable[[dict[str, Any]], Row]) -> Iterable[Row]:
    for record in raw.records:
        try:
            yield to_row(record)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise PermanentError(
                f"source {raw.source!r} has a record that cannot be read: {record}",
                error_code="UNREADABLE_RECORD",
            ) from error
