"""Names that `tasker_core.handlers` defines, under the path they were published with."""

from tasker_core.handlers.api import APIMixin, ApiResponse
from tasker_core.handlers.batch import Batchable, BatchableMixin
from tasker_core.handlers.decision import DecisionMixin

__all__ = ["APIMixin", "ApiResponse", "Batchable", "BatchableMixin", "DecisionMixin"]
