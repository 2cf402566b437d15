"""Handlers as functions.

>>> from tasker_core.handlers.context import StepContext
>>> @step_handler("charge_card")
... @depends_on(cart="validate_cart")
... @inputs("customer_email")
... def charge(cart, customer_email):
...     return {"charged": cart["total"], "receipt_to": customer_email}
>>> context = StepContext.for_testing(
...     input_data={"customer_email": "ada@example.com"},
...     dependency_results={"validate_cart": {"total": 64.79}},
... )
>>> charge.handler_class().call(context).result
{'charged': 64.79, 'receipt_to': 'ada@example.com'}

The decorators may stand in any order. The function itself stays what it was: tests
call it like any other. Behind it stands a `StepHandler` class, which reads the
function's arguments from the context and its outcome by the same rule as for every
other handler.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

from tasker_core.errors import ConfigurationError
from tasker_core.handlers.base import StepHandler, StepHandlerCallResult
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.injection import Injection, Needs
from tasker_core.handlers.result import (
    StepHandlerResult,
    result_from_exception,
    result_from_return,
)

log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_NEEDS = "_tasker_needs"
_CLASSES = "_tasker_handler_classes"


class HandlerDecorator(Protocol):
    """A decorator that gives the function back, type and all."""

    def __call__(self, function: _Function, /) -> _Function: ...


@runtime_checkable
class FunctionalHandler(Protocol):
    """A function that `step_handler` has decorated."""

    handler_class: type[StepHandler]
    _handler_class: type[StepHandler]

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def step_handler(name: str, version: str = "1.0.0") -> HandlerDecorator:
    """Make a function, sync or async, the handler of that name.

    A parameter `context` receives the `StepContext`. What the function may return and
    raise is said by `result_from_return` and `result_from_exception`.

    Args:
        name: What templates call it in `handler.callable`.
        version: Recorded with each attempt.

    Raises:
        TypeError: Something is declared that no parameter takes.
    """
    return function_decorator("step_handler", name, version)


def function_decorator(
    called: str,
    name: str,
    version: str,
    kind: type[FunctionMixin] | None = None,
    **attributes: Any,
) -> HandlerDecorator:
    """Make the decorator of one kind of function: what all of them have in common.

    Args:
        called: The decorator's own name, for messages.
        kind: Put before the bases of the handler class.
        attributes: Of the handler class.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f'write @{called}("a name"), not @{called}({name!r})')

    def decorate(function: _Function) -> _Function:
        handler_class = _handler_class(function, name, version, kind, attributes)
        function.__dict__.setdefault(_CLASSES, []).append(handler_class)
        _note_needs(function, _needs(function))
        function.__dict__["handler_class"] = handler_class
        function.__dict__["_handler_class"] = handler_class
        declared.add(handler_class)
        return function

    return decorate


def depends_on(**dependencies: str | type | tuple[str, type]) -> HandlerDecorator:
    """Give a function the results of earlier steps, one parameter each.

    Args:
        dependencies: Parameter → the step's name; or a pydantic model or dataclass to
            make of its result, when step and parameter have the same name; or both,
            `(step name, model)`. A step without a result gives None.

    Raises:
        TypeError: A value is none of these, or no parameter takes it.
    """

    def decorate(function: _Function) -> _Function:
        needs = _needs(function)
        for parameter, source in dependencies.items():
            needs.add_dependency(parameter, source)
        _note_needs(function, needs)
        return function

    return decorate


def inputs(*keys_or_model: str | type) -> HandlerDecorator:
    """Give a function fields of the task's context.

    Args:
        keys_or_model: Names of fields, one parameter each, None if missing; or one
            pydantic model or dataclass, made of the fields that it has and given to
            the parameter `inputs`.

    Raises:
        TypeError: Names and a model are mixed, or no parameter takes a value.
    """

    def decorate(function: _Function) -> _Function:
        needs = _needs(function)
        needs.add_inputs(keys_or_model)
        _note_needs(function, needs)
        return function

    return decorate


class FunctionMixin:
    """What kinds of decorated functions may do in ways of their own."""

    extra_parameter: ClassVar[str | None] = None  # given to the function besides its needs

    def _extra_argument(self, context: StepContext) -> Any:
        """Give the value of the extra parameter."""

    def _answer(self, context: StepContext) -> StepHandlerResult | None:
        """Answer without calling the function; None to call it."""
        return None

    def _read(self, value: Any) -> StepHandlerResult:
        """Read what the function returned."""
        return result_from_return(value)


class FunctionHandler(FunctionMixin, StepHandler):
    """The class behind a decorated function; errors come back as failed results."""

    function: ClassVar[Callable[..., Any]]
    injection: ClassVar[Injection]

    def call(self, context: StepContext) -> StepHandlerCallResult:
        """Call the function; if it gives an awaitable, so does this."""
        try:
            answer = self._answer(context)
            if answer is not None:
                return answer
            value = self.function(**self._arguments(context))
            if hasattr(value, "__await__"):
                return self._outcome(value)
            return self._read(value)
        except Exception as exc:
            return result_from_exception(exc)

    def _arguments(self, context: StepContext) -> dict[str, Any]:
        injection = self.injection
        if injection.unmet:
            raise ConfigurationError(injection.unmet_message())
        arguments = injection.arguments(context)
        if injection.extra is not None:
            arguments[injection.extra] = self._extra_argument(context)
        return arguments

    async def _outcome(self, value: Awaitable[Any]) -> StepHandlerResult:
        try:
            return self._read(await value)
        except Exception as exc:
            return result_from_exception(exc)


class AsyncFunctionHandler(FunctionHandler):
    """The class behind a decorated `async def`."""

    async def call(self, context: StepContext) -> StepHandlerResult:
        """Call the function and wait for it."""
        try:
            answer = self._answer(context)
            if answer is not None:
                return answer
            return self._read(await self.function(**self._arguments(context)))
        except Exception as exc:
            return result_from_exception(exc)


class DeclarationTable:
    """Every decorated function of this process, by the name that it was given.

    A handler is known from the moment its module is imported, however that came about.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[FunctionHandler]] = {}
        self.changes = 0

    def add(self, handler_class: type[FunctionHandler]) -> None:
        """Note a handler; of two with one name the later one counts, and the log says so."""
        name = handler_class.handler_name
        before = self._classes.get(name)
        if before is not None and _place(before) != _place(handler_class):
            log.warning(
                "handler %r is declared by %s and again by %s; the later one counts",
                name,
                _place(before),
                _place(handler_class),
            )
        self._classes[name] = handler_class
        self.changes += 1

    def get(self, name: str) -> type[FunctionHandler] | None:
        """Give the handler of that name; None if there is none."""
        return self._classes.get(name)

    def all(self) -> dict[str, type[FunctionHandler]]:
        """Give every handler by name; a copy."""
        return dict(self._classes)


declared = DeclarationTable()


def _handler_class(
    function: Callable[..., Any],
    name: str,
    version: str,
    kind: type[FunctionMixin] | None,
    attributes: dict[str, Any],
) -> type[FunctionHandler]:
    is_async = inspect.iscoroutinefunction(function)
    base: type[FunctionHandler] = AsyncFunctionHandler if is_async else FunctionHandler
    made = type(
        getattr(function, "__name__", name),
        (base,) if kind is None else (kind, base),
        {
            **attributes,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": getattr(function, "__qualname__", name),
            "handler_name": name,
            "handler_version": version,
            "function": staticmethod(function),
        },
    )
    return cast(type[FunctionHandler], made)


def _needs(function: Callable[..., Any]) -> Needs:
    # functools.wraps copies __dict__, so a wrapper shares the needs of what it wraps.
    needs: Needs = function.__dict__.setdefault(_NEEDS, Needs())
    return needs


def _note_needs(function: Callable[..., Any], needs: Needs) -> None:
    """Show the needs on the function, and hold them against its parameters if it is a handler."""
    function.__dict__.update(
        _depends_on=needs.dependencies,
        _dep_models=needs.models,
        _inputs=needs.inputs,
        _input_model=needs.input_model,
    )
    for handler_class in function.__dict__.get(_CLASSES, ()):
        handler_class.injection = Injection(
            handler_class.handler_name,
            handler_class.function,
            needs,
            handler_class.extra_parameter,
        )


def _place(handler_class: type) -> str:
    return f"{handler_class.__module__}.{handler_class.__qualname__}"
