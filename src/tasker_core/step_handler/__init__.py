"""Names that `tasker_core.handlers` defines, under the path they were published with.

`tasker_core.step_handler` is this package and also a decorator, so the package can
be called.
"""

import sys
from types import ModuleType

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.functional import (
    FunctionalHandler,
    HandlerDecorator,
    depends_on,
    inputs,
    step_handler,
)

__all__ = [
    "FunctionalHandler",
    "HandlerDecorator",
    "StepHandler",
    "depends_on",
    "inputs",
    "step_handler",
]


class _CallablePackage(ModuleType):
    def __call__(self, name: str, version: str = "1.0.0") -> HandlerDecorator:
        return step_handler(name, version)


sys.modules[__name__].__class__ = _CallablePackage
