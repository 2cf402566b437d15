"""The class that handlers extend.

A template names a handler, a worker finds its class, makes one instance for each
attempt and calls it with the attempt's context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from typing import Any, TypeAlias

from tasker_core.handlers.context import StepContext
from tasker_core.handlers.result import ErrorType, StepHandlerResult

StepHandlerCallResult: TypeAlias = StepHandlerResult | Awaitable[StepHandlerResult]


class StepHandler(ABC):
    """The work of one step.

    A worker makes a new instance for each attempt, so attributes set in one attempt
    are never seen by another. `__init__` takes no arguments, or one named `config`,
    which receives the step's `handler.initialization`. Other public methods that take
    a context can be named by `handler.method` in the template.

    >>> class Greet(StepHandler):
    ...     handler_name = "greet"
    ...     def call(self, context: StepContext) -> StepHandlerResult:
    ...         return self.success({"greeting": f"Hello, {context.get_input('name')}"})
    >>> Greet().call(StepContext.for_testing(input_data={"name": "Ada"})).result
    {'greeting': 'Hello, Ada'}
    """

    handler_name: str = ""  # what templates call it; empty: only by its dotted path
    handler_version: str = "1.0.0"  # recorded with each attempt

    @abstractmethod
    def call(self, context: StepContext) -> StepHandlerCallResult:
        """Do the step's work; may be `async def`.

        What may be returned and raised, and what becomes of it, is said by
        `result_from_return` and `result_from_exception`.
        """

    @property
    def name(self) -> str:
        """The handler's name, or its class's if it has none."""
        return self.handler_name or type(self).__name__

    @property
    def version(self) -> str:
        """The handler's version."""
        return self.handler_version

    @property
    def capabilities(self) -> list[str]:
        """What the handler can do: `process`, and what the mixins among its bases add."""
        return [
            "process",
            *getattr(self, "api_capabilities", ()),
            *getattr(self, "decision_capabilities", ()),
        ]

    def config_schema(self) -> dict[str, Any] | None:
        """A JSON Schema for `handler.initialization`, or None if anything goes."""
        return None

    def success(
        self,
        result: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Say that the step is done, as `StepHandlerResult.success` does."""
        return StepHandlerResult.success(result, metadata)

    def failure(
        self,
        message: str,
        error_type: str | ErrorType = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: Mapping[str, Any] | None = None,
        error_code: str | None = None,
    ) -> StepHandlerResult:
        """Say that the attempt failed, as `StepHandlerResult.failure` does."""
        return StepHandlerResult.failure(message, error_type, retryable, metadata, error_code)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, version={self.version!r})"
