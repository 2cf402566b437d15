"""The order in which resolvers are asked what a handler's name stands for.

The one with the lowest priority is asked first, and the first that knows the name
decides. A template that names a resolver has only that one asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from tasker_core.errors import HandlerLoadError, ResolverNotFoundError
from tasker_core.handlers.bound import HandlerDefinition, MethodDispatchWrapper
from tasker_core.handlers.resolvers import (
    BaseResolver,
    ClassLookupResolver,
    ExplicitMappingResolver,
)

log = logging.getLogger(__name__)


class ResolverChain:
    """Resolvers in the order in which they are asked."""

    def __init__(self) -> None:
        self._resolvers: list[BaseResolver] = []
        self.changes = 0

    @classmethod
    def default(cls) -> ResolverChain:
        """Make a chain that knows registered names and dotted paths of classes."""
        return cls().add_resolver(ExplicitMappingResolver()).add_resolver(ClassLookupResolver())

    def add_resolver(self, resolver: BaseResolver) -> ResolverChain:
        """Add a resolver, in place of one with the same name; gives the chain."""
        self.remove_resolver(resolver.name)
        self._resolvers = sorted([*self._resolvers, resolver], key=lambda r: r.priority)
        self.changes += 1
        return self

    def remove_resolver(self, name: str) -> bool:
        """Take a resolver out; False if there is none of that name."""
        kept = [resolver for resolver in self._resolvers if resolver.name != name]
        removed = len(kept) < len(self._resolvers)
        self._resolvers = kept
        self.changes += removed
        return removed

    def get_resolver(self, name: str) -> BaseResolver | None:
        """Give the resolver of that name; None if there is none."""
        return next((r for r in self._resolvers if r.name == name), None)

    @property
    def explicit_resolver(self) -> ExplicitMappingResolver | None:
        """The resolver that `register` writes to."""
        return next((r for r in self._resolvers if isinstance(r, ExplicitMappingResolver)), None)

    def register(self, key: str, handler: Any) -> None:
        """Give a name to a handler.

        Raises:
            RuntimeError: No resolver of this chain keeps registered names.
        """
        if self.explicit_resolver is None:
            raise RuntimeError("No ExplicitMappingResolver in chain")
        self.explicit_resolver.register(key, handler)

    def find(self, definition: HandlerDefinition) -> Any:
        """Give what a definition stands for, as `BaseResolver.find` does.

        Raises:
            ResolverNotFoundError: It names a resolver that does not exist.
            HandlerLoadError: Its module exists, but cannot be imported.
        """
        for resolver in self._asked(definition):
            try:
                entry = resolver.find(definition)
            except HandlerLoadError:
                raise
            except Exception:
                log.exception("resolver %r failed on %r", resolver.name, definition.callable)
                continue
            if entry is not None:
                return entry
        return None

    def resolve(self, definition: HandlerDefinition, config: Any = None) -> Any:
        """Make a handler whose `call` is the method that the definition names.

        Returns:
            The handler; None if nobody knows the name or there is no such method.

        Raises:
            ResolverNotFoundError: It names a resolver that does not exist.
        """
        for resolver in self._asked(definition):
            handler = resolver.resolve(definition, config)
            if handler is not None:
                return self.wrap_for_method_dispatch(handler, definition)
        return None

    def can_resolve(self, definition: HandlerDefinition, config: Any = None) -> bool:
        """Say whether some resolver may know the name."""
        try:
            return next(self._asked(definition), None) is not None
        except ResolverNotFoundError:
            return False

    def wrap_for_method_dispatch(self, handler: Any, definition: HandlerDefinition) -> Any:
        """Give a handler whose `call` is the method that the definition names.

        A handler that already dispatches to it is given back; None, with a warning in
        the log, if there is no such method.
        """
        method = definition.effective_method()
        if isinstance(handler, MethodDispatchWrapper):
            if handler.target_method == method:
                return handler
            handler = handler.unwrap()
        if not definition.uses_method_dispatch():
            return handler
        try:
            return MethodDispatchWrapper(handler, method)
        except AttributeError as error:
            log.warning("handler %r: %s", definition.callable, error)
            return None

    def registered_callables(self) -> list[str]:
        """Name everything that some resolver keeps in a list."""
        names = [name for r in self._resolvers for name in r.registered_callables()]
        return list(dict.fromkeys(names))

    def chain_info(self) -> list[dict[str, Any]]:
        """Describe the chain: `[{"name": str, "priority": int, "callables": [str]}]`."""
        return [
            {"name": r.name, "priority": r.priority, "callables": r.registered_callables()}
            for r in self._resolvers
        ]

    @property
    def resolver_names(self) -> list[str]:
        """Names, in the order in which they are asked."""
        return [resolver.name for resolver in self._resolvers]

    def list_resolvers(self) -> list[tuple[str, int]]:
        """Names and priorities, in the order in which they are asked."""
        return [(resolver.name, resolver.priority) for resolver in self._resolvers]

    def __len__(self) -> int:
        return len(self._resolvers)

    def _asked(self, definition: HandlerDefinition) -> Iterator[BaseResolver]:
        """The resolvers to ask, in order: all that may know, or the one that is named."""
        asked = self._resolvers
        if definition.has_resolver_hint():
            named = self.get_resolver(definition.resolver or "")
            if named is None:
                raise ResolverNotFoundError(
                    definition.callable, str(definition.resolver), self.resolver_names
                )
            asked = [named]
        for resolver in asked:
            if resolver.can_resolve(definition, definition.initialization):
                yield resolver
