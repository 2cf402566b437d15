"""Handlers that do nothing, so that what is measured is the engine."""

from __future__ import annotations

from tasker_core import StepContext, StepHandler, StepHandlerResult


class NothingInThread(StepHandler):
    """A sync handler."""

    handler_name = "nothing_in_thread"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"ok": True})


class NothingOnLoop(StepHandler):
    """An async handler."""

    handler_name = "nothing_on_loop"

    async def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"ok": True})
