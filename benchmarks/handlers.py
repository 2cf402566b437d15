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


class Carry(StepHandler):
    """Gives a payload on: the first of a chain the context's, each other its parent's result."""

    handler_name = "carry"

    def call(self, context: StepContext) -> StepHandlerResult:
        number = int(context.step_name.removeprefix("step_"))
        if number > 1:
            return self.success(context.get_dependency_result(f"step_{number - 1}"))
        return self.success({"data": context.get_input("data")})


class ReadContext(StepHandler):
    """Reads the context, says little."""

    handler_name = "read_context"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"size": len(context.get_input("data"))})
