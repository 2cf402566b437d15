"""An attempt's end in one document, for tools that pass it on.

The worker does not use it; see `StepHandlerResult` for what a handler returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field


class ResultStatus(StrEnum):
    """How an attempt ended."""

    SUCCESS = "completed"
    FAILURE = "error"
    RETRYABLE_ERROR = "retryable_error"
    PERMANENT_ERROR = "permanent_error"


class StepError(BaseModel):
    """Why an attempt failed."""

    error_type: str  # a label, see ErrorType
    message: str
    stack_trace: str | None = None
    retryable: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)
    error_code: str | None = None


class StepExecutionResult(BaseModel):
    """How one attempt of one step ended."""

    step_uuid: UUID
    task_uuid: UUID
    success: bool
    status: str  # a ResultStatus
    execution_time_ms: int
    result: dict[str, Any] | None = None
    error: StepError | None = None
    worker_id: str | None = None
    correlation_id: UUID | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    error_code: str | None = None
    handler_version: str | None = None
    retry_after_seconds: float | None = None

    @classmethod
    def success_result(
        cls,
        step_uuid: UUID,
        task_uuid: UUID,
        result: Mapping[str, Any],
        execution_time_ms: int,
        worker_id: str | None,
        correlation_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make the document of an attempt that did its work."""
        return cls(
            step_uuid=step_uuid,
            task_uuid=task_uuid,
            success=True,
            status=ResultStatus.SUCCESS.value,
            result=dict(result),
            execution_time_ms=execution_time_ms,
            worker_id=worker_id,
            correlation_id=correlation_id,
            metadata=dict(metadata or {}),
        )

    @classmethod
    def failure_result(
        cls,
        step_uuid: UUID,
        task_uuid: UUID,
        error: StepError,
        execution_time_ms: int,
        worker_id: str | None,
        correlation_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make the document of an attempt that failed; the status says whether it may pass."""
        status = ResultStatus.RETRYABLE_ERROR if error.retryable else ResultStatus.PERMANENT_ERROR
        return cls(
            step_uuid=step_uuid,
            task_uuid=task_uuid,
            success=False,
            status=status.value,
            error=error,
            error_code=error.error_code,
            execution_time_ms=execution_time_ms,
            worker_id=worker_id,
            correlation_id=correlation_id,
            metadata=dict(metadata or {}),
        )
