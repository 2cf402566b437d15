"""What an analyzer and its workers have to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from tasker_core.handlers.batch.cursors import (
    BatchWorkerConfig,
    CursorConfig,
    batch_id,
    cursor_config,
)


class BatchAnalyzerOutcome(BaseModel):
    """How the work is divided; no ranges means that there is nothing to do."""

    cursor_configs: list[CursorConfig] = Field(default_factory=list)
    total_items: int | None = None
    batch_metadata: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def from_ranges(
        cls,
        ranges: Sequence[tuple[Any, Any]],
        step_size: int = 1,
        total_items: int | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> BatchAnalyzerOutcome:
        """Take ranges of your own: `[(start, end), …]`, end not included."""
        return cls(
            cursor_configs=[
                CursorConfig(start_cursor=start, end_cursor=end, step_size=step_size)
                for start, end in ranges
            ],
            total_items=total_items,
            batch_metadata=dict(batch_metadata or {}),
        )


class BatchWorkerOutcome(BaseModel):
    """What became of the items of one range."""

    items_processed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    items_skipped: int = 0
    results: list[Any] = Field(default_factory=list)
    errors: list[Any] = Field(default_factory=list)
    last_cursor: Any = None  # the last item that was done
    batch_metadata: dict[str, Any] = Field(default_factory=dict)

    def as_result(self) -> dict[str, Any]:
        """Give the step's result; `results` and `errors` only if there are any."""
        result: dict[str, Any] = {
            "items_processed": self.items_processed,
            "items_succeeded": self.items_succeeded,
            "items_failed": self.items_failed,
            "items_skipped": self.items_skipped,
            "last_cursor": self.last_cursor,
            "batch_metadata": self.batch_metadata,
        }
        if self.results:
            result["results"] = self.results
        if self.errors:
            result["errors"] = self.errors
        return result


class NoBatchesOutcome(BaseModel):
    """Nothing to do, as the engine reads it."""

    type: Literal["no_batches"] = "no_batches"


class CreateBatchesOutcome(BaseModel):
    """Workers to create, as the engine reads it.

    `cursor_configs` is `[{"batch_id": str, "start_cursor": …, "end_cursor": …,
    "batch_size": int ≥ 0}]`, one for each worker.
    """

    type: Literal["create_batches"] = "create_batches"
    worker_template_name: str | None  # None: what the analyzer's template says
    worker_count: int
    cursor_configs: list[dict[str, Any]]
    total_items: int


BatchProcessingOutcome: TypeAlias = NoBatchesOutcome | CreateBatchesOutcome


def no_batches() -> NoBatchesOutcome:
    """Say that there is nothing to do."""
    return NoBatchesOutcome()


def create_batches(
    worker_template_name: str | None,
    worker_count: int,
    cursor_configs: Sequence[CursorConfig | BatchWorkerConfig | Mapping[str, Any]],
    total_items: int,
) -> CreateBatchesOutcome:
    """Say which workers to create.

    Args:
        worker_template_name: The template's step of type `batch_worker`.
        cursor_configs: A range for each; numbered from "001", unless each has its own id.

    Raises:
        ValueError: There are not as many ranges as workers.
    """
    if len(cursor_configs) != worker_count:
        raise ValueError(
            f"cursor_configs length ({len(cursor_configs)}) must equal worker_count "
            f"({worker_count})"
        )
    return CreateBatchesOutcome(
        worker_template_name=worker_template_name,
        worker_count=worker_count,
        cursor_configs=_numbered([cursor_config(value) for value in cursor_configs]),
        total_items=total_items,
    )


def _numbered(configs: Sequence[CursorConfig]) -> list[dict[str, Any]]:
    ids = {config.batch_id for config in configs}
    if len(ids) == len(configs) and "" not in ids:
        return [config.wire("") for config in configs]
    return [
        {**config.wire(""), "batch_id": batch_id(index)} for index, config in enumerate(configs)
    ]
