"""Names that `tasker_core.errors` defines, under the path they were published with."""

from tasker_core.errors import (
    SerializationError,
    TaskerError,
    WorkerAlreadyRunningError,
    WorkerBootstrapError,
    WorkerNotInitializedError,
)

__all__ = [
    "SerializationError",
    "TaskerError",
    "WorkerAlreadyRunningError",
    "WorkerBootstrapError",
    "WorkerNotInitializedError",
]
