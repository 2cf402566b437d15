"""Names that `tasker_core.handlers.api` defines, under the path they were published with."""

from tasker_core.handlers.api import APIMixin, ApiResponse

__all__ = ["APIMixin", "ApiResponse"]
