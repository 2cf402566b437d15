"""What a batch worker is given, and how it gives up its slot half-way."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from tasker_core.handlers.batch.cursors import CursorConfig
from tasker_core.handlers.result import StepHandlerResult

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext

log = logging.getLogger(__name__)


class FailureStrategy(StrEnum):
    """What a worker's permanent failure means for its siblings.

    `FailureStrategy("ContinueOnFailure")` is understood, too.
    """

    CONTINUE_ON_FAILURE = "continue_on_failure"  # they run on
    FAIL_FAST = "fail_fast"  # those that have not begun are cancelled
    ISOLATE = "isolate"  # they run on, and the range is noted for another run

    @classmethod
    def _missing_(cls, value: object) -> FailureStrategy | None:
        if not isinstance(value, str):
            return None
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", value).lower()
        return next((member for member in cls if member.value == words), None)


class BatchMetadata(BaseModel):
    """What the template's `batch_config` says to the worker."""

    cursor_field: str = "id"  # what the cursors count
    failure_strategy: FailureStrategy = FailureStrategy.CONTINUE_ON_FAILURE


class BatchWorkerInputs(BaseModel):
    """What the engine puts into a batch worker's `step_inputs`."""

    cursor: CursorConfig
    batch_metadata: BatchMetadata = Field(default_factory=BatchMetadata)
    is_no_op: bool = False  # the placeholder of an analyzer that found nothing to do
    batch_index: int = 0  # from 0
    total_batches: int = 1

    @classmethod
    def of(cls, context: StepContext) -> BatchWorkerInputs | None:
        """Read them from a context; None if it has none, or not of this shape (see the log)."""
        found = context.step_inputs
        if not isinstance(found, Mapping) or "cursor" not in found:
            return None
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            log.warning("step %s: its inputs are no batch: %s", context.step_name, error)
            return None


class BatchWorkerContext(BaseModel):
    """One worker's range, and what an earlier run of it has left.

    Read it with `from_step_context`; None for a step that is no batch worker.
    """

    batch_id: str
    cursor_config: CursorConfig
    batch_index: int = 0  # from 0
    total_batches: int = 1
    batch_metadata: dict[str, Any] = Field(default_factory=dict)
    checkpoint: dict[str, Any] = Field(default_factory=dict)
    is_no_op: bool = False

    @classmethod
    def from_step_context(cls, context: StepContext) -> BatchWorkerContext | None:
        """Read it from a step's inputs, else from `batch_context` in its config or the task's."""
        inputs = context.step_inputs
        if isinstance(inputs, Mapping) and isinstance(inputs.get("cursor"), Mapping):
            cursor = dict(inputs["cursor"])
            cursor.setdefault("step_size", cursor.get("batch_size") or 1)
            return cls._read({**inputs, "cursor_config": cursor}, context)
        for place in (context.step_config, context.input_data):
            given = place.get("batch_context") if isinstance(place, Mapping) else None
            if isinstance(given, Mapping):
                return cls._read(given, context)
        return None

    @classmethod
    def _read(cls, given: Mapping[str, Any], context: StepContext) -> BatchWorkerContext | None:
        cursor = given.get("cursor_config") or given.get("cursor") or given
        cursor = {key: value for key, value in dict(cursor).items() if value is not None}
        checkpoint = context.checkpoint
        try:
            config = CursorConfig.model_validate(
                {"start_cursor": None, "end_cursor": None, **cursor}
            )
            return cls(
                batch_id=str(given.get("batch_id") or config.batch_id),
                cursor_config=config,
                batch_index=given.get("batch_index") or 0,
                total_batches=given.get("total_batches") or 1,
                batch_metadata=dict(given.get("batch_metadata") or {}),
                checkpoint=dict(checkpoint) if isinstance(checkpoint, Mapping) else {},
                is_no_op=given.get("is_no_op") is True,
            )
        except (ValidationError, TypeError, ValueError) as error:
            log.warning("step %s: its inputs are no batch: %s", context.step_name, error)
            return None

    @property
    def cursor(self) -> CursorConfig:
        """The range."""
        return self.cursor_config

    @property
    def start_cursor(self) -> Any:
        """Where the range begins; included."""
        return self.cursor_config.start_cursor

    @property
    def end_cursor(self) -> Any:
        """Where the range ends; not included."""
        return self.cursor_config.end_cursor

    @property
    def step_size(self) -> int:
        """By how much the cursor moves at a time."""
        return self.cursor_config.step_size

    @property
    def batch_size(self) -> int:
        """How many items the range has; 0 if its cursors are not whole numbers."""
        return self.cursor_config.batch_size

    @property
    def resume_cursor(self) -> Any:
        """Where to go on: the checkpoint's cursor if there is one, else the start."""
        return self.checkpoint_cursor if self.has_checkpoint() else self.start_cursor

    @property
    def checkpoint_cursor(self) -> Any:
        """Where the earlier run stopped. May be 0: ask `has_checkpoint()` whether there is one."""
        return self.checkpoint.get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """How many items earlier runs have done."""
        return self.checkpoint.get("items_processed") or 0

    @property
    def accumulated_results(self) -> dict[str, Any] | None:
        """What earlier runs have gathered; None if nothing."""
        return self.checkpoint.get("accumulated_results")

    def has_checkpoint(self) -> bool:
        """Say whether an earlier run left a cursor."""
        return self.checkpoint_cursor is not None

    def checkpoint_yield(
        self,
        cursor: Any,
        items_processed: int,
        accumulated_results: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Give up the slot half-way, as the function of that name says; return what it gives."""
        return checkpoint_yield(cursor, items_processed, accumulated_results)


def checkpoint_yield(
    cursor: Any, items_processed: int, accumulated_results: dict[str, Any] | None = None
) -> StepHandlerResult:
    """Store how far a worker has come, and run it again from there.

    It has to be returned: the call alone does nothing. The step stays in progress and
    no attempt is used up; a retry, too, begins at the last checkpoint.

    Args:
        cursor: Where to go on; any JSON value.
        items_processed: In all runs of this step together.
        accumulated_results: What to carry along; it is stored each time, so keep it small.
    """
    result: dict[str, Any] = {
        "type": "checkpoint_yield",
        "cursor": cursor,
        "items_processed": items_processed,
    }
    if accumulated_results is not None:
        result["accumulated_results"] = accumulated_results
    return StepHandlerResult.success(result, {"checkpoint_yield": True, "batch_worker": True})
