"""Names that `tasker_core.handlers` defines, under the path they were published with."""

from tasker_core.handlers.context import StepContext
from tasker_core.handlers.event import FfiStepEvent, StepEvent
from tasker_core.handlers.result import ErrorType, StepHandlerResult

__all__ = ["ErrorType", "FfiStepEvent", "StepContext", "StepEvent", "StepHandlerResult"]
