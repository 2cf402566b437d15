"""Names that `tasker_core.handlers.functional` defines, under the path they were published with."""

from tasker_core.handlers.functional import (
    FunctionalHandler,
    HandlerDecorator,
    depends_on,
    inputs,
    step_handler,
)

__all__ = ["FunctionalHandler", "HandlerDecorator", "depends_on", "inputs", "step_handler"]
