"""What long-running commands log, to stderr: lines for people, JSON with --format json
or TASKER_LOG_FORMAT=json."""

from __future__ import annotations

import logging
import os
import sys

from tasker_core.cli.options import Format, Options

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
    from tasker_core.observe.logs import configure as send_to

    level = level_of(options)
    wanted = os.environ.get("TASKER_LOG_FORMAT", "").lower()
    as_json = wanted == "json" if wanted else options.format is Format.JSON
    send_to(level, as_json=as_json, colors=options.color and sys.stderr.isatty())
    # The commands tell themselves what could not be imported, without Tasker's own frames.
    logging.getLogger("tasker_core.handlers.registry").setLevel(max(level, logging.CRITICAL))
