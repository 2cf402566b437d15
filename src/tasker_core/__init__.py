"""Tasker: durable workflows in Python and PostgreSQL.

These are the names that an application needs. Each is imported when it is first
used, so that `import tasker_core` is quick, and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker_core.errors import (
        AuthenticationError,
        AuthorizationError,
        BusinessLogicError,
        ConfigurationError,
        NetworkError,
        NotFoundError,
        PermanentError,
        RateLimitError,
        ResourceContentionError,
        RetryableError,
        ServiceUnavailableError,
        StepExecutionError,
        TaskerError,
        WorkerAlreadyRunningError,
        WorkerBootstrapError,
        WorkerNotInitializedError,
    )
    from tasker_core.errors import TimeoutError as StepTimeoutError
    from tasker_core.errors import ValidationError as StepValidationError
    from tasker_core.handlers.base import StepHandler
    from tasker_core.handlers.context import StepContext
    from tasker_core.handlers.event import FfiStepEvent, StepEvent
    from tasker_core.handlers.functional import depends_on, inputs, step_handler
    from tasker_core.handlers.registry import HandlerRegistry
    from tasker_core.handlers.result import ErrorType, StepHandlerResult
    from tasker_core.worker.worker import (
        Worker,
        bootstrap_worker,
        get_worker_status,
        is_worker_running,
        stop_worker,
    )

    __version__: str

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BusinessLogicError",
    "ConfigurationError",
    "ErrorType",
    "FfiStepEvent",
    "HandlerRegistry",
    "NetworkError",
    "NotFoundError",
    "PermanentError",
    "RateLimitError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "StepContext",
    "StepEvent",
    "StepExecutionError",
    "StepHandler",
    "StepHandlerResult",
    "StepTimeoutError",
    "StepValidationError",
    "TaskerError",
    "Worker",
    "WorkerAlreadyRunningError",
    "WorkerBootstrapError",
    "WorkerNotInitializedError",
    "__version__",
    "bootstrap_worker",
    "depends_on",
    "get_version",
    "get_worker_status",
    "inputs",
    "is_worker_running",
    "step_handler",
    "stop_worker",
    "version",
]

# Where a name comes from, if not from errors under the same name.
_HOMES = {
    "ErrorType": "tasker_core.handlers.result",
    "FfiStepEvent": "tasker_core.handlers.event",
    "HandlerRegistry": "tasker_core.handlers.registry",
    "StepContext": "tasker_core.handlers.context",
    "StepEvent": "tasker_core.handlers.event",
    "StepHandler": "tasker_core.handlers.base",
    "StepHandlerResult": "tasker_core.handlers.result",
    "Worker": "tasker_core.worker.worker",
    "bootstrap_worker": "tasker_core.worker.worker",
    "depends_on": "tasker_core.handlers.functional",
    "get_worker_status": "tasker_core.worker.worker",
    "inputs": "tasker_core.handlers.functional",
    "is_worker_running": "tasker_core.worker.worker",
    "stop_worker": "tasker_core.worker.worker",
}
_RENAMED = {"StepTimeoutError": "TimeoutError", "StepValidationError": "ValidationError"}


def version() -> str:
    """Give the installed version of tasker-py."""
    from importlib.metadata import version as installed_version

    return installed_version("tasker-py")


def get_version() -> str:
    """Give the installed version of tasker-py."""
    return version()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = version()
    elif name == "step_handler":
        # The decorator has the name of a package, which importing it puts here.
        # The package can be called like the decorator, so it is given every time.
        return import_module("tasker_core.step_handler")
    elif name in __all__:
        home = import_module(_HOMES.get(name, "tasker_core.errors"))
        value = getattr(home, _RENAMED.get(name, name))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
