"""Names that `tasker_core.handlers.decision` defines, under the path they were published with."""

from tasker_core.handlers.decision import DecisionHandler

__all__ = ["DecisionHandler"]
