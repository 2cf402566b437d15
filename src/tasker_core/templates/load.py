"""Files in, reports out: find templates, read them, check them.

Whatever is wrong with a file is a finding with a line, never a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tasker_core.errors import Finding, InvalidTemplate, Severity
from tasker_core.templates.document import read_document
from tasker_core.templates.findings import Findings
from tasker_core.templates.model import TaskTemplate
from tasker_core.templates.shape import read_shape
from tasker_core.templates.validate import validate


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one file."""

    template: TaskTemplate | None  # None when there is an error
    findings: tuple[Finding, ...]  # in the order of the file
    path: Path | None = None
    step_count: int = 0
    has_cycles: bool = False

    @property
    def valid(self) -> bool:
        """Whether no finding is an error; warnings do not count."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


def load_template(path: Path | str) -> TaskTemplate:
    """Load one template.

    Raises:
        InvalidTemplate: With all findings, when at least one is an error.
    """
    report = read_template(path)
    if report.template is None:
        raise InvalidTemplate(report.findings)
    return report.template


def load_directory(path: Path | str) -> list[Report]:
    """Read every template below a directory; a second file for one version is an error."""
    reports: list[Report] = []
    first: dict[tuple[str, str, str], str] = {}
    for file in find_template_files(path):
        report = read_template(file)
        template = report.template
        if template is not None:
            key = (template.namespace, template.name, template.version)
            if key in first:
                report = _duplicate(report, template, first[key])
            else:
                first[key] = str(file)
        reports.append(report)
    return reports


USUAL_DIRECTORIES = (
    "config/tasks",
    "config/tasker/templates",
    "app/config/templates",
    "templates",
)


def find_template_directory(chosen: Path | None = None, *, root: Path | None = None) -> Path | None:
    """Say where the templates of a project are: where it was said, or a usual place.

    Args:
        chosen: What the settings say, if anything.
        root: The project's directory; None is the working directory.
    """
    if chosen is not None:
        return chosen
    places = ((root or Path.cwd()) / place for place in USUAL_DIRECTORIES)
    return next((place for place in places if place.is_dir() and find_template_files(place)), None)


def find_template_files(path: Path | str) -> list[Path]:
    """List `*.yaml` and `*.yml` below a directory, sorted; a file gives itself."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = (file for pattern in ("*.yaml", "*.yml") for file in path.rglob(pattern))
    return sorted(file for file in found if file.is_file())


def read_template(path: Path | str) -> Report:
    """Read and check one file."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        return _unreadable(path, f"the file cannot be read: {error.strerror or error}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"byte {error.start} is not UTF-8: {error.reason}"
        return _unreadable(path, message, line, "save the file as UTF-8")
    return parse_template(text, str(path))


def parse_template(text: str, file: str | None = None) -> Report:
    """Check a template that is already text, YAML or JSON.

    Args:
        file: What findings call it.
    """
    path = None if file is None else Path(file)
    document, faults = read_document(text, file)
    if document is None:
        return Report(None, tuple(faults), path)
    findings = Findings(document, file)
    definition = read_shape(findings)
    has_cycles = validate(definition, findings)
    found = sorted([*faults, *findings.found], key=lambda f: (f.line or 0, f.column or 0))
    report = Report(None, tuple(found), path, len(definition["steps"]), has_cycles)
    if not report.valid:
        return report
    return replace(report, template=TaskTemplate.from_definition(definition))


def _unreadable(
    path: Path, message: str, line: int | None = None, hint: str | None = None
) -> Report:
    finding = Finding(
        "UNREADABLE_FILE", Severity.ERROR, message, file=str(path), line=line, hint=hint
    )
    return Report(None, (finding,), path)


def _duplicate(report: Report, template: TaskTemplate, first: str) -> Report:
    finding = Finding(
        "DUPLICATE_TEMPLATE",
        Severity.ERROR,
        f"{template.label} is also in {first}",
        file=str(report.path),
        path="/version",
        hint="raise the version of one, or leave one out",
    )
    return replace(report, template=None, findings=(finding, *report.findings))
