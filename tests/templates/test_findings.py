"""Findings carry places, steps and advice."""

from __future__ import annotations

from tasker_core.errors import Severity
from tasker_core.templates.document import read_document
from tasker_core.templates.findings import Findings, did_you_mean, shown

TEXT = "steps:\n  - name: a\n    retry: {limit: 2}\n"


def test_finding_has_place_pointer_and_step():
    """A path becomes a line, a column, a pointer and the step around it."""
    document, _ = read_document(TEXT)
    findings = Findings(document, "t.yaml")

    findings.warning("CODE", ("steps", 0, "retry", "limit"), "words", at_key=True)

    (finding,) = findings.found
    assert (finding.line, finding.column, finding.step) == (3, 13, "a")
    assert (finding.path, finding.severity) == ("/steps/0/retry/limit", Severity.WARNING)


def test_suggestions_end_where_they_get_dear():
    """Among thousands of names, nothing is suggested."""
    assert did_you_mean("step_x", [f"step_{n}" for n in range(1000)]) is None
    assert did_you_mean("step_x", ["step_y"]) == "did you mean step_y?"


def test_long_values_are_cut():
    """A message shows at most sixty characters of a value."""
    assert len(shown("x" * 1000)) == 60
    assert (shown({}), shown([1, 2]), shown(None)) == ("an empty mapping", "a list of 2", "null")
