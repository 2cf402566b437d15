"""The handlers of `peer_tasker.py`."""

from __future__ import annotations

from workloads import work

from tasker_core import StepContext, StepHandler, StepHandlerResult


class AsyncStep(StepHandler):
    """Runs on the worker's loop."""

    handler_name = "async_step"

    async def call(self, context: StepContext) -> StepHandlerResult:
        return self.success(work(context.get_input("number"), context.step_name))


class ThreadStep(StepHandler):
    """Runs in a thread."""

    handler_name = "threads_step"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success(work(context.get_input("number"), context.step_name))
