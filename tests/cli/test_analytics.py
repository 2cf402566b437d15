"""`tasker-ctl analytics`."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def analytics(ctl, service):
    """Run `tasker-ctl analytics …`."""
    return lambda *words: ctl("--url", service.url, "analytics", *words)


@pytest.fixture
def five_tasks(task):
    """Let five tasks be done."""
    for _ in range(5):
        done = task("create", "demo/hello", "--set", "name=Ada", "--wait")
        assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("five_tasks")
def test_they_show_what_was_measured(analytics):
    """To a person names, values and tables, to a program what the API says."""
    measured = json.loads(analytics("performance", "--hours", 1, "--json").stdout)
    found = json.loads(analytics("bottlenecks", "--limit", 1, "--json").stdout)
    told = analytics("performance", "--namespace", "demo").stdout
    tables = analytics("bottlenecks", "-n", "demo", "--min-executions", 1).stdout

    assert (measured["window_hours"], measured["total_tasks"]) == (1, 5)
    assert len(found["slow_steps"]) == len(found["slow_tasks"]) == 1
    assert "5 created in 24 h" in told
    assert "p95" in told
    assert tables.count("demo/hello@1.0.0") == 3
    assert "greet" in tables


def test_bounds_are_those_of_the_api(ctl):
    """A usage error, before anybody is asked."""
    assert ctl("analytics", "performance", "--hours", 0).exit_code == 2
    assert ctl("analytics", "bottlenecks", "--limit", 101).exit_code == 2
