"""Log lines that say which step they belong to.

They go to the standard library's logger `tasker_core`, each field an attribute of the
record. Inside a handler the step's ids are added by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from pydantic import BaseModel

from tasker_core.handlers.current import current_step

TRACE = 5

_logger = logging.getLogger("tasker_core")
# A record has attributes of its own, which logging refuses to have replaced.
_TAKEN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class LogContext(BaseModel):
    """The fields that most log lines have; those that are None are left out."""

    correlation_id: str | None = None
    task_uuid: str | None = None
    step_uuid: str | None = None
    namespace: str | None = None
    operation: str | None = None


def log_error(message: str, fields: Mapping[str, Any] | LogContext | None = None) -> None:
    """Log that something failed.

    Args:
        fields: Attributes of the log record, as text. A name that records have already
            (`name`, `message`, …) gets an underscore at its end.
    """
    _log(logging.ERROR, message, fields)


def log_warn(message: str, fields: Mapping[str, Any] | LogContext | None = None) -> None:
    """Log that something may fail; `fields` as in `log_error`."""
    _log(logging.WARNING, message, fields)


def log_info(message: str, fields: Mapping[str, Any] | LogContext | None = None) -> None:
    """Log that something happened; `fields` as in `log_error`."""
    _log(logging.INFO, message, fields)


def log_debug(message: str, fields: Mapping[str, Any] | LogContext | None = None) -> None:
    """Log a detail; `fields` as in `log_error`."""
    _log(logging.DEBUG, message, fields)


def log_trace(message: str, fields: Mapping[str, Any] | LogContext | None = None) -> None:
    """Log the smallest detail, at level 5; `fields` as in `log_error`."""
    _log(TRACE, message, fields)


def add_step_fields(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the step to lines that a handler logs: a processor for structlog.

    `task_uuid`, `step_uuid`, `step_name`, `attempt`, `namespace` and `correlation_id`; what
    the line says itself stays.

    ::

        structlog.configure(processors=[add_step_fields, structlog.processors.JSONRenderer()])
    """
    for name, value in step_fields().items():
        event.setdefault(name, value)
    return event


class StepFields(logging.Filter):
    """Adds the same fields to records of `logging`: a filter for a handler of logging.

    >>> handler = logging.StreamHandler()
    >>> handler.addFilter(StepFields())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add them; every record passes."""
        for name, value in step_fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def step_fields() -> dict[str, Any]:
    """Give the ids of the step whose handler runs here; nothing outside of handlers."""
    step = current_step()
    if step is None:
        return {}
    return {
        "correlation_id": str(step.correlation_id),
        "task_uuid": str(step.task_uuid),
        "step_uuid": str(step.step_uuid),
        "step_name": step.step_name,
        "attempt": step.retry_count + 1,
        "namespace": step.namespace,
    }


def _log(level: int, message: str, fields: Mapping[str, Any] | LogContext | None) -> None:
    if not _logger.isEnabledFor(level):
        return
    if isinstance(fields, LogContext):
        fields = fields.model_dump(exclude_none=True)
    known = {"operation": "python_handler", **step_fields(), **(fields or {})}
    extra = {(f"{k}_" if k in _TAKEN else k): str(value) for k, value in known.items()}
    _logger.log(level, "%s", message, extra=extra, stacklevel=3)  # the caller's line


logging.addLevelName(TRACE, "TRACE")
