"""`tasker-ctl template generate`, `list` and `info`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasker_core.cli.scaffold.config import Config
    from tasker_core.cli.scaffold.manifest import Plugin, ScaffoldTemplate
    from tasker_core.cli.scaffold.write import Change

Language = Annotated[
    str | None, typer.Option("--language", "-l", help="python, or what other plugins generate.")
]
PluginName = Annotated[str | None, typer.Option(help="Take the template of this plugin.")]


def generate(
    ctx: typer.Context,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="See: template list.")],
    language: Language = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="KEY=VALUE", help="See: template info."),
    ] = None,
    style: Annotated[str | None, typer.Option(help="class, or functional.")] = None,
    is_async: Annotated[bool, typer.Option("--async", help="Generate async def.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where; here, if not set.")
    ] = None,
    plugin: PluginName = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files, and write none.")
    ] = False,
) -> None:
    """Generate a handler with its test, or a task template."""
    from tasker_core.cli.scaffold.package import above_package, place
    from tasker_core.cli.scaffold.parameters import read_values
    from tasker_core.cli.scaffold.render import render
    from tasker_core.cli.scaffold.write import plan_changes, write

    out: Output = ctx.obj
    with _reported(out):
        config, plugins = _look_around(out)
        chosen = _choose(plugins, template, config, language, plugin)
        options = {"style": style} if style is not None else {}
        options |= {"async": "true"} if is_async else {}
        values = read_values(chosen, param or (), options)
        directory = output or config.default_output_dir or Path()
        module_name = values.get("module_name") if chosen.plugin.language == "python" else None
        if module_name:
            directory = above_package(directory, str(module_name))
        files = place(render(chosen, values), directory, str(module_name) if module_name else None)
        changes = plan_changes(files, directory, force=force)
        if not dry_run:
            write(changes)
    checks = [f"{c.check} {shlex.quote(str(c.path))}" for c in changes if c.check]
    document = _generated(chosen, directory, changes, checks, dry_run)
    out.data(document, lambda: _contents(changes) if dry_run else _written(changes))
    if not dry_run:
        for check in checks:
            out.note(f"next: {check}")


def list_templates(
    ctx: typer.Context,
    language: Language = None,
    framework: Annotated[str | None, typer.Option("--framework", "-f", help="As rails.")] = None,
) -> None:
    """List what can be generated."""
    from tasker_core.cli.output import table
    from tasker_core.cli.scaffold import plugins as plugins_
    from tasker_core.cli.scaffold.plugins import Choice

    out: Output = ctx.obj
    with _reported(out):
        _, plugins = _look_around(out)
        found = plugins_.list_templates(plugins, Choice(language, framework))
    items = [
        {
            "name": template.name,
            "description": template.description,
            "language": template.plugin.language,
            "framework": template.plugin.framework,
            "plugin": template.plugin.name,
        }
        for template in found
    ]
    rows = [(i["name"], i["language"], i["plugin"], i["description"]) for i in items]
    out.data(
        {"items": items, "total": len(items)},
        lambda: table(("TEMPLATE", "LANGUAGE", "PLUGIN", ""), rows),
    )


def info(
    ctx: typer.Context,
    template: Annotated[str, typer.Argument(metavar="NAME", help="See: template list.")],
    language: Language = None,
    plugin: Annotated[
        str | None, typer.Option("--plugin", "-p", help="The template of this plugin.")
    ] = None,
) -> None:
    """Say what a template wants to know, and which files it makes."""
    out: Output = ctx.obj
    with _reported(out):
        config, plugins = _look_around(out)
        chosen = _choose(plugins, template, config, language, plugin)
        document = _described(chosen)
    out.data(document, lambda: _description(document))


# --- pieces ---------------------------------------------------------------------------------


@contextmanager
def _reported(out: Output) -> Iterator[None]:
    from tasker_core.cli.scaffold.errors import ScaffoldError

    try:
        yield
    except ScaffoldError as error:
        failure = error.failure()
        out.fail(failure)
        raise typer.Exit(failure.exit_code) from error


def _look_around(out: Output) -> tuple[Config, list[Plugin]]:
    from tasker_core.cli.scaffold.config import read_config
    from tasker_core.cli.scaffold.plugins import find_plugins

    config = read_config(Path.cwd())
    return config, find_plugins(config.plugin_paths, out.warn)


def _choose(
    plugins: Sequence[Plugin], name: str, config: Config, language: str | None, plugin: str | None
) -> ScaffoldTemplate:
    """Take the default language only where no plugin is named."""
    from tasker_core.cli.scaffold.plugins import Choice, choose_template

    if language is None and plugin is None:
        language = config.default_language
    return choose_template(plugins, name, Choice(language, plugin=plugin))


def _generated(
    template: ScaffoldTemplate,
    directory: Path,
    changes: Sequence[Change],
    checks: Sequence[str],
    dry_run: bool,
) -> dict[str, Any]:
    return {
        "template": template.name,
        "plugin": template.plugin.name,
        "language": template.plugin.language,
        "directory": str(directory),
        "dry_run": dry_run,
        "files": [
            {"path": str(change.path), "action": change.action}
            | ({"content": change.text} if dry_run else {})
            for change in changes
        ],
        "next": list(checks),
    }


def _written(changes: Sequence[Change]) -> RenderableType:
    from tasker_core.cli.output import fields

    return fields((change.action, str(change.path)) for change in changes)


def _contents(changes: Sequence[Change]) -> RenderableType:
    from rich.text import Text

    text = Text()
    for change in changes:
        text.append(f"--- {change.path} ({change.action})\n", "bold")
        text.append(f"{change.text}\n")
    text.right_crop(1)
    return text


def _described(template: ScaffoldTemplate) -> dict[str, Any]:
    plugin, metadata = template.plugin, template.metadata
    return {
        "name": template.name,
        "description": template.description,
        "plugin": plugin.name,
        "version": plugin.version,
        "language": plugin.language,
        "framework": plugin.framework,
        "parameters": [
            {
                "name": parameter.name,
                "description": parameter.description,
                "type": parameter.type,
                "required": parameter.required and parameter.default is None,
                "default": parameter.default,
                "choices": list(parameter.choices),
            }
            for parameter in metadata.parameters
        ],
        "outputs": [
            {"filename": output.filename, "subdir": output.subdir} for output in metadata.outputs
        ],
    }


def _description(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from tasker_core.cli.output import fields, table

    names = ("name", "description", "language", "framework")
    head = [(name, document[name]) for name in names]
    head.append(("plugin", f"{document['plugin']} {document['version']}"))
    rows = [
        (
            p["name"],
            "required" if p["required"] else p["default"],
            " or ".join(p["choices"]) or p["type"],
            p["description"],
        )
        for p in document["parameters"]
    ]
    outputs = [
        ("file", "/".join(filter(None, (o["subdir"], o["filename"])))) for o in document["outputs"]
    ]
    return Group(
        fields(head), "", table(("PARAMETER", "DEFAULT", "VALUE", ""), rows), "", fields(outputs)
    )
