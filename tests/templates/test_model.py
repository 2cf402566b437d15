"""Templates as the engine sees them: defaults, retries, digests."""

from __future__ import annotations

import orjson
import pytest

from tasker_core.templates.load import parse_template
from tasker_core.templates.model import RetryPolicy, TaskTemplate

HEAD = "name: t\nnamespace_name: ns\nversion: 1.0.0\n"


def test_defaults_are_filled(order):
    """What the YAML leaves out has its documented default."""
    step = order.step("take_payment")

    assert (step.type, step.handler.method, step.handler.initialization) == ("standard", "call", {})
    assert step.retry == RetryPolicy()
    assert (order.identity_strategy, order.on_failure, order.give_up_after) == (
        "strict",
        "halt",
        None,
    )
    assert order.system_dependencies.primary == "default"


def test_label_and_required_fields(order):
    """A template names itself, and the fields that it requires."""
    assert order.label == "shop/order_processing 1.0.0"
    assert order.required_fields == ("items", "email")


def test_unknown_step_is_a_key_error(order):
    """Asking for a step that is not there is a mistake of the program."""
    with pytest.raises(KeyError):
        order.step("nothing")


@pytest.mark.parametrize(
    ("policy", "executions"),
    [
        (RetryPolicy(), 3),
        (RetryPolicy(max_attempts=0), 1),
        (RetryPolicy(max_attempts=7), 7),
        (RetryPolicy(retryable=False, max_attempts=7), 1),
    ],
)
def test_executions(policy, executions):
    """A step runs at least once, and once only when it is not retryable."""
    assert policy.executions == executions


@pytest.mark.parametrize(
    ("retry", "delay"),
    [
        ("", 2000),
        ("retry: {max_attempts: 5}", 2000),
        ("retry: {backoff_base_ms: 1000}", 1000),
        ("retry: {backoff_base_ms: 250}", 250),
        ("retry: {backoff: linear}", 1000),
        ("retry: {backoff: fibonacci, backoff_base_ms: 250}", 250),
    ],
)
def test_first_delay(retry, delay):
    """Only exponential backoff without a base of its own begins at twice the base."""
    text = f"{HEAD}steps:\n- name: a\n  handler: {{callable: x}}\n  {retry}\n"

    assert parse_template(text).template.step("a").retry.first_delay_ms == delay


def test_a_definition_survives_the_database(order):
    """Read back from JSON, the template is the same."""
    again = TaskTemplate.from_definition(orjson.loads(orjson.dumps(order.definition)))

    assert again == order
    assert again.steps == order.steps
    assert hash(again) == hash(order)


def test_keys_of_a_later_program_are_left_aside(order):
    """A definition with unknown keys still makes a template."""
    definition = orjson.loads(orjson.dumps(order.definition))
    definition["colour"] = definition["steps"][0]["colour"] = "red"

    assert TaskTemplate.from_definition(definition).step("validate_cart").name == "validate_cart"


def test_digest_is_of_the_meaning():
    """Order of keys, comments, style, path and spelled-out defaults change no digest."""
    plain = f"{HEAD}steps:\n- name: a\n  handler: {{callable: x}}\n"
    spelled = (
        "# a comment\nversion: '1.0.0'\nnamespace_name: ns\nidentity_strategy: strict\n"
        "on_failure: halt\nmetadata: {}\nsystem_dependencies: {primary: default, secondary: []}\n"
        'steps:\n- handler: {method: call, callable: "x"}\n  name: a\n  type: standard\n'
        "  dependencies: []\n  retry: {max_attempts: 3, backoff: exponential}\nname: t\n"
    )

    one, other = parse_template(plain, "a.yaml"), parse_template(spelled, "b.yaml")

    assert one.template.digest == other.template.digest


@pytest.mark.parametrize(
    "change", ["  retry: {backoff_base_ms: 1000}", "  timeout_seconds: 5", "on_failure: continue"]
)
def test_digest_changes_with_the_meaning(change):
    """Whatever changes what happens changes the digest; a given base does."""
    plain = f"{HEAD}steps:\n- name: a\n  handler: {{callable: x}}\n"

    digests = {parse_template(text).template.digest for text in (plain, f"{plain}{change}\n")}

    assert len(digests) == 2


def test_step_validation_falls_back_to_the_templates():
    """result_validation of the template holds for steps without their own."""
    template = parse_template(
        f"{HEAD}result_validation: enforce\nsteps:\n"
        "- {name: a, handler: {callable: x}}\n"
        "- {name: b, handler: {callable: x}, result_validation: 'off', dependencies: [a]}\n"
    ).template

    assert [step.result_validation for step in template.steps] == ["enforce", "off"]
