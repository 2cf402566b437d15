"""What a template says in one environment."""

from __future__ import annotations

import pytest

from support.flows import template
from tasker_core.templates.environments import in_environment
from tasker_core.templates.model import RetryPolicy

STEPS = [
    {
        "name": "pay",
        "handler": {"callable": "pay", "initialization": {"url": "live", "currency": "eur"}},
        "timeout_seconds": 60,
        "retry": {"max_attempts": 7, "backoff": "linear"},
    },
    {"name": "mail", "handler": {"callable": "mail"}, "dependencies": ["pay"]},
]
OVERRIDES = [
    {"name": "pay", "handler": {"initialization": {"url": "named"}}, "retry": {"max_attempts": 3}},
    {
        "name": "ALL",
        "handler": {"initialization": {"url": "all", "dry_run": True}},
        "timeout_seconds": 5,
        "retry": {"retryable": False},
    },
]


@pytest.fixture
def flow():
    """A template with overrides for tests, the one for all steps written last."""
    return template(steps=STEPS, environments={"test": {"steps": OVERRIDES}})


def test_the_one_for_all_goes_first(flow):
    """What names a step goes over it, wherever it is written."""
    pay = in_environment(flow, "test").step("pay")

    assert pay.handler.initialization == {"url": "named", "currency": "eur", "dry_run": True}
    assert pay.timeout_seconds == 5


def test_a_retry_block_takes_the_place_of_the_other(flow):
    """What it leaves out is the default, not what the step or the other override says."""
    there = in_environment(flow, "test")

    assert there.step("pay").retry == RetryPolicy()
    assert there.step("mail").retry == RetryPolicy(retryable=False)


def test_a_step_that_nobody_names_has_what_is_for_all(flow):
    """Its handler stays what it was."""
    mail = in_environment(flow, "test").step("mail")

    assert (mail.handler.callable, mail.dependencies) == ("mail", ("pay",))
    assert mail.handler.initialization == {"url": "all", "dry_run": True}


def test_elsewhere_nothing_changes(flow):
    """The template itself is what holds in an environment of which it says nothing."""
    assert in_environment(flow, "production") is flow
    assert flow.step("pay").handler.initialization["url"] == "live"
