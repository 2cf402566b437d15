"""What an assertion says when it does not hold."""

from __future__ import annotations

import pytest

from tasker_core import PermanentError, RetryableError

FLOW = """
name: bake
namespace_name: kitchen
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: mix
    handler: {callable: mix}
    publishes_events:
      - {name: dough.ready, description: It has risen, schema: {type: object}}
  - name: bake
    handler: {callable: bake}
    dependencies: [mix]
    retry: {backoff: linear, backoff_base_ms: 60000, max_backoff_ms: 60000}
  - name: eat
    handler: {callable: eat}
    dependencies: [bake]
"""


@pytest.fixture
def blocked(tasker):
    """A run in which the oven was cold."""
    return tasker.run(
        FLOW,
        mocks={"mix": {"grams": 500}, "bake": PermanentError("the oven is cold", error_code="C")},
    )


@pytest.fixture
def done(tasker):
    """A run that is complete."""
    return tasker.run(FLOW, mocks={"mix": {"grams": 500}, "bake": {}, "eat": {}})


SHOWN = """

task kitchen/bake is blocked_by_failures
  mix   complete, 1 attempt
  bake  error, 1 attempt, permanent_error C: the oven is cold
  eat   pending"""


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (
            lambda run: run.assert_complete(),
            "the task should be complete, and is blocked_by_failures",
        ),
        (
            lambda run: run.assert_blocked("mix"),
            "step 'mix' should have failed; failed: bake",
        ),
        (
            lambda run: run.assert_blocked("bake", error_code="D"),
            "step 'bake' failed with {'error_code': 'C', 'error_type': 'permanent_error', "
            "'message': 'the oven is cold'}, and not with {'error_code': 'D'}",
        ),
        (lambda run: run.assert_step("eat", "complete"), "step 'eat' should be complete, and is"),
        (lambda run: run.assert_ran("mix", "eat"), "step 'eat' never ran"),
        (lambda run: run.assert_ran("bake", "mix"), "'mix' ran before 'bake', and not after it"),
        (
            lambda run: run.assert_never_ran("mix", "bake"),
            "steps 'mix', 'bake' should never have run",
        ),
        (
            lambda run: run.assert_attempts("bake", 3),
            "step 'bake' should have had 3 attempts, and had 1: error",
        ),
        (
            lambda run: run.assert_event("bread.ready"),
            "event 'bread.ready' was not published; published: dough.ready",
        ),
        (
            lambda run: run.assert_event("dough.ready", grams=400),
            "no event 'dough.ready' has {'grams': 400}, but there is dough.ready {'grams': 500}",
        ),
        (
            lambda run: run.assert_no_event("dough.*"),
            "event 'dough.ready' was published, with {'grams': 500}",
        ),
    ],
)
def test_a_demand_that_does_not_hold_is_explained(blocked, demand, message):
    """First what is wrong, then the whole task, a line a step."""
    with pytest.raises(AssertionError) as caught:
        demand(blocked)

    text = str(caught.value)
    assert text.startswith(message)
    assert text.endswith(SHOWN)


def test_a_task_that_only_waits_says_how_to_go_on(tasker):
    """The most usual reason has its advice, and the step says how long it waits."""
    run = tasker.run(FLOW, mocks={"mix": {}, "bake": RetryableError("not yet"), "eat": {}})

    with pytest.raises(AssertionError, match=r"run\.advance.*skip_waits") as caught:
        run.assert_complete()
    assert "waiting_for_retry, 1 attempt, next in 60 s" in str(caught.value)


def test_what_holds_is_silent(blocked, done):
    """Nothing is raised."""
    blocked.assert_blocked()
    blocked.assert_blocked("bake", error_code="C", error_type="permanent_error", match="cold")
    blocked.assert_never_ran("eat")
    blocked.assert_event("dough.ready", grams=500)
    blocked.assert_no_event("bread.*")
    done.assert_complete()
    done.assert_ran("mix", "bake", "eat")
    done.assert_attempts("eat", 1)
    assert done.steps["bake"].error is None
    assert blocked.steps["bake"].error_code == "C"


def test_a_step_that_does_not_exist_is_a_mistake_of_the_test(done):
    """A slip of the pen must not make an assertion hold."""
    for demand in (
        lambda: done.assert_never_ran("eet"),
        lambda: done.assert_ran("eet"),
        lambda: done.assert_attempts("eet", 0),
        lambda: done.attempts("eet"),
        lambda: done.reset("eet"),
    ):
        with pytest.raises(ValueError, match="did you mean 'eat'"):
            demand()
    with pytest.raises(KeyError, match="no step 'eet'"):
        done.results["eet"]
