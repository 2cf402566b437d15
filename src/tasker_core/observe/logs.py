"""Log lines with the step and the request that they belong to, and without secrets.

Lines of structlog and of the standard library's logging come out alike, so that a handler's
own lines carry the ids of its step, whichever of the two it uses.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from tasker_core.handlers.logs import add_step_fields
from tasker_core.observe.visible import visible
from tasker_core.settings import safe_url

MASK = "***"

_SECRET = re.compile(
    r"passw(or)?d|secret|api_?key|authorization|credential|cookie|private_key|(^|_)token$", re.I
)
_URL_WITH_PASSWORD = re.compile(r"[A-Za-z][\w+.-]*://[^\s/@:]*:[^\s@]*@\S*")


def configure(
    level: int, *, as_json: bool, stream: TextIO | None = None, colors: bool = False
) -> None:
    """Send all logs of this process to a stream, from this level on.

    Args:
        level: Of the standard library's `logging`.
        as_json: One JSON object a line; else lines for people.
        stream: None: stderr.
        colors: For people at a terminal.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_step_fields,
        _add_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        mask,
        _without_control,
        renderer,
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = _Lines(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                *shared,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Lines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


class _Lines(logging.Handler):
    """Writes to a stream, or to whatever is stderr at that moment."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            print(self.format(record), file=self._given or sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def mask(_: Any, __: str, event: EventDict) -> EventDict:
    """Take secrets out: what is named like one, and passwords in addresses."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if value is not None and _SECRET.search(key):
        return MASK
    if isinstance(value, str):
        return _URL_WITH_PASSWORD.sub(lambda found: safe_url(found[0]), value)
    if isinstance(value, Mapping):
        return {name: _masked(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    return value


def _without_control(_: Any, __: str, event: EventDict) -> EventDict:
    """Write control characters out, so that data makes no lines and commands no terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = visible(value, "\n" if key == "exception" else "")
    return event


def _add_trace(_: Any, __: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, if somebody traces."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event.setdefault("trace_id", f"{span.trace_id:032x}")
            event.setdefault("span_id", f"{span.span_id:016x}")
    return event
