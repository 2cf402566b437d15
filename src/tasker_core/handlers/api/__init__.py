"""Handlers that call HTTP APIs.

A handler's verbs (`mixin`) send over connections that all handlers share
(`connections`) and give an `ApiResponse` (`response`), whose status says whether
trying again may help (`status`).
"""

from tasker_core.handlers.api.mixin import ApiHandler, APIMixin
from tasker_core.handlers.api.response import ApiResponse

__all__ = ["APIMixin", "ApiHandler", "ApiResponse"]
