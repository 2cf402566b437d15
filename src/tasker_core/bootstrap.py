"""Names that `tasker_core.worker` defines, under the path they were published with."""

from tasker_core.worker.worker import (
    bootstrap_worker,
    get_worker_status,
    is_worker_running,
    stop_worker,
)

__all__ = ["bootstrap_worker", "get_worker_status", "is_worker_running", "stop_worker"]
