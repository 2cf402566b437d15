"""Read a plugin: its `tasker-plugin.toml`, and the `template.toml` of each template.

::

    # tasker-plugin.toml                     # step_handler/template.toml
    [plugin]                                 name = "step_handler"
    name = "acme-python"                     description = "A step handler"
    description = "Handlers as we write them"
    version = "1.0.0"                        [[parameters]]
    language = "python"                      name = "name"
    framework = "fastapi"   # may lack       description = "What the step does"
                                             required = true
    [[templates]]                            type = "name"
    name = "step_handler"
    path = "step_handler"                    [[outputs]]
    description = "A step handler"           template = "handler.py.j2"
                                             filename = "{{ name | snake_case }}.py"
                                             subdir = "steps"   # may lack

Keys that are not known are ignored. A parameter may have a `default`, `choices` and a
`pattern` (a regular expression for the whole value, or for each item of a list), and
for a name a `strip_suffix`. An output may have `when`, an expression, and `check`, the
command that tries the file out; it is given the file's path.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasker_core.cli.scaffold.errors import InvalidPlugin

MANIFEST = "tasker-plugin.toml"
METADATA = "template.toml"

# name: of generated code; module: a dotted name of a Python package; list: with commas.
TYPES = ("string", "integer", "boolean", "choice", "list", "name", "module")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that a template wants."""

    name: str
    description: str
    required: bool
    default: str | None
    type: str
    choices: tuple[str, ...]
    pattern: str | None
    strip_suffix: str | None


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that a template makes; `filename` and `subdir` are sources themselves."""

    template: str
    filename: str
    subdir: str | None
    when: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What `template.toml` says."""

    parameters: tuple[Parameter, ...]
    outputs: tuple[OutputFile, ...]

    def parameter(self, name: str) -> Parameter | None:
        """Find a parameter; None if there is none of this name."""
        return next((p for p in self.parameters if p.name == name), None)


@dataclass(frozen=True)
class ScaffoldTemplate:
    """One template of a plugin. Its metadata are read when they are first needed."""

    name: str
    description: str
    directory: Path
    plugin: Plugin

    @cached_property
    def metadata(self) -> Metadata:
        """Read `template.toml`.

        Raises:
            InvalidPlugin: It is not there, or not what it must be.
        """
        path = self.directory / METADATA
        content = _content(path)
        _text(path, content, "name", "the template")
        return Metadata(
            parameters=_parameters(path, content),
            outputs=tuple(_output(path, item) for item in _tables(path, content, "outputs")),
        )


@dataclass(frozen=True)
class Plugin:
    """A directory of templates for one language."""

    name: str
    description: str
    version: str
    language: str
    framework: str | None
    directory: Path

    @cached_property
    def templates(self) -> tuple[ScaffoldTemplate, ...]:
        """The templates, in the manifest's order."""
        path = self.directory / MANIFEST
        return tuple(
            ScaffoldTemplate(
                name=_text(path, item, "name", "a template"),
                description=_text(path, item, "description", "a template"),
                directory=self.directory / _text(path, item, "path", "a template"),
                plugin=self,
            )
            for item in _tables(path, _content(path), "templates")
        )


def read_plugin(directory: Path) -> Plugin:
    """Read a plugin's manifest.

    Raises:
        InvalidPlugin: It is not there, or not what it must be.
    """
    path = directory / MANIFEST
    about = _content(path).get("plugin")
    if not isinstance(about, dict):
        raise InvalidPlugin(path, "the table [plugin] is missing")
    framework = about.get("framework")
    plugin = Plugin(
        name=_text(path, about, "name", "the plugin"),
        description=_text(path, about, "description", "the plugin"),
        version=_text(path, about, "version", "the plugin"),
        language=_text(path, about, "language", "the plugin"),
        framework=framework if isinstance(framework, str) and framework else None,
        directory=directory,
    )
    _ = plugin.templates  # so that what is wrong with them is said now
    return plugin


# --- pieces ---------------------------------------------------------------------------------


def _parameters(path: Path, content: dict[str, Any]) -> tuple[Parameter, ...]:
    found = tuple(_parameter(path, item) for item in _tables(path, content, "parameters"))
    for at, parameter in enumerate(found):
        if parameter.name in {other.name for other in found[:at]}:
            raise InvalidPlugin(path, f"the parameter {parameter.name} is there twice")
    return found


def _parameter(path: Path, item: dict[str, Any]) -> Parameter:
    name = _text(path, item, "name", "a parameter")
    kind = _optional(path, item, "type", name) or "string"
    if kind not in TYPES:
        raise InvalidPlugin(path, f"{name} has type {kind!r}; types are {', '.join(TYPES)}")
    choices = item.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise InvalidPlugin(path, f"the choices of {name} must be a list of texts")
    if kind == "choice" and not choices:
        raise InvalidPlugin(path, f"{name} is a choice, but has no choices")
    pattern = _optional(path, item, "pattern", name)
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise InvalidPlugin(path, f"the pattern of {name} is none: {error}") from error
    required = item.get("required", False)
    if not isinstance(required, bool):
        raise InvalidPlugin(path, f"required of {name} must be true or false")
    return Parameter(
        name=name,
        description=_text(path, item, "description", name),
        required=required,
        default=_optional(path, item, "default", name),
        type=kind,
        choices=tuple(choices),
        pattern=pattern,
        strip_suffix=_optional(path, item, "strip_suffix", name),
    )


def _output(path: Path, item: dict[str, Any]) -> OutputFile:
    return OutputFile(
        template=_text(path, item, "template", "an output"),
        filename=_text(path, item, "filename", "an output"),
        subdir=_optional(path, item, "subdir", "an output"),
        when=_optional(path, item, "when", "an output"),
        check=_optional(path, item, "check", "an output"),
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidPlugin(path, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise InvalidPlugin(path, f"cannot be read: {error}") from error


def _tables(path: Path, content: dict[str, Any], key: str) -> Sequence[dict[str, Any]]:
    items = content.get(key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidPlugin(path, f"{key} must be written as [[{key}]]")
    return items


def _text(path: Path, item: dict[str, Any], key: str, whose: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidPlugin(path, f"{whose} needs a {key}, as text")
    return value


def _optional(path: Path, item: dict[str, Any], key: str, whose: str) -> str | None:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidPlugin(path, f"{key} of {whose} must be text")
    return value
