"""Where a test's templates and handlers come from.

A test names them as is handiest: a file, a name, YAML in the test itself; a class, a
decorated function, a function of the context, a package.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from tasker_core.errors import InvalidTemplate, ResolutionError, UnknownTemplate
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.bound import BoundHandler, HandlerDefinition, bind, handler_class_of
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.payload import encode
from tasker_core.templates.graph import version_sort_key
from tasker_core.templates.load import (
    Report,
    find_template_directory,
    find_template_files,
    parse_template,
    read_template,
)
from tasker_core.templates.model import TaskTemplate

TemplateSource: TypeAlias = TaskTemplate | Path | str | Mapping[str, Any]
Handlers: TypeAlias = Mapping[str, Any] | Iterable[Any]

ENVIRONMENT = "test"  # whose overrides of a template hold, unless a test says otherwise


# --- templates ------------------------------------------------------------------------


def find_template(source: TemplateSource, directory: Path | str | None = None) -> TaskTemplate:
    """Give a checked template.

    Args:
        source: The template itself; its definition as a dict; the path of a file; its YAML
            (any text of more than one line); or a name: `"place_order"`,
            `"shop/place_order"`, `"shop/place_order@1.2.0"`.
        directory: Where names are looked up; None is where a worker started here would
            look: `config/tasks`, `templates` and so on.

    Raises:
        InvalidTemplate: With everything that is wrong with it.
        UnknownTemplate: There is none of that name; the error lists what there is.
        ValueError: Templates of that name are in several namespaces.
    """
    if isinstance(source, TaskTemplate):
        return source
    if isinstance(source, Mapping):
        return _checked(parse_template(encode(dict(source))))
    if isinstance(source, Path) or source.endswith((".yaml", ".yml", ".json")):
        return _checked(_read(Path(source)))
    if "\n" in source:
        return _checked(parse_template(inspect.cleandoc(source)))
    return _named(source, None if directory is None else Path(directory))


def _named(wanted: str, directory: Path | None) -> TaskTemplate:
    namespace, _, rest = wanted.rpartition("/")
    name, _, version = rest.partition("@")
    place = find_template_directory(directory)
    reports = [] if place is None else [_read(file) for file in find_template_files(place)]
    templates = [report.template for report in reports if report.template is not None]
    found = [
        template
        for template in templates
        if template.name == name
        and namespace in ("", template.namespace)
        and version in ("", template.version)
    ]
    if not found:
        broken = [finding for report in reports for finding in report.findings if not report.valid]
        if broken:
            raise InvalidTemplate(broken)
        raise UnknownTemplate(namespace, name, version or None, [one.label for one in templates])
    if len({template.namespace for template in found}) > 1:
        labels = ", ".join(f"{one.namespace}/{one.name}" for one in found)
        raise ValueError(f"{wanted!r} may be any of {labels}; name one of them")
    return max(found, key=lambda template: version_sort_key(template.version))


def _read(path: Path) -> Report:
    try:
        changed_at = path.stat().st_mtime_ns
    except OSError:
        return read_template(path)  # it says what is wrong
    return _read_once(path.absolute(), changed_at)


@lru_cache(maxsize=256)
def _read_once(path: Path, changed_at: int) -> Report:
    return read_template(path)


def _checked(report: Report) -> TaskTemplate:
    if report.template is None:
        raise InvalidTemplate(report.findings)
    return report.template


def refuse_unknown_step(template: TaskTemplate, name: str, known: Iterable[str], what: str) -> None:
    """Raise for a step's name that is a slip of the pen.

    Raises:
        ValueError: `name` is not known; it says what comes near.
    """
    names = list(known)
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(names) or 'none'}"
    raise ValueError(f"{what} {name!r}, which template {template.label} does not have{hint}")


# --- handlers -------------------------------------------------------------------------


class HandlerSources:
    """The handlers of one run: those given, those of packages, those of the process."""

    def __init__(self, handlers: Handlers | None = None, packages: Sequence[str] = ()) -> None:
        self._registry: HandlerRegistry | None = None
        self._given: dict[str, Any] = {}
        self._bound: dict[tuple[str, str | None], BoundHandler] = {}
        if isinstance(handlers, HandlerRegistry):
            self._registry = handlers
        elif handlers is not None:
            self._given = _by_name(handlers)
        self._packages = _discovered(tuple(packages)) if packages else None

    def find(self, definition: HandlerDefinition) -> BoundHandler | None:
        """Give the handler that a definition names; None if nobody knows it.

        Raises:
            ResolutionError: One that was given has no such method, or cannot be made.
        """
        if definition.callable in self._given:
            key = (definition.callable, definition.handler_method)
            if key not in self._bound:
                self._bound[key] = bind(self._given[definition.callable], definition)
            return self._bound[key]
        if self._registry is not None:
            return self._registry.find(definition)
        if self._packages is not None and self._packages.is_registered(definition.callable):
            return self._packages.find(definition)
        return HandlerRegistry.instance().find(definition)


def find_handler(handler: Any, method: str | None = None) -> BoundHandler:
    """Give what runs a handler, whatever it is.

    Args:
        handler: A `StepHandler` class or object, a decorated function, a function of the
            context, or a name: registered, declared, or a dotted path.
        method: Another method than `call`.

    Raises:
        ResolutionError: It is none of these, or has no such method.
        HandlerLoadError: The module of a dotted path cannot be imported.
    """
    if isinstance(handler, str):
        definition = HandlerDefinition(handler, method)
        found = HandlerRegistry.instance().find(definition, strict=True)
        assert found is not None
        return found
    entry = as_entry(handler)
    return bind(entry, HandlerDefinition(name_of(entry), method))


def as_entry(handler: Any, name: str | None = None) -> Any:
    """Give what `bind` takes: a handler class or object; a function becomes a class.

    Raises:
        ResolutionError: It is no handler.
    """
    entry = handler_class_of(handler)
    if isinstance(entry, type | StepHandler) or (hasattr(entry, "call") and not callable(entry)):
        return entry
    if callable(entry):
        return _class_of_function(entry, name or str(getattr(entry, "__name__", "handler")))
    raise ResolutionError(
        name or repr(handler), "it is no StepHandler, no decorated function and no function"
    )


def is_handler(value: Any) -> bool:
    """Say whether a value is a handler as an application writes them."""
    entry = handler_class_of(value)
    return isinstance(entry, StepHandler) or (
        isinstance(entry, type) and issubclass(entry, StepHandler)
    )


def name_of(entry: Any) -> str:
    """Give the name that a handler has of its own, or that of its class."""
    name = getattr(entry, "handler_name", None)
    if isinstance(name, str) and name:
        return name
    return entry.__name__ if isinstance(entry, type) else type(entry).__name__


def _by_name(handlers: Handlers) -> dict[str, Any]:
    if isinstance(handlers, Mapping):
        return {name: as_entry(handler, name) for name, handler in handlers.items()}
    entries = [as_entry(handler) for handler in handlers]
    return {name_of(entry): entry for entry in entries}


def _class_of_function(function: Any, name: str) -> type[StepHandler]:
    def call(self: StepHandler, context: Any) -> Any:
        return function(context)

    async def call_async(self: StepHandler, context: Any) -> Any:
        return await function(context)

    chosen = call_async if inspect.iscoroutinefunction(function) else call
    return type(name, (StepHandler,), {"handler_name": name, "call": chosen})


@lru_cache(maxsize=64)
def _discovered(packages: tuple[str, ...]) -> HandlerRegistry:
    registry = HandlerRegistry()
    for package in packages:
        registry.discover_handlers(package)
    if registry.load_errors:
        raise registry.load_errors[0]
    return registry
