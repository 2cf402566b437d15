"""The weekly attendance report."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from tasker_core.errors import PermanentError


class ReportRequest(BaseModel):
    """Which week, and of how many students; the task's context is the same."""

    week: int = Field(ge=1)
    students: int = Field(ge=0, le=10_000)


class Week(BaseModel):
    """A task's context as steps read it; all optional, so that they can say what is wrong."""

    week: int | None = None
    students: int | None = None
    batch_size: int = 40

    def checked(self) -> tuple[int, int]:
        """Give week and number of students.

        Raises:
            PermanentError: There is no such week.
        """
        if self.week is None or not 1 <= self.week <= 52:
            raise PermanentError(f"there is no week {self.week}", error_code="NO_SUCH_WEEK")
        return self.week, self.students or 0


class RawRecords(BaseModel):
    """What an extract step returns: records as their source writes them."""

    source: str
    records: list[dict[str, Any]]


class Minutes(BaseModel):
    """What a transform step returns: a source's rows are in the table now."""

    source: str
    row_count: int
    minutes: int


class Report(BaseModel):
    """What publish_report returns."""

    minutes_by_source: dict[str, int]
    students: int
    points: int
    batch_count: int
