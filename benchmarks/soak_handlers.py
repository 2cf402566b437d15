"""The handlers of soak.py: a little of everything that a workflow may do."""

from __future__ import annotations

from tasker_core import BatchWorkerContext, PermanentError, RetryableError, StepContext
from tasker_core.step_handler.functional import (
    BatchConfig,
    Decision,
    batch_analyzer,
    batch_worker,
    decision_handler,
    step_handler,
)

FAILURES = 2  # of a step that then succeeds
BATCHES = 4


@step_handler("soak_thread")
def in_thread(context: StepContext) -> dict[str, bool]:
    """Do nothing, in a thread."""
    return {"ok": True}


@step_handler("soak_loop")
async def on_loop(context: StepContext) -> dict[str, bool]:
    """Do nothing, on the worker's loop."""
    return {"ok": True}


@step_handler("soak_flaky")
def flaky(context: StepContext) -> dict[str, int]:
    """Fail, then succeed."""
    if context.retry_count < FAILURES:
        raise RetryableError("not now")
    return {"failures": context.retry_count}


@step_handler("soak_hopeless")
def hopeless(context: StepContext) -> None:
    """Fail for good."""
    raise PermanentError("never")


@decision_handler("soak_decide")
def decide(context: StepContext) -> Decision:
    """Choose one of two branches by the context."""
    return Decision.route([f"branch_{context.get_input('number') % 2}"])


@batch_analyzer("soak_analyze", worker_template="work")
def analyze(context: StepContext) -> BatchConfig:
    """Cut the same number of batches each time."""
    return BatchConfig(total_items=10 * BATCHES, batch_size=10)


@batch_worker("soak_work")
def work(batch_context: BatchWorkerContext) -> dict[str, int]:
    """Do nothing for a range of items."""
    return {"items_processed": batch_context.batch_size}
