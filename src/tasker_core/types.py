"""Names that other modules define, under the path they were published with.

Those of the client and of the worker are imported when they are first used: handler
modules need neither an HTTP library nor a database driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tasker_core.handlers.batch import (
    BatchAggregationResult,
    BatchAnalyzerOutcome,
    BatchMetadata,
    BatchProcessingOutcome,
    BatchWorkerContext,
    BatchWorkerInputs,
    BatchWorkerOutcome,
    CreateBatchesOutcome,
    CursorConfig,
    FailureStrategy,
    NoBatchesOutcome,
    aggregate_batch_results,
    create_batches,
    no_batches,
)
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.decision import DecisionPointOutcome, DecisionType
from tasker_core.handlers.event import FfiStepEvent, StepEvent
from tasker_core.handlers.events.types import (
    DomainEventMetadata,
    ExecutionResult,
    InProcessDomainEvent,
)
from tasker_core.handlers.execution import ResultStatus, StepError, StepExecutionResult
from tasker_core.handlers.logs import LogContext
from tasker_core.handlers.result import ErrorType, StepHandlerResult

if TYPE_CHECKING:
    from tasker_core.client import HealthResponse as ClientHealthResponse
    from tasker_core.client import PaginationInfo as ClientPaginationInfo
    from tasker_core.client import StepAuditResponse as ClientStepAuditResponse
    from tasker_core.client import StepResponse as ClientStepResponse
    from tasker_core.client import TaskListResponse as ClientTaskListResponse
    from tasker_core.client import TaskResponse as ClientTaskResponse
    from tasker_core.worker.worker import WorkerStatus

RustCursorConfig = CursorConfig
RustBatchWorkerInputs = BatchWorkerInputs

__all__ = [
    "BatchAggregationResult",
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchProcessingOutcome",
    "BatchWorkerContext",
    "BatchWorkerInputs",
    "BatchWorkerOutcome",
    "ClientHealthResponse",
    "ClientPaginationInfo",
    "ClientStepAuditResponse",
    "ClientStepResponse",
    "ClientTaskListResponse",
    "ClientTaskResponse",
    "CreateBatchesOutcome",
    "CursorConfig",
    "DecisionPointOutcome",
    "DecisionType",
    "DomainEventMetadata",
    "ErrorType",
    "ExecutionResult",
    "FailureStrategy",
    "FfiStepEvent",
    "InProcessDomainEvent",
    "LogContext",
    "NoBatchesOutcome",
    "ResultStatus",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "StepContext",
    "StepError",
    "StepEvent",
    "StepExecutionResult",
    "StepHandlerResult",
    "WorkerStatus",
    "aggregate_batch_results",
    "create_batches",
    "no_batches",
]


def __getattr__(name: str) -> Any:
    if name == "WorkerStatus":
        return import_module("tasker_core.worker.worker").WorkerStatus
    if name in __all__ and name.startswith("Client"):
        return getattr(import_module("tasker_core.client"), name.removeprefix("Client"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
