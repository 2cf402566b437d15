"""The keys of the top level: kinds, bounds, and what to write instead."""

from __future__ import annotations

import pytest

from tasker_core.templates.load import parse_template

HEAD = "name: t\nnamespace_name: ns\nversion: 1.0.0\n"
STEPS = "steps:\n- {name: a, handler: {callable: x}, result_schema: {type: object}}\n"


def check(text):
    """Check a template whose step is well; give its findings."""
    return parse_template(text + STEPS).findings


def test_a_full_template_has_no_findings():
    """Every key of the top level is accepted."""
    text = (
        HEAD + "description: all\nidentity_strategy: caller_provided\non_failure: continue\n"
        "give_up_after: 60\nresult_validation: warn\nloaded_from: a/b.yaml\n"
        "metadata: {author: us, tags: [x], created_at: 2024-05-01T00:00:00Z, notes: {any: 1}}\n"
        "task_handler: {callable: x.Y, initialization: {input_validation: "
        "{required_fields: [a]}}}\n"
        "system_dependencies: {primary: ledger, secondary: [mail]}\n"
        "domain_events: [{name: order.made, description: d, schema: {type: object}}]\n"
        "input_schema: {type: object}\n"
        "lifecycle: {max_duration_minutes: 5, max_waiting_for_retry_minutes: 5, "
        "staleness_action: error, auto_fail_on_timeout: true}\n"
        "environments: {test: {steps: [{name: ALL, timeout_seconds: 5, retry: {max_attempts: 1}, "
        "handler: {initialization: {k: 1}}}]}, production: null}\n"
        "x-anchors: {any: thing}\n"
    )

    report = parse_template(text + STEPS)

    assert report.findings == ()
    assert report.template.give_up_after == 60
    assert report.template.lifecycle.staleness_action == "error"
    assert report.template.environments["test"]["steps"][0]["retry"] == {"max_attempts": 1}
    assert "loaded_from" not in report.template.definition


BROKEN = [
    ("INVALID_NAME", "error", "namespace_name: ns\nversion: 1.0.0\n"),
    ("INVALID_NAME", "error", "name: Order\nnamespace_name: ns\nversion: 1.0.0\n"),
    ("INVALID_NAME", "error", "name: 5\nnamespace_name: ns\nversion: 1.0.0\n"),
    ("INVALID_NAME", "error", "name: t\nversion: 1.0.0\n"),
    ("NAMESPACE_TOO_LONG", "error", f"name: t\nnamespace_name: {'n' * 30}\nversion: 1.0.0\n"),
    ("INVALID_VERSION", "error", "name: t\nnamespace_name: ns\n"),
    ("INVALID_VERSION", "error", "name: t\nnamespace_name: ns\nversion: 1.0\n"),
    ("INVALID_VERSION", "error", "name: t\nnamespace_name: ns\nversion: v1.0.0\n"),
    ("INVALID_VERSION", "error", "name: t\nnamespace_name: ns\nversion: [1]\n"),
    ("UNKNOWN_KEY", "warning", HEAD + "descripton: x\n"),
    ("BAD_VALUE", "error", HEAD + "description: 5\n"),
    ("BAD_VALUE", "error", HEAD + "identity_strategy: stricct\n"),
    ("BAD_VALUE", "error", HEAD + "on_failure: stop\n"),
    ("BAD_VALUE", "error", HEAD + "give_up_after: -1\n"),
    ("BAD_VALUE", "error", HEAD + "give_up_after: soon\n"),
    ("BAD_VALUE", "error", HEAD + "metadata: [a]\n"),
    ("BAD_VALUE", "error", HEAD + "metadata: {tags: a}\n"),
    ("BAD_VALUE", "error", HEAD + "system_dependencies: {secondary: [1]}\n"),
    ("BAD_VALUE", "error", HEAD + "domain_events: [{description: d}]\n"),
    ("DUPLICATE_EVENT", "warning", HEAD + "domain_events: [{name: a.b}, {name: a.b}]\n"),
    ("SCHEMA_INVALID", "error", HEAD + "domain_events: [{name: a.b, schema: {type: x}}]\n"),
    ("SCHEMA_INVALID", "error", HEAD + "input_schema: {type: strng}\n"),
    ("SCHEMA_INVALID", "error", HEAD + "input_schema: [type]\n"),
    ("SCHEMA_INVALID", "error", HEAD + "input_schema: {$ref: 'http://example.org/x'}\n"),
    ("SCHEMA_NOT_OBJECT", "warning", HEAD + "input_schema: {type: array}\n"),
    ("LIFECYCLE_RANGE", "error", HEAD + "lifecycle: {max_duration_minutes: 0}\n"),
    ("LIFECYCLE_RANGE", "error", HEAD + "lifecycle: {max_steps_in_process_minutes: 10081}\n"),
    ("BAD_VALUE", "error", HEAD + "lifecycle: {staleness_action: nothing}\n"),
    ("BAD_VALUE", "error", HEAD + "lifecycle: {auto_fail_on_timeout: 'yes'}\n"),
    ("BAD_VALUE", "error", HEAD + "task_handler: x.Y\n"),
    (
        "BAD_VALUE",
        "error",
        HEAD + "task_handler: {initialization: {input_validation: {required_fields: a}}}\n",
    ),
    ("BAD_VALUE", "error", HEAD + "environments: {test: {steps: [{timeout_seconds: 5}]}}\n"),
    (
        "RETRY_RANGE",
        "error",
        HEAD + "environments: {t: {steps: [{name: a, retry: {max_attempts: -1}}]}}\n",
    ),
    ("INVALID_NAME", "error", HEAD + "environments: {'on prod': {steps: []}}\n"),
    ("UNKNOWN_KEY", "warning", HEAD + "environments: {test: {stepps: []}}\n"),
    ("UNKNOWN_KEY", "warning", HEAD + "environments: {test: {steps: [{name: a, type: x}]}}\n"),
    ("DUPLICATE_KEY", "error", HEAD + "name: t\n"),
]


@pytest.mark.parametrize(("code", "severity", "text"), BROKEN)
def test_each_mistake_has_its_code(code, severity, text):
    """A template with one mistake has one finding, with a line."""
    (finding,) = check(text)

    assert (finding.code, str(finding.severity)) == (code, severity)
    assert finding.line is not None


@pytest.mark.parametrize("steps", ["", "steps: []\n", "steps:\n"])
def test_a_template_has_steps(steps):
    """No steps, in whatever way, is one error."""
    assert [f.code for f in parse_template(HEAD + steps).findings] == ["NO_STEPS"]


@pytest.mark.parametrize("steps", ["steps: {a: b}\n", "steps: a\n", "steps: [a]\n"])
def test_steps_are_a_list_of_mappings(steps):
    """Something else in the place of steps is a bad value, and nothing more."""
    assert [f.code for f in parse_template(HEAD + steps).findings] == ["BAD_VALUE"]


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "5\n"])
def test_a_template_is_a_mapping(text):
    """A document of another kind is a bad value, and nothing more."""
    assert [f.code for f in parse_template(text).findings] == ["BAD_VALUE"]


@pytest.mark.parametrize(
    ("version", "better"),
    [("1.0", '"1.0.0"'), ("1.10", '"1.10.0"'), ("2", '"2.0.0"'), ("v1.2.3", '"1.2.3"')],
)
def test_a_version_is_mended(version, better):
    """The hint is a version to write, from the number as it was written."""
    (finding,) = check(f"name: t\nnamespace_name: ns\nversion: {version}\n")

    assert finding.hint == f"write version: {better}"


def test_names_are_mended():
    """A name in another style is answered with the one to write."""
    (finding,) = check("name: OrderProcessing-V2\nnamespace_name: ns\nversion: 1.0.0\n")

    assert finding.hint == "write name: order_processing_v2"


def test_prereleases_are_versions():
    """Semver with a pre-release and a build is accepted."""
    assert check("name: t\nnamespace_name: ns\nversion: 1.0.0-rc.1+build.5\n") == ()


def test_many_mistakes_are_told_at_once():
    """Findings of all kinds come together, in the order of the file."""
    report = parse_template(
        "name: T\nversion: 1.0\nfoo: 1\nsteps:\n- name: a\n  handler: {}\n  dependencies: [b]\n"
    )

    errors = [(f.line, f.code) for f in report.findings if str(f.severity) != "info"]
    assert errors == [
        (1, "INVALID_NAME"),
        (1, "INVALID_NAME"),
        (2, "INVALID_VERSION"),
        (3, "UNKNOWN_KEY"),
        (5, "EMPTY_CALLABLE"),
        (7, "MISSING_DEP_REF"),
    ]
