"""Names that `tasker_core.handlers.base` defines, under the path they were published with."""

from tasker_core.handlers.base import StepHandler, StepHandlerCallResult

__all__ = ["StepHandler", "StepHandlerCallResult"]
