"""Batches: an analyzer divides the work, workers do a range each, an aggregator adds up.

`cursors` are the ranges, `outcomes` what the three of them say, `worker` what a worker
is given, `aggregate` how their results are added up; `mixin` offers all of it to a
handler. Cursors are numbers from 0, start included and end not, or any JSON values of
your own.
"""

from tasker_core.handlers.batch.aggregate import (
    BatchAggregationResult,
    BatchAggregationScenario,
    aggregate_batch_results,
)
from tasker_core.handlers.batch.cursors import BatchWorkerConfig, CursorConfig
from tasker_core.handlers.batch.mixin import Batchable, BatchableMixin
from tasker_core.handlers.batch.outcomes import (
    BatchAnalyzerOutcome,
    BatchProcessingOutcome,
    BatchWorkerOutcome,
    CreateBatchesOutcome,
    NoBatchesOutcome,
    create_batches,
    no_batches,
)
from tasker_core.handlers.batch.worker import (
    BatchMetadata,
    BatchWorkerContext,
    BatchWorkerInputs,
    FailureStrategy,
    checkpoint_yield,
)

__all__ = [
    "BatchAggregationResult",
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchProcessingOutcome",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerInputs",
    "BatchWorkerOutcome",
    "Batchable",
    "BatchableMixin",
    "CreateBatchesOutcome",
    "CursorConfig",
    "FailureStrategy",
    "NoBatchesOutcome",
    "aggregate_batch_results",
    "checkpoint_yield",
    "create_batches",
    "no_batches",
]
