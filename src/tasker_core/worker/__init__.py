"""Worker processes: claim, run a handler, finish; keep leases; stop cleanly.

worker.py is what an application starts, loop.py the work itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker_core.worker.loop import AsyncWorker as AsyncWorker
    from tasker_core.worker.worker import Worker as Worker
    from tasker_core.worker.worker import WorkerStatus as WorkerStatus
    from tasker_core.worker.worker import bootstrap_worker as bootstrap_worker
    from tasker_core.worker.worker import get_worker_status as get_worker_status
    from tasker_core.worker.worker import is_worker_running as is_worker_running
    from tasker_core.worker.worker import stop_worker as stop_worker


def __getattr__(name: str) -> Any:
    # by its full name: "from … import" would ask this function for the module
    place = "loop" if name == "AsyncWorker" else "worker"
    try:
        return getattr(import_module(f"tasker_core.worker.{place}"), name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
