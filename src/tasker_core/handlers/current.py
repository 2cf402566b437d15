"""Which step this thread or asyncio task is working on.

The worker notes it around each attempt, so that log lines from deep inside the
handler's own code can say which step they belong to.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext

Entered: TypeAlias = "Token[StepContext | None]"

_current: ContextVar[StepContext | None] = ContextVar("tasker_current_step", default=None)


def enter_step(context: StepContext) -> Entered:
    """Note that an attempt begins here; hand what this gives to `leave_step`.

    An asyncio task that does nothing but this attempt need not leave it.
    """
    return _current.set(context)


def leave_step(entered: Entered) -> None:
    """Note that the attempt has ended; in the same thread or task that entered it."""
    _current.reset(entered)


def current_step() -> StepContext | None:
    """Give the context of the attempt that runs here; None outside of handlers."""
    return _current.get()
