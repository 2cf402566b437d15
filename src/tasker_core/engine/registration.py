"""Register the templates of directories; what is wrong with one does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from tasker_core.db.connect import Connection
from tasker_core.engine.register import register_template
from tasker_core.errors import Finding, InvalidRequest, InvalidTemplate, Severity, TemplateError
from tasker_core.templates.load import Report, load_directory
from tasker_core.templates.model import TaskTemplate

_log = structlog.get_logger("tasker.templates")


@dataclass(frozen=True, slots=True)
class TemplateOutcome:
    """What became of one file."""

    path: Path | None
    label: str | None  # namespace/name version; None: not even that could be read
    outcome: Literal["registered", "unchanged", "refused"]
    reason: str | None  # of a refusal
    findings: tuple[Finding, ...]
    template: TaskTemplate | None = None

    @property
    def warnings(self) -> list[str]:
        """What is probably not meant so, each with its place and what was meant."""
        return [str(one) for one in self.findings if one.severity is Severity.WARNING]


async def register_directories(
    conn: Connection,
    directories: Iterable[Path | str],
    *,
    strict: bool = False,
    force: bool = False,
    logs: bool = True,
) -> list[TemplateOutcome]:
    """Register every template below these directories.

    Args:
        conn: A connection.
        directories: Where to look.
        strict: Let the first template that is refused stop everything.
        force: Put changed definitions in force although tasks have used their versions.
        logs: Log what became of each; False: the caller tells it.

    Raises:
        InvalidTemplate: A template has errors, and `strict` is set.
        TemplateChanged: Tasks used another definition under this version; likewise.
    """
    outcomes = []
    for directory in directories:
        for report in load_directory(directory):
            outcome = await _register(conn, report, strict=strict, force=force)
            if logs:
                _tell(outcome)
            outcomes.append(outcome)
    return outcomes


async def _register(
    conn: Connection, report: Report, *, strict: bool, force: bool
) -> TemplateOutcome:
    template = report.template
    label = template.label if template is not None else None
    try:
        if template is None:
            raise InvalidTemplate(report.findings)
        done = await register_template(conn, template, force=force)
    except (TemplateError, InvalidRequest) as error:
        if strict:
            raise
        return TemplateOutcome(report.path, label, "refused", str(error), report.findings, template)
    return TemplateOutcome(report.path, label, done.outcome, None, report.findings, template)


def _tell(outcome: TemplateOutcome) -> None:
    where = str(outcome.path)
    for warning in outcome.warnings:
        _log.warning("template_finding", finding=warning)
    if outcome.outcome == "refused":
        _log.error("template_refused", path=where, reason=outcome.reason)
    else:
        _log.info("template_" + outcome.outcome, path=where, template=outcome.label)
