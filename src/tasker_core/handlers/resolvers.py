"""Who knows what a handler's name stands for: one kind of name, one resolver.

The order in which they are asked is the business of chain.py.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from dataclasses import replace
from threading import Lock
from typing import Any, ClassVar

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import (
    HandlerDefinition,
    handler_class_of,
    is_factory,
    make,
    why_not_callable,
)
from tasker_core.handlers.discovery import import_target
from tasker_core.handlers.functional import declared

log = logging.getLogger(__name__)


class BaseResolver(ABC):
    """Knows what some names stand for. Low priorities are asked first."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What templates call this resolver in `handler.resolver`."""

    @property
    @abstractmethod
    def priority(self) -> int:
        """When it is asked: explicit names have 10, dotted paths 100."""

    @abstractmethod
    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether this resolver may know the name."""

    @abstractmethod
    def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
        """Make a handler; None to decline."""

    def find(self, definition: HandlerDefinition) -> Any:
        """Give what the name stands for, for many attempts; None to decline.

        That is a handler class; or a function from the configuration to a handler,
        called once an attempt; or a handler that all attempts share. Unless a resolver
        says otherwise, `resolve` is called once an attempt.
        """
        if self.resolve(definition, definition.initialization) is None:
            return None
        return lambda config: self.resolve(replace(definition, initialization=config), config)

    def registered_callables(self) -> list[str]:
        """Name what this resolver knows, if it keeps a list."""
        return []


class EntryResolver(BaseResolver):
    """A resolver that knows what a name stands for before any handler is made."""

    def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
        """Make a handler; None if the name is unknown or the handler cannot be made."""
        try:
            entry = self.find(definition)
            if isinstance(entry, type):
                return make(entry, definition.initialization)
            return entry(config) if is_factory(entry) else entry
        except Exception:
            log.exception("handler %r cannot be made", definition.callable)
            return None


class ExplicitMappingResolver(EntryResolver):
    """Names that were registered: for classes, factories and shared handlers."""

    priority = 10

    def __init__(self, name: str = "explicit_mapping") -> None:
        self._name = name
        self._entries: dict[str, Any] = {}
        self._lock = Lock()
        self.changes = 0

    @property
    def name(self) -> str:
        """What templates call this resolver."""
        return self._name

    def register(self, key: str, handler: Any) -> None:
        """Give a name to a class, a decorated function, a factory or a shared handler."""
        with self._lock:
            self._entries[key] = handler_class_of(handler)
            self.changes += 1

    def unregister(self, key: str) -> bool:
        """Forget a name; False if it was not known."""
        with self._lock:
            self.changes += 1
            return self._entries.pop(key, None) is not None

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether the name is registered."""
        return definition.callable in self._entries

    def find(self, definition: HandlerDefinition) -> Any:
        """Give what was registered."""
        return self._entries.get(definition.callable)

    def registered_callables(self) -> list[str]:
        """Name everything registered."""
        with self._lock:
            return list(self._entries)


class ClassLookupResolver(EntryResolver):
    """Dotted paths of classes: `handlers.ecommerce.ValidateCartHandler`."""

    CLASS_PATTERN = re.compile(r"(?:[A-Za-z_]\w*\.)+[A-Z]\w*")

    name = "class_lookup"
    priority = 100

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether the last part of a dotted path begins with a capital letter."""
        return self.CLASS_PATTERN.fullmatch(definition.callable) is not None

    def find(self, definition: HandlerDefinition) -> Any:
        """Import the class; None if it is not there, or not a handler."""
        target = import_target(definition.callable)
        if target is None:
            return None
        if isinstance(target, type) and (
            issubclass(target, StepHandler) or not why_not_callable(target, "call")
        ):
            return target
        log.warning("%s is not a handler: it has no method call", definition.callable)
        return None


class DeclarationResolver(EntryResolver):
    """Decorated functions, by their declared name or their dotted path."""

    name = "declared"
    priority = 900

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether the name is declared, or may be a dotted path."""
        return declared.get(definition.callable) is not None or "." in definition.callable

    def find(self, definition: HandlerDefinition) -> Any:
        """Give the function's handler class."""
        handler_class = declared.get(definition.callable)
        if handler_class is not None or "." not in definition.callable:
            return handler_class
        function = import_target(definition.callable)
        handler = handler_class_of(function)
        return None if handler is function else handler

    def registered_callables(self) -> list[str]:
        """Name every declared function."""
        return list(declared.all())


class RegistryResolver(BaseResolver):
    """For resolvers of your own: set `pattern` or `prefix`, write `resolve_handler`.

    >>> class Payments(RegistryResolver):
    ...     name = "payments"
    ...     prefix = "pay:"
    ...     def resolve_handler(self, definition, config):
    ...         return None
    >>> Payments().can_resolve(HandlerDefinition("pay:card"))
    True
    """

    _name: ClassVar[str] = "custom_resolver"
    _priority: ClassVar[int] = 50
    pattern: ClassVar[str | re.Pattern[str] | None] = None  # matched from the start
    prefix: ClassVar[str | None] = None

    @property
    def name(self) -> str:
        """What templates call this resolver."""
        return self._name

    @property
    def priority(self) -> int:
        """When it is asked."""
        return self._priority

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether the name has the prefix or fits the pattern."""
        name = definition.callable
        if self.prefix is not None and name.startswith(self.prefix):
            return True
        return self._match_pattern(name) is not None

    def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
        """Make a handler, by `resolve_handler`."""
        return self.resolve_handler(definition, {} if config is None else config)

    def resolve_handler(self, definition: HandlerDefinition, config: dict[str, Any]) -> Any:
        """Make a handler; None to decline."""
        raise NotImplementedError(f"{type(self).__name__}: resolve_handler() must be implemented")

    def _match_pattern(self, text: str) -> re.Match[str] | None:
        return None if self.pattern is None else re.match(self.pattern, text)
