"""Names that `tasker_core.handlers.logs` defines, under the path they were published with."""

from tasker_core.handlers.logs import (
    LogContext,
    StepFields,
    add_step_fields,
    log_debug,
    log_error,
    log_info,
    log_trace,
    log_warn,
)

__all__ = [
    "LogContext",
    "StepFields",
    "add_step_fields",
    "log_debug",
    "log_error",
    "log_info",
    "log_trace",
    "log_warn",
]
