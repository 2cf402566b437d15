"""What long-running commands log, to stderr: lines for people, JSON with --format json."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from tasker_core.cli.options import Format, Options
from tasker_core.cli.output import visible

LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def level_of(options: Options) -> int:
    """Give the level that -v asks for; without one, TASKER_LOG, else warnings and errors."""
    if options.verbose:
        return logging.INFO if options.verbose == 1 else logging.DEBUG
    return LEVELS.get(os.environ.get("TASKER_LOG", "").lower(), logging.WARNING)


def configure(options: Options) -> None:
    """Send the logs of the project and of its libraries to stderr."""
    import structlog

    level = level_of(options)
    last: structlog.typing.Processor = structlog.dev.ConsoleRenderer(
        colors=options.color and sys.stderr.isatty()
    )
    if options.format is Format.JSON:
        last = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_control,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # The commands tell themselves what could not be imported, without Tasker's own frames.
    logging.getLogger("tasker_core.handlers.registry").setLevel(max(level, logging.CRITICAL))


def _without_control(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Write control characters out, so that data makes no lines and commands no terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = visible(value, "\n" if key == "exception" else "")
    return event
