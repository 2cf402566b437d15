"""Names that `tasker_core.handlers.batch` defines, under the path they were published with."""

from tasker_core.handlers.batch import (
    Batchable,
    BatchableMixin,
    BatchAggregationScenario,
    BatchWorkerConfig,
)

__all__ = ["BatchAggregationScenario", "BatchWorkerConfig", "Batchable", "BatchableMixin"]
