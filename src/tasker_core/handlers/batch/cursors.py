"""How an analyzer divides its work into ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CursorConfig(BaseModel):
    """One range, start included and end not.

    Cursors may be any JSON value; what the database gives back is what JSON made of it,
    so a date comes back as text. `batch_size` is the width if both are whole numbers,
    and else what is given, or 0.
    """

    model_config = ConfigDict(extra="ignore")

    start_cursor: Any
    end_cursor: Any
    step_size: int = 1
    metadata: dict[str, Any] = Field(default_factory=dict)
    batch_id: str = ""  # "001", …; empty until the analyzer's result is made
    batch_size: int = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("batch_size") is not None:
            return values
        width = _width(values.get("start_cursor"), values.get("end_cursor"))
        return {**values, "batch_size": width or 0}

    def wire(self, batch_id: str) -> dict[str, Any]:
        """Give the range as it is stored, under its id or else this one."""
        return {
            "batch_id": self.batch_id or batch_id,
            "start_cursor": self.start_cursor,
            "end_cursor": self.end_cursor,
            "batch_size": self.batch_size,
        }


@dataclass(slots=True)
class BatchWorkerConfig:
    """One of several equal shares of numbered items."""

    batch_id: str
    cursor_start: int  # included
    cursor_end: int  # not included
    row_count: int
    worker_index: int  # from 0
    total_workers: int  # as many as were asked for; there may be fewer shares

    @property
    def start_cursor(self) -> int:
        """The first item; the name that `CursorConfig` has for it."""
        return self.cursor_start

    @property
    def end_cursor(self) -> int:
        """The item after the last."""
        return self.cursor_end

    @property
    def batch_size(self) -> int:
        """How many items there are."""
        return self.row_count

    def to_dict(self) -> dict[str, Any]:
        """Give the fields."""
        return asdict(self)


def cursor_config(value: CursorConfig | BatchWorkerConfig | Mapping[str, Any]) -> CursorConfig:
    """Read a range in any of its forms.

    Raises:
        pydantic.ValidationError: Start or end is missing.
    """
    if isinstance(value, CursorConfig):
        return value
    if isinstance(value, BatchWorkerConfig):
        return CursorConfig(
            start_cursor=value.cursor_start, end_cursor=value.cursor_end, batch_id=value.batch_id
        )
    return CursorConfig.model_validate(value)


def ranges_of_size(
    total_items: int, batch_size: int, step_size: int = 1, max_batches: int | None = None
) -> list[CursorConfig]:
    """Divide items 0 to `total_items` into ranges of one size; the last may be shorter.

    Args:
        max_batches: No more ranges than this: they grow until it is enough. There may
            be fewer.

    Raises:
        ValueError: A size or a limit is not above 0.
    """
    if total_items <= 0:
        return []
    if batch_size <= 0:
        raise ValueError("batch_size must be > 0")
    if max_batches is not None:
        if max_batches <= 0:
            raise ValueError("max_batches must be > 0")
        batch_size = max(batch_size, ceil_div(total_items, max_batches))
    return [
        CursorConfig(
            start_cursor=start,
            end_cursor=min(start + batch_size, total_items),
            step_size=step_size,
            batch_id=batch_id(index),
        )
        for index, start in enumerate(range(0, total_items, batch_size))
    ]


def equal_shares(total_items: int, worker_count: int) -> list[BatchWorkerConfig]:
    """Divide items 0 to `total_items` among workers, at most one share each.

    Raises:
        ValueError: `worker_count` is not above 0.
    """
    if worker_count <= 0:
        raise ValueError("worker_count must be > 0")
    if total_items <= 0:
        return []
    width = ceil_div(total_items, worker_count)
    return [
        BatchWorkerConfig(
            batch_id=batch_id(index),
            cursor_start=start,
            cursor_end=min(start + width, total_items),
            row_count=min(width, total_items - start),
            worker_index=index,
            total_workers=worker_count,
        )
        for index, start in enumerate(range(0, total_items, width))
    ]


def batch_id(index: int) -> str:
    """Number a batch: 0 is "001"."""
    return f"{index + 1:03d}"


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide and round up, exactly, however large the numbers are."""
    return -(-numerator // denominator)


def _width(start: Any, end: Any) -> int | None:
    if type(start) is int and type(end) is int:
        return max(0, end - start)
    return None
