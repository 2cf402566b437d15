"""Log lines that say which step they belong to.

They go to the standard library's logger `tasker_core`, each field an attribute of the
record. Inside a handler the step's ids are added by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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


def _log(level: int, message: str, fields: Mapping[str, Any] | LogContext | None) -> None:
    if not _logger.isEnabledFor(level):
        return
    if isinstance(fields, LogContext):
        fields = fields.model_dump(exclude_none=True)
    known = {**_step_fields(), **(fields or {})}
    extra = {(f"{k}_" if k in _TAKEN else k): str(value) for k, value in known.items()}
    _logger.log(level, "%s", message, extra=extra, stacklevel=3)  # the caller's line


def _step_fields() -> dict[str, Any]:
    facts: dict[str, Any] = {"operation": "python_handler"}
    step = current_step()
    if step is not None:
        facts.update(
            correlation_id=step.correlation_id,
            task_uuid=step.task_uuid,
            step_uuid=step.step_uuid,
            step_name=step.step_name,
            namespace=step.namespace,
        )
    return facts


logging.addLevelName(TRACE, "TRACE")
