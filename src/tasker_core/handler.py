"""Names that `tasker_core.handlers` defines, under the path they were published with."""

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.registry import HandlerRegistry

__all__ = ["HandlerRegistry", "StepHandler"]
