"""Names that `tasker_core.handlers` defines, under the path they were published with.

`tasker_core.step_handler` is this package and also a decorator, so the package can
be called.
"""

import sys
from types import ModuleType

from tasker_core.handlers.api import ApiHandler, ApiResponse
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.decision import DecisionHandler
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
from tasker_core.step_handler import mixins

__all__ = [
    "ApiHandler",
    "ApiResponse",
    "BatchConfig",
    "Decision",
    "DecisionHandler",
    "FunctionalHandler",
    "HandlerDecorator",
    "StepHandler",
    "api_handler",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "mixins",
    "step_handler",
]


class _CallablePackage(ModuleType):
    def __call__(self, name: str, version: str = "1.0.0") -> HandlerDecorator:
        return step_handler(name, version)


sys.modules[__name__].__class__ = _CallablePackage
