"""The keys of a step: kinds, bounds, old words, and what to write instead."""

from __future__ import annotations

import pytest

from tasker_core.templates.load import parse_template

HEAD = "name: t\nnamespace_name: ns\nversion: 1.0.0\nsteps:\n"
STEP = "- name: a\n  handler: {callable: x}\n  result_schema: {type: object}\n"


def check(keys, step=STEP):
    """Check a template of one step with some more keys."""
    return parse_template(f"{HEAD}{step}  {keys}\n")


def event(**changes):
    """Write publishes_events with one event, changed."""
    keys = {"name": "a.b", "description": "d", "schema": "{type: object}", **changes}
    inner = ", ".join(f"{key}: {value}" for key, value in keys.items() if value is not None)
    return f"publishes_events: [{{{inner}}}]"


BROKEN = [
    ("UNKNOWN_KEY", "warning", "timeout: 5"),
    ("UNKNOWN_KEY", "warning", "lifecycle: {max_duration_minutes: 5}"),
    ("UNKNOWN_KEY", "warning", "retry: {max_attempt: 5}"),
    ("DEPRECATED_KEY", "warning", "step_type: standard"),
    ("DEPRECATED_KEY", "warning", "retry: {limit: 5}"),
    ("DEPRECATED_KEY", "warning", "retry: {initial_delay: 2}"),
    ("DEPRECATED_KEY", "warning", "retry: {max_delay: 30}"),
    ("COMPOSITION_UNSUPPORTED", "warning", "composition: {invocations: []}"),
    ("BAD_VALUE", "error", "type: standart"),
    ("BAD_VALUE", "error", "dependencies: b"),
    ("BAD_VALUE", "error", "dependencies: [[b]]"),
    ("BAD_VALUE", "error", "retry: 5"),
    ("BAD_VALUE", "error", "retry: {retryable: yes}"),
    ("BAD_VALUE", "error", "retry: {max_attempts: '3'}"),
    ("BAD_VALUE", "error", "retry: {max_attempts: true}"),
    ("BAD_VALUE", "error", "retry: {backoff: exponentail}"),
    ("RETRY_RANGE", "error", "retry: {max_attempts: 101}"),
    ("RETRY_RANGE", "error", "retry: {max_attempts: -1}"),
    ("RETRY_RANGE", "warning", "retry: {max_attempts: 0}"),
    ("RETRY_RANGE", "error", "retry: {backoff_base_ms: -1}"),
    ("RETRY_RANGE", "warning", "retry: {backoff_base_ms: 50}"),
    ("RETRY_RANGE", "warning", "retry: {max_backoff_ms: 3600001}"),
    ("RETRY_RANGE", "warning", "retry: {backoff_base_ms: 3000, max_backoff_ms: 2000}"),
    ("RETRY_RANGE", "info", "retry: {retryable: false, max_attempts: 2}"),
    ("TIMEOUT_RANGE", "error", "timeout_seconds: 0"),
    ("TIMEOUT_RANGE", "error", "timeout_seconds: 86401"),
    ("TIMEOUT_RANGE", "warning", "timeout_seconds: 3601"),
    ("TIMEOUT_RANGE", "warning", "timeout_seconds: 0.5"),
    ("BAD_VALUE", "error", "timeout_seconds: 30s"),
    ("EVENT_NAME_INVALID", "error", event(name=None)),
    ("EVENT_NAME_INVALID", "error", event(name="nodot")),
    ("EVENT_NAME_INVALID", "error", event(name="a..b")),
    ("EVENT_SCHEMA_INVALID", "error", event(schema="{type: x}")),
    ("EVENT_SCHEMA_INVALID", "error", event(schema=None)),
    ("EVENT_PUBLISHER_INVALID", "error", event(publisher="1x")),
    ("BAD_VALUE", "error", event(description=None)),
    ("BAD_VALUE", "error", event(condition="maybe")),
    ("BAD_VALUE", "error", "publishes_events: [order.paid]"),
    ("SCHEMA_INVALID", "error", "consumes: {b: {type: x}}"),
    ("BAD_VALUE", "error", "result_validation: sometimes"),
    ("BAD_VALUE", "error", "system_dependency: 5"),
]


@pytest.mark.parametrize(("code", "severity", "keys"), BROKEN)
def test_each_mistake_has_its_code(code, severity, keys):
    """A step with one mistake has one finding, with a line."""
    (finding,) = check(keys).findings

    assert (finding.code, str(finding.severity)) == (code, severity)
    assert (finding.step, finding.line) == ("a", 8)


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("INVALID_NAME", "- handler: {callable: x}\n  result_schema: {}\n"),
        ("INVALID_NAME", "- name: A b\n  handler: {callable: x}\n"),
        ("EMPTY_CALLABLE", "- name: a\n"),
        ("EMPTY_CALLABLE", "- name: a\n  handler: {}\n"),
        ("EMPTY_CALLABLE", "- name: a\n  handler: {callable: ' '}\n"),
        ("BAD_VALUE", "- name: a\n  handler: do_it\n"),
        ("BAD_VALUE", "- name: a\n  handler: {callable: 5}\n"),
        ("BAD_VALUE", f"- name: a\n  handler: {{callable: {'x' * 501}}}\n"),
        ("SCHEMA_INVALID", "- name: a\n  handler: {callable: x}\n  result_schema: {type: x}\n"),
        ("BAD_VALUE", "- name: a\n  handler: {callable: x}\n  batch_config: {batch_size: 0}\n"),
    ],
)
def test_each_mistake_in_the_main_keys_has_its_code(code, step):
    """Names, handlers and schemas are checked, each under its code."""
    errors = [f.code for f in parse_template(HEAD + step).findings if str(f.severity) == "error"]

    assert errors == [code]


def test_both_words_for_dependencies_are_refused():
    """dependencies and depends_on in one step is an error."""
    second = "- {name: b, handler: {callable: x}, dependencies: [a], depends_on: [a]}\n"

    report = parse_template(HEAD + STEP + second)

    assert [f.code for f in report.findings if str(f.severity) == "error"] == [
        "BOTH_DEPENDENCY_KEYS"
    ]


def test_depends_on_is_dependencies():
    """The other word means the same, and needs no comment."""
    second = "- {name: b, handler: {callable: x}, depends_on: [a], result_schema: {type: object}}\n"

    report = parse_template(HEAD + STEP + second)

    assert report.findings == ()
    assert report.template.step("b").dependencies == ("a",)


def test_repeated_dependencies_are_one():
    """The template has every dependency once."""
    second = "- {name: b, handler: {callable: x}, dependencies: [a, a]}\n"

    assert parse_template(HEAD + STEP + second).template.step("b").dependencies == ("a",)


def test_old_retry_words_are_translated():
    """limit, initial_delay and max_delay become attempts and milliseconds."""
    retry = check("retry: {limit: 7, initial_delay: 2, max_delay: 30.5}").template.step("a").retry

    assert (retry.max_attempts, retry.backoff_base_ms, retry.max_backoff_ms) == (7, 2000, 30_500)


def test_a_key_one_level_too_high_is_sent_home():
    """A handler's key on the step is answered with where it belongs."""
    (finding,) = check("method: run").findings

    assert finding.hint == "it belongs in handler"


def test_a_bare_handler_is_answered_with_the_block():
    """Text for a handler gets the mapping to write."""
    step = "- {name: a, handler: do_it, result_schema: {type: object}}\n"

    (finding,) = parse_template(HEAD + step).findings

    assert finding.hint == "write {callable: do_it}"


def test_yes_is_answered_with_true():
    """YAML 1.1's words for true are explained."""
    (finding,) = check("retry: {retryable: yes}").findings

    assert finding.hint == "write true, without quotes"


def test_the_last_event_of_a_name_counts():
    """Of two declarations of one event the later is kept."""
    events = (
        "publishes_events: [{name: a.b, description: one, schema: {type: object}}, "
        "{name: a.b, description: two, schema: {type: object}}]"
    )

    report = check(events)

    assert [f.code for f in report.findings] == ["DUPLICATE_EVENT"]
    assert [e.description for e in report.template.step("a").publishes_events] == ["two"]


def test_an_empty_batch_config_is_one():
    """A batch_config of defaults only is there, with its defaults."""
    batch = check("batch_config: {}").template.step("a").batch_config

    assert (batch.batch_size, batch.parallelism, batch.cursor_field) == (1000, 10, "id")
