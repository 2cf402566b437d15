"""Names that `tasker_core.handlers` defines, under the path they were published with."""

from tasker_core.handlers.functional import (
    FunctionalHandler,
    HandlerDecorator,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.handlers.functional_kinds import (
    BatchConfig,
    Decision,
    api_handler,
    batch_analyzer,
    batch_worker,
    decision_handler,
)

__all__ = [
    "BatchConfig",
    "Decision",
    "FunctionalHandler",
    "HandlerDecorator",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "step_handler",
]
