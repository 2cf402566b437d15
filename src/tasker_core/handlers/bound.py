"""From what a name stands for to something a worker can run.

A name may stand for a class, for a factory or for an object that all attempts
share. `bind` checks it once, finds the method that the template asks for, and
gives the worker a `BoundHandler` that it can keep.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tasker_core.errors import ResolutionError
from tasker_core.handlers.context import StepContext


@dataclass
class HandlerDefinition:
    """What a template says about a step's handler."""

    callable: str  # a handler's name, or the dotted path of a class or decorated function
    handler_method: str | None = None  # None is `call`
    resolver: str | None = None  # ask this resolver alone
    initialization: dict[str, Any] = field(default_factory=dict)

    def effective_method(self) -> str:
        """Name the method that runs."""
        return self.handler_method or "call"

    def uses_method_dispatch(self) -> bool:
        """Say whether another method than `call` runs."""
        return self.effective_method() != "call"

    def has_resolver_hint(self) -> bool:
        """Say whether one resolver alone is to be asked."""
        return bool(self.resolver)

    @classmethod
    def from_callable(cls, callable_name: str) -> HandlerDefinition:
        """Make the definition that only names a handler."""
        return cls(callable=callable_name)

    @classmethod
    def from_dict(cls, data: dict[str, Any] | None) -> HandlerDefinition:
        """Read a template's `handler` block: `{"callable": str, "method": str, …}`."""
        data = data or {}
        return cls(
            callable=data.get("callable") or "",
            handler_method=data.get("method") or data.get("handler_method"),
            resolver=data.get("resolver"),
            initialization=dict(data.get("initialization") or {}),
        )


@dataclass(frozen=True, slots=True)
class BoundHandler:
    """A handler that this process can run, attempt after attempt.

    `run` makes the handler for one attempt and calls it; what it returns is for
    `result_from_return`, what it raises for `result_from_exception`. If `is_async`,
    call it on the event loop and await what it gives. If not, call it in a thread,
    and should it give an awaitable all the same, await that on the loop.
    """

    name: str
    version: str
    is_async: bool
    run: Callable[[StepContext], Any]
    depends_on: frozenset[str] = frozenset()  # steps whose results a function has declared


class MethodDispatchWrapper:
    """A handler whose `call` is another of its methods.

    `call` is the method itself, so it is a coroutine function if the method is one.
    Everything else is the handler's.

    Raises:
        AttributeError: The handler has no such public method.
    """

    def __init__(self, handler: Any, target_method: str) -> None:
        reason = why_not_callable(handler, target_method)
        if reason:
            raise AttributeError(f"{type(handler).__name__} {reason}")
        self.handler = handler
        self.target_method = target_method
        self.call: Callable[[StepContext], Any] = getattr(handler, target_method)

    def unwrap(self) -> Any:
        """Give the handler itself."""
        return self.handler

    def __getattr__(self, name: str) -> Any:
        if name == "handler":  # copy and pickle ask before __init__ has run
            raise AttributeError(name)
        return getattr(self.handler, name)

    def __repr__(self) -> str:
        return f"MethodDispatchWrapper({self.handler!r}, {self.target_method!r})"


def bind(entry: Any, definition: HandlerDefinition) -> BoundHandler:
    """Prepare what a definition stands for: a class, a factory, or a shared object.

    Raises:
        ResolutionError: It cannot be made without arguments, or has no such method.
    """
    entry = handler_class_of(entry)
    method = definition.effective_method()
    if isinstance(entry, type):
        return _bind_class(entry, method, definition)
    if is_factory(entry):
        sample = _sample(entry, definition)
        _check(type(sample), method, definition)
        return _bound(sample, method, definition, _from_factory(entry, method))
    _check(entry, method, definition)
    return _bound(entry, method, definition, getattr(entry, method))


def handler_class_of(entry: Any) -> Any:
    """Give the handler class of a decorated function; anything else as it is."""
    handler_class = getattr(entry, "_handler_class", None)
    return handler_class if isinstance(handler_class, type) else entry


def is_factory(entry: Any) -> bool:
    """Say whether an entry is called with the configuration to make a handler."""
    return callable(entry) and not hasattr(entry, "call")


def make(handler_class: type, config: Any) -> Any:
    """Make an instance, with `config` if the constructor has a parameter of that name."""
    return handler_class(config=config) if takes_config(handler_class) else handler_class()


def takes_config(handler_class: type) -> bool:
    """Say whether a constructor has a parameter named `config`."""
    parameter = _constructor(handler_class).parameters.get("config")
    return parameter is not None and parameter.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )


def why_not_callable(handler: Any, method: str) -> str | None:
    """Say why a method cannot be an entry point of a class or an object; None if it can."""
    if method.startswith("_"):
        return f"does not have method {method!r} for templates: it is private"
    if not callable(getattr(handler, method, None)):
        return f"does not have method {method!r}"
    return None


def _bind_class(handler_class: type, method: str, definition: HandlerDefinition) -> BoundHandler:
    _check(handler_class, method, definition)
    if inspect.isabstract(handler_class):
        raise ResolutionError(definition.callable, f"class {handler_class.__name__} is abstract")
    with_config = takes_config(handler_class)
    try:
        _constructor(handler_class).bind(**({"config": {}} if with_config else {}))
    except TypeError as error:
        raise ResolutionError(
            definition.callable,
            f"{handler_class.__name__}.__init__ must take no arguments, or only config: {error}",
        ) from None
    run = _from_class_with_config if with_config else _from_class
    return _bound(handler_class, method, definition, run(handler_class, method))


def _from_class(handler_class: type, method: str) -> Callable[[StepContext], Any]:
    return lambda context: getattr(handler_class(), method)(context)


def _from_class_with_config(handler_class: type, method: str) -> Callable[[StepContext], Any]:
    return lambda context: getattr(handler_class(config=context.step_config), method)(context)


def _from_factory(factory: Callable[[Any], Any], method: str) -> Callable[[StepContext], Any]:
    return lambda context: getattr(factory(context.step_config), method)(context)


def _bound(
    handler: Any, method: str, definition: HandlerDefinition, run: Callable[[StepContext], Any]
) -> BoundHandler:
    name = getattr(handler, "handler_name", None)
    version = getattr(handler, "handler_version", None)
    return BoundHandler(
        name=name if isinstance(name, str) and name else definition.callable,
        version=version if isinstance(version, str) else "",
        is_async=inspect.iscoroutinefunction(getattr(handler, method)),
        run=run,
        depends_on=_declared_steps(handler),
    )


def _declared_steps(handler: Any) -> frozenset[str]:
    declared = getattr(getattr(handler, "function", None), "_depends_on", None)
    return frozenset(declared.values()) if isinstance(declared, dict) else frozenset()


def _sample(factory: Callable[[Any], Any], definition: HandlerDefinition) -> Any:
    """Make one handler: a factory does not show otherwise what it makes."""
    try:
        return factory(definition.initialization)
    except Exception as exc:
        reason = f"its factory raised {type(exc).__name__}: {exc}"
        raise ResolutionError(definition.callable, reason) from exc


def _check(handler: Any, method: str, definition: HandlerDefinition) -> None:
    reason = why_not_callable(handler, method)
    if reason:
        shown = handler.__name__ if isinstance(handler, type) else type(handler).__name__
        raise ResolutionError(definition.callable, f"{shown} {reason}")


def _constructor(handler_class: type) -> inspect.Signature:
    try:
        return inspect.signature(handler_class)
    except ValueError:  # written in C, says nothing of itself
        return inspect.Signature()
