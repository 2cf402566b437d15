"""Turn the sources of a template into the text of every file, writing none.

Sources are Jinja2, which reads Tera's `{{ name | filter }}`, `{% if %}` and `{% for %}`,
too. They are data: the sandbox lets them compute nothing but text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from tasker_core.cli.scaffold.errors import RenderFailed
from tasker_core.cli.scaffold.manifest import METADATA, OutputFile, ScaffoldTemplate
from tasker_core.cli.scaffold.names import camel_case, kebab_case, pascal_case, snake_case

if TYPE_CHECKING:
    from jinja2 import Environment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One file as it is to be, before it is known where."""

    path: PurePosixPath  # relative, and never upwards
    text: str
    source: str  # which template made it, for messages
    check: str | None = None  # the command that tries it out


def render(template: ScaffoldTemplate, values: Mapping[str, Any]) -> list[RenderedFile]:
    """Render every output of a template.

    Raises:
        RenderFailed: A source has a fault, names something that is not declared, or
            makes a path that leaves the directory.
    """
    environment = _environment(template)
    files: list[RenderedFile] = []
    for output in template.metadata.outputs:
        if output.when is not None and not _holds(environment, output.when, values):
            continue
        made = _render_file(environment, output, values)
        if any(made.path == other.path for other in files):
            raise RenderFailed(output.template, f"makes {made.path}, which another one makes, too")
        files.append(made)
    if not files:
        raise RenderFailed(METADATA, "these parameters leave no file to be made")
    return files


def _environment(template: ScaffoldTemplate) -> Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=FileSystemLoader(template.directory),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    for function in (snake_case, pascal_case, camel_case, kebab_case):
        environment.filters[function.__name__] = _of_text(function)
    environment.filters["quoted"] = _of_text(_quoted)
    return environment


def _render_file(
    environment: Environment, output: OutputFile, values: Mapping[str, Any]
) -> RenderedFile:
    name = _render_text(environment, output.filename, values)
    folder = _render_text(environment, output.subdir or "", values)
    path = PurePosixPath(folder) / name
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in str(path)
    if unsafe or not name.strip() or not str(path).isprintable():
        raise RenderFailed(
            output.template, f"makes the path {str(path)!r}, which cannot be written"
        )
    text = _guard(output.template, lambda: environment.get_template(output.template).render(values))
    return RenderedFile(path, text, output.template, output.check)


def _render_text(environment: Environment, source: str, values: Mapping[str, Any]) -> str:
    return _guard(METADATA, lambda: environment.from_string(source).render(values))


def _holds(environment: Environment, expression: str, values: Mapping[str, Any]) -> bool:
    compiled = _guard(
        METADATA, lambda: environment.compile_expression(expression, undefined_to_none=False)
    )
    return bool(_guard(METADATA, lambda: compiled(**values)))


def _guard(source: str, run: Callable[[], T]) -> T:
    """Run a source; whatever it raises becomes one error that names it."""
    from jinja2 import TemplateNotFound, TemplateSyntaxError

    try:
        return run()
    except TemplateNotFound as error:
        raise RenderFailed(source, f"there is no source {error.name!r} beside it") from error
    except TemplateSyntaxError as error:
        raise RenderFailed(f"{error.name or source}:{error.lineno}", str(error.message)) from error
    except Exception as error:  # somebody's source: it may raise anything
        raise RenderFailed(source, str(error) or type(error).__name__) from error


def _of_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"the filter {function.__name__.strip('_')} needs text, not {value!r}")
        return function(value)

    return checked


def _quoted(text: str) -> str:
    """Write text so that Python, YAML, TOML and JSON all read it back."""
    return json.dumps(text, ensure_ascii=False)
