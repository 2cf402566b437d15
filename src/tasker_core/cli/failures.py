"""Any error → one message, a hint what to do, and an exit code.

The exit codes are a contract; `docs/reference/cli.md` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from typing import Any, cast

import typer

from tasker_core.cli.options import FLAGS, WITH_VALUE

# What every usage error is; typer has it from click, or as its own copy of click.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1  # none of the others
    USAGE = 2  # the command line cannot be understood
    INVALID = 3  # something was checked, and has errors
    NOT_FOUND = 4
    FORBIDDEN = 5  # who are you, or you may not
    UNREACHABLE = 6  # server or database do not answer, or not in time
    TASK_FAILED = 7  # the task that was waited for ended badly
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """What to tell about an error."""

    exit_code: ExitCode
    code: str
    message: str
    hint: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give `{"code": str, "message": str, "details": {}, "hint": str | null}`."""
        return {
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        }


class WaitedTooLong(Exception):
    """A task had not ended when the time to wait was over."""

    def __init__(self, task_uuid: object, seconds: float, status: str) -> None:
        self.task_uuid, self.seconds, self.status = str(task_uuid), seconds, status
        super().__init__(f"task {task_uuid} is still {status} after {seconds:g} seconds")


class NoSuchStep(Exception):
    """A task has no step of this name."""

    def __init__(self, task_uuid: object, step: str, near: Sequence[str]) -> None:
        self.task_uuid, self.step, self.near = str(task_uuid), step, tuple(near)
        super().__init__(f"task {task_uuid} has no step {step!r}")


def describe(error: BaseException) -> Failure:
    """Say what to tell about any error that a command can raise."""
    if isinstance(error, UsageError):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Failure(ExitCode.INTERRUPTED, "interrupted", "interrupted")
    if isinstance(error, WaitedTooLong):
        hint = f"it goes on; look again with: tasker-ctl task watch {error.task_uuid}"
        facts = {"task_uuid": error.task_uuid, "status": error.status}
        return Failure(ExitCode.UNREACHABLE, "wait_timeout", str(error), hint, facts)
    if isinstance(error, NoSuchStep):
        hint = f"its steps are named: {', '.join(error.near)}"
        return Failure(ExitCode.NOT_FOUND, "unknown_step", str(error), hint)
    from tasker_core.errors import TaskerError

    if isinstance(error, TaskerError):
        return _of_client(error) if hasattr(error, "status_code") else _of_tasker(error)
    if isinstance(error, OSError):
        return Failure(ExitCode.FAILED, "system_error", str(error))
    return Failure(
        ExitCode.FAILED,
        "internal_error",
        f"unexpected {type(error).__name__}: {error}",
        "this is a fault of tasker-ctl; run it again with -vv to see where",
    )


# --- the families -------------------------------------------------------------------------


def _usage(error: Any) -> Failure:
    message = str(error.format_message())
    if hasattr(error, "option_name") and message.startswith("No such option"):
        message = _no_such_option(error)
    message = message.replace("Value error, ", "").replace("Input should be", "must be")
    command = error.ctx.command_path if error.ctx is not None else "tasker-ctl"
    return Failure(ExitCode.USAGE, "usage_error", message, f"see: {command} --help")


def _no_such_option(error: Any) -> str:
    own = error.ctx.command.params if error.ctx is not None else ()
    known = {name for option in own for name in option.opts} | FLAGS | WITH_VALUE
    close = get_close_matches(error.option_name, known, 1)
    return f"{error.message}; did you mean {close[0]}?" if close else str(error.message)


_START = (
    "start one with `tasker-ctl dev`, or `tasker-ctl server run`; "
    "or say where it is with --url or TASKER_URL"
)

_BY_STATUS: Mapping[int, tuple[ExitCode, str | None]] = {
    401: (ExitCode.FORBIDDEN, "set TASKER_API_KEY or TASKER_AUTH_TOKEN"),
    403: (ExitCode.FORBIDDEN, "grant it: tasker-ctl auth create-key, or in the token's claims"),
    404: (ExitCode.NOT_FOUND, None),
    408: (ExitCode.UNREACHABLE, "give it longer with --timeout SECONDS"),
    503: (ExitCode.UNREACHABLE, "the server is busy or has no database; try again"),
    504: (ExitCode.UNREACHABLE, "give it longer with --timeout SECONDS"),
}


def _of_client(error: Any) -> Failure:
    status: int | None = error.status_code
    details = dict(error.details)
    code = str(details.get("code") or error.code)
    if hasattr(error, "base_url"):
        message = f"no server answers at {error.base_url}: {error.reason}"
        return Failure(ExitCode.UNREACHABLE, code, message, _START, {"url": error.base_url})
    exit_code, hint = _BY_STATUS.get(status or 0, (ExitCode.FAILED, None))
    if error.server is not None:
        details["server"] = error.server
        asked = f"asked {error.server}; another server: --url or TASKER_URL"
        hint = f"{hint}; {asked}" if hint else asked
    return Failure(exit_code, code, _with_places(error), hint, {"status": status, **details})


def _with_places(error: Any) -> str:
    """Add the single things that are wrong, but for those that the message names itself."""
    message = str(error)
    places = [
        f"  {one.get('pointer') or '(whole)'}: {one.get('message')}"
        for one in error.errors
        if str(one.get("message")) not in message
    ]
    return "\n".join([message, *places])


_OF_TASKER: Mapping[str, tuple[ExitCode, str | None]] = {
    "invalid_template": (ExitCode.INVALID, None),
    "invalid_settings": (ExitCode.INVALID, None),
    "unknown_template": (ExitCode.NOT_FOUND, None),
    "unknown_task": (ExitCode.NOT_FOUND, None),
    "unknown_step": (ExitCode.NOT_FOUND, None),
    "database_unreachable": (ExitCode.UNREACHABLE, "is it running? check DATABASE_URL"),
    "embedded_database_error": (ExitCode.UNREACHABLE, None),
    "unknown_api_key": (ExitCode.NOT_FOUND, None),
    "unprotected_server": (ExitCode.INVALID, None),
    "address_unavailable": (ExitCode.FAILED, "or give --host and --port; 0 takes a free port"),
    "handler_load_error": (
        ExitCode.FAILED,
        "the current directory and PYTHONPATH are searched; give --handlers a dotted name",
    ),
}


def _of_tasker(error: Any) -> Failure:
    exit_code, hint = _OF_TASKER.get(error.code, (ExitCode.FAILED, None))
    parts = {
        name: getattr(error, name) for name in ("findings", "problems") if hasattr(error, name)
    }
    return Failure(exit_code, error.code, str(error), hint, parts)
