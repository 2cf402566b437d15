"""`tasker-ctl config`: the settings, where each comes from, and what each is."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output, fields, table, to_json

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

config_app = typer.Typer(no_args_is_help=True, add_completion=False)

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The settings file.",
        show_default="TASKER_CONFIG, or tasker.toml",
    ),
]


@config_app.callback()
def config() -> None:
    """Show, explain and check the settings."""


@config_app.command()
def show(
    ctx: typer.Context,
    config_file: ConfigFile = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only those that are not left at their default.")
    ] = False,
) -> None:
    """Show every setting that is in force here, and where its value comes from."""
    out: Output = ctx.obj
    facts = _in_force(config_file)
    if changed:
        facts = {name: fact for name, fact in facts.items() if fact["source"] != "default"}
    out.data(
        facts,
        lambda: table(
            ["SETTING", "VALUE", "FROM"],
            ([name, fact["value"], fact["source"]] for name, fact in facts.items()),
        ),
    )


@config_app.command()
def explain(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SETTING", help="A setting, or its variable.")],
    config_file: ConfigFile = None,
) -> None:
    """Say what a setting is, which values it takes, and which it has here."""
    from tasker_core.settings import Settings, variable

    out: Output = ctx.obj
    by_name = {name: name for name in Settings.model_fields}
    by_name |= {variable(name): name for name in Settings.model_fields}
    field = by_name.get(name) or by_name.get(name.lower()) or by_name.get(name.upper())
    if field is None:
        close = difflib.get_close_matches(name, by_name, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        out.warn(f"there is no setting {name}{hint}")
        raise typer.Exit(ExitCode.NOT_FOUND)
    info = Settings.model_fields[field]
    facts = {
        "setting": field,
        "description": info.description,
        "variable": variable(field),
        "bounds": _bounds(field),
        "default": _default(info),
        **_in_force(config_file)[field],
    }
    out.data(facts, lambda: fields(facts.items()))


@config_app.command()
def validate(ctx: typer.Context, config_file: ConfigFile = None) -> None:
    """Check file and environment; the exit code is 3 if anything is wrong with them."""
    out: Output = ctx.obj
    facts = _in_force(config_file)
    given = sorted(name for name, fact in facts.items() if fact["source"] != "default")
    out.data({"valid": True, "given": given}, lambda: f"valid: {len(given)} settings are given")


@config_app.command()
def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of a settings file, for editors."""
    from tasker_core.settings import Settings

    out: Output = ctx.obj
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Settings of Tasker: tasker.toml.",
        **Settings.model_json_schema(),
    }
    out.data(document, lambda: to_json(document, indent=2))


def _in_force(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read the settings; give each value, masked, and its source."""
    from tasker_core.settings import Settings, masked, sources

    if path is not None:
        os.environ["TASKER_CONFIG"] = str(path)
    settings = Settings()
    found = sources()
    return {
        name: {
            "value": masked(name, getattr(settings, name)),
            "source": found.get(name, "default"),
        }
        for name in Settings.model_fields
    }


def _default(info: FieldInfo) -> Any:
    return "unset" if info.default is None else info.default


def _bounds(name: str) -> str | None:
    """Say in words which values a setting takes, as far as its schema knows."""
    from tasker_core.settings import Settings

    found = Settings.model_json_schema()["properties"][name]
    options = [one for one in found.get("anyOf", [found]) if one.get("type") != "null"]
    one = options[0]
    said = []
    for key, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("pattern", "like"),
    ):
        if key in one:
            said.append(f"{words} {one[key]}")
    kind = str(one.get("type", ""))
    return ", ".join([kind, *said]) or None
