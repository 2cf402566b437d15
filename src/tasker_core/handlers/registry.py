"""The handlers that this process has.

A worker fills the registry at its start by importing handler packages, claims only
steps whose handlers `find` knows, and runs what `find` gives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, ClassVar, Self

from tasker_core.errors import HandlerLoadError, ResolutionError, SetupError
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import BoundHandler, HandlerDefinition, bind, handler_class_of
from tasker_core.handlers.chain import ResolverChain
from tasker_core.handlers.discovery import (
    handlers_in,
    import_directory,
    import_package,
    says_its_name,
)
from tasker_core.handlers.functional import FunctionHandler, declared
from tasker_core.handlers.resolvers import DeclarationResolver, ExplicitMappingResolver

log = logging.getLogger(__name__)


class HandlerRegistry:
    """Handlers by name, and everything else that a template may call a handler.

    >>> class Greet(StepHandler):
    ...     handler_name = "greet"
    ...     def call(self, context):
    ...         return self.success()
    >>> registry = HandlerRegistry()
    >>> registry.register(Greet)
    >>> registry.find(HandlerDefinition("greet")).name
    'greet'
    """

    _instance: ClassVar[HandlerRegistry | None] = None
    _instance_lock: ClassVar[RLock] = RLock()

    def __init__(self) -> None:
        self._classes: dict[str, type[StepHandler]] = {}
        self._load_errors: dict[str, HandlerLoadError] = {}
        self._bootstrapped = False
        self._lock = RLock()
        self._chain = ResolverChain.default().add_resolver(DeclarationResolver())
        self._bound: dict[tuple[str, str | None, str | None], BoundHandler] = {}
        self._failures: dict[tuple[str, str | None, str | None], SetupError] = {}
        self._bound_at: tuple[int, ...] = ()

    @classmethod
    def instance(cls, skip_bootstrap: bool = False) -> Self:
        """Give the process's own registry; the first call makes and bootstraps it."""
        with HandlerRegistry._instance_lock:
            found = HandlerRegistry._instance
            if not isinstance(found, cls):
                found = HandlerRegistry._instance = cls()
                if not skip_bootstrap:
                    found.bootstrap_handlers()
            return found

    @classmethod
    def reset_instance(cls) -> None:
        """Forget the process's own registry."""
        with HandlerRegistry._instance_lock:
            HandlerRegistry._instance = None

    # --- filling it -----------------------------------------------------------------

    def register(self, name: Any, handler_class: Any = None) -> None:
        """Give a name to a handler; a name in use is given anew, with a warning.

        Args:
            name: The name; or the handler itself, to register it under its own name.
            handler_class: A `StepHandler` subclass or a decorated function.

        Raises:
            ValueError: It is neither, or has no name of its own and none is given.
        """
        if handler_class is None:
            name, handler_class = None, name
        handler = handler_class_of(handler_class)
        if not (isinstance(handler, type) and issubclass(handler, StepHandler)):
            raise ValueError(
                f"{handler_class!r} is not a handler: extend StepHandler, or decorate a "
                f"function with step_handler"
            )
        name = name if name is not None else handler.handler_name
        if not isinstance(name, str) or not name:
            raise ValueError(f"{handler.__name__} has no handler_name; give a name to register it")
        with self._lock:
            before = self._classes.get(name)
            if before is not None and before is not handler:
                log.warning("handler %r was %r and is now %r", name, before, handler)
            self._classes[name] = handler
            self._chain.register(name, handler)

    def unregister(self, name: str) -> bool:
        """Forget a name; False if it was not registered."""
        with self._lock:
            if self._chain.explicit_resolver is not None:
                self._chain.explicit_resolver.unregister(name)
            return self._classes.pop(name, None) is not None

    def discover_handlers(self, package_name: str, base_class: type | None = None) -> int:
        """Import a package with all its modules, and register the handlers in them.

        What cannot be imported is added to `load_errors`, and the rest is imported.

        Args:
            package_name: A dotted name: `"app.handlers"`.
            base_class: Register only its subclasses; decorated functions are
                subclasses of `StepHandler`.

        Returns:
            How many different names were found.
        """
        return self._register_all(import_package(package_name), base_class or StepHandler)

    def discover_directory(self, directory: str | Path) -> int:
        """Do the same for everything in a directory, which is put on `sys.path`."""
        return self._register_all(import_directory(Path(directory)), StepHandler)

    def bootstrap_handlers(self) -> int:
        """Register every decorated function that was imported so far, once.

        Returns:
            How many handlers are registered.
        """
        with self._lock:
            if not self._bootstrapped:
                for handler in declared.all().values():
                    self.register(handler)
                self._bootstrapped = True
            return self.handler_count()

    def clear(self) -> None:
        """Forget all names and load errors; resolvers of your own stay."""
        with self._lock:
            self._classes.clear()
            self._load_errors.clear()
            self._chain.add_resolver(ExplicitMappingResolver())
            self._bootstrapped = False

    # --- using it ---------------------------------------------------------------------

    def find(self, definition: HandlerDefinition, *, strict: bool = False) -> BoundHandler | None:
        """Give what runs a handler, for as many attempts as there are.

        The answer does not depend on `initialization` and is remembered until a handler
        or a resolver is added or taken away; the second time it costs next to nothing.
        A reason why not is logged once.

        Args:
            definition: What the template says: callable, method and resolver.
            strict: Raise what is otherwise only logged.

        Returns:
            The handler; None if this process cannot run it.

        Raises:
            ResolutionError: If strict: nobody knows the name, there is no such method
                or resolver, or no instance can be made.
            HandlerLoadError: If strict: its module cannot be imported.
        """
        changes = self._changes()
        if changes != self._bound_at:
            self._bound, self._failures, self._bound_at = {}, {}, changes
        key = (definition.callable, definition.handler_method, definition.resolver)
        found = self._bound.get(key)
        if found is not None:
            return found
        failure = self._failures.get(key)
        # A resolver may know tomorrow what it did not know today; a module that was
        # broken is not run over and over.
        if not isinstance(failure, HandlerLoadError):
            try:
                found = self._bound[key] = self._bind(definition)
                return found
            except (ResolutionError, HandlerLoadError) as error:
                if str(error) != str(failure) and not isinstance(error, HandlerLoadError):
                    log.warning("%s", error)
                self._failures[key] = failure = error
        if strict:
            raise failure
        return None

    def resolve(self, handler_spec: Any) -> Any:
        """Make a handler; None if nobody knows it, or it cannot be made (see the log).

        Args:
            handler_spec: A name, a `HandlerDefinition`, or anything with its fields.

        Raises:
            ResolverNotFoundError: It names a resolver that does not exist.
        """
        definition = _definition(handler_spec)
        if definition is None:
            log.warning("%r does not name a handler", handler_spec)
            return None
        return self._chain.resolve(definition, definition.initialization)

    @property
    def resolver_chain(self) -> ResolverChain:
        """The chain that is asked; add resolvers of your own to it."""
        return self._chain

    @property
    def load_errors(self) -> tuple[HandlerLoadError, ...]:
        """Modules that could not be imported, and functions that could not be called."""
        return tuple(self._load_errors.values())

    def get_handler_class(self, name: str) -> type[StepHandler] | None:
        """Give what is registered under a name; None if nothing is."""
        return self._classes.get(name)

    def is_registered(self, name: str) -> bool:
        """Say whether a name is registered; dotted paths need not be."""
        return name in self._classes

    def list_handlers(self) -> list[str]:
        """Name all registered handlers."""
        return list(self._classes)

    def handler_count(self) -> int:
        """Count the registered names."""
        return len(self._classes)

    def _register_all(self, imported: Iterable[ModuleType | HandlerLoadError], base: type) -> int:
        found: dict[str, type[StepHandler]] = {}
        for module in imported:
            if isinstance(module, HandlerLoadError):
                self._note(module)
                continue
            self._load_errors.pop(module.__name__, None)
            for name, handler in handlers_in(module, base).items():
                if name not in found or says_its_name(handler):
                    found[name] = handler
        for handler in found.values():
            self.register(handler)
            if issubclass(handler, FunctionHandler) and handler.injection.unmet:
                place = f"{handler.__module__}.{handler.__qualname__}"
                self._note(HandlerLoadError(place, handler.injection.unmet_message()))
        return len(found)

    def _bind(self, definition: HandlerDefinition) -> BoundHandler:
        try:
            entry = self._chain.find(definition)
        except HandlerLoadError as error:
            self._note(error)
            raise
        if entry is None:
            raise ResolutionError(
                definition.callable, "no registered, declared or importable handler has this name"
            )
        return bind(entry, definition)

    def _note(self, error: HandlerLoadError) -> None:
        log.error("%s\n%s", error, error.traceback)
        self._load_errors[error.module] = error

    def _changes(self) -> tuple[int, ...]:
        explicit = self._chain.explicit_resolver
        return (self._chain.changes, explicit.changes if explicit else 0, declared.changes)


def _definition(spec: Any) -> HandlerDefinition | None:
    if isinstance(spec, HandlerDefinition):
        return spec
    if isinstance(spec, str):
        return HandlerDefinition(spec)
    if not isinstance(getattr(spec, "callable", None), str):
        return None
    return HandlerDefinition(
        callable=spec.callable,
        handler_method=getattr(spec, "handler_method", None),
        resolver=getattr(spec, "resolver", None),
        initialization=getattr(spec, "initialization", None) or {},
    )
