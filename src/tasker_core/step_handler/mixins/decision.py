"""Names that `tasker_core.handlers.decision` defines, under the path they were published with."""

from tasker_core.handlers.decision import DecisionMixin

__all__ = ["DecisionMixin"]
