"""`tasker-ctl template`: check, register and generate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasker_core.cli.failures import ExitCode
from tasker_core.cli.output import Output
from tasker_core.cli.register import register
from tasker_core.cli.scaffold import commands as scaffold

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasker_core.errors import Finding
    from tasker_core.templates.load import Report

template_app = typer.Typer(no_args_is_help=True, add_completion=False)


@template_app.callback()
def template() -> None:
    """Check and register task templates; generate handlers and templates."""


template_app.command("generate")(scaffold.generate)
template_app.command("list")(scaffold.list_templates)
template_app.command("info")(scaffold.info)
template_app.command("register")(register)


@template_app.command()
def validate(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", exists=True, help="Template files, or directories."),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            "-e",
            metavar="NAME",
            help="Show each template with the overrides of this environment in it.",
        ),
    ] = None,
) -> None:
    """Check template files; the exit code is 3 if one has errors."""
    from tasker_core.errors import Severity
    from tasker_core.templates.load import load_directory

    out: Output = ctx.obj
    reports = [report for path in paths for report in load_directory(path)]
    if not reports:
        raise typer.BadParameter(
            f"no *.yaml or *.yml below {', '.join(map(str, paths))}", param_hint="PATH"
        )
    failing = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    passed = not any(f.severity in failing for r in reports for f in r.findings)
    shown = [f for r in reports for f in r.findings if _is_worth_showing(f, out)]
    out.data(
        _document(reports, passed, environment), lambda: _findings(shown, reports, environment)
    )
    out.note(_summary(reports))
    if not passed:
        raise typer.Exit(ExitCode.INVALID)


def _is_worth_showing(finding: Finding, out: Output) -> bool:
    return finding.severity != "info" or out.options.verbose > 0


def _document(reports: Sequence[Report], passed: bool, environment: str | None) -> dict[str, Any]:
    items = [
        {
            "file": str(report.path),
            "template": report.template.label if report.template else None,
            "valid": report.valid,
            "step_count": report.step_count,
            "has_cycles": report.has_cycles,
            "findings": report.findings,
            **_definition(report, environment),
        }
        for report in reports
    ]
    return {"valid": passed, "items": items, "total": len(items)}


def _definition(report: Report, environment: str | None) -> dict[str, Any]:
    from tasker_core.templates.environments import in_environment

    if environment is None or report.template is None:
        return {}
    return {"definition": in_environment(report.template, environment).definition}


def _findings(
    findings: Iterable[Finding], reports: Sequence[Report], environment: str | None
) -> RenderableType:
    import yaml
    from rich.text import Text

    from tasker_core.cli.output import STYLES
    from tasker_core.observe.visible import visible

    text = Text()
    for finding in findings:
        place = ":".join(str(p) for p in (finding.file, finding.line, finding.column) if p)
        text.append(f"{place}: ", "bold")
        text.append(str(finding.severity), STYLES.get(str(finding.severity), ""))
        text.append(f" {finding.code}: {visible(finding.message)}\n")
        if finding.hint:
            text.append(f"    {visible(finding.hint)}\n", "dim")
    for report in reports:
        if report.template is not None:
            text.append(f"{report.path}: ", "bold")
            text.append("valid", "green")
            text.append(f" {report.template.label}, {_count(report.step_count, 'step')}\n")
            for definition in _definition(report, environment).values():
                shown = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True)
                text.append("".join(f"    {visible(line)}\n" for line in shown.splitlines()))
    text.right_crop(1)
    return text


def _summary(reports: Sequence[Report]) -> str:
    found = [finding.severity for report in reports for finding in report.findings]
    return ", ".join(
        [
            _count(len(reports), "file"),
            _count(sum(severity == "error" for severity in found), "error"),
            _count(sum(severity == "warning" for severity in found), "warning"),
        ]
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
