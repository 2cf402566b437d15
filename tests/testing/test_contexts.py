"""One handler without a database: what it sees, and what a worker would record."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any
from unittest.mock import MagicMock

import pytest

from tasker_core import (
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    StepHandlerResult,
)
from tasker_core.errors import InvalidTemplate, ResolutionError, UnknownTemplate
from tasker_core.handlers.current import current_step
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.testing import build_context, run_handler, run_handler_async

TEMPLATE = """
name: repair
namespace_name: bikes
version: 1.0.0
steps:
  - name: look
    handler: {callable: look, initialization: {light: bright, gloves: true}}
  - name: order_parts
    handler: {callable: order_parts}
    dependencies: [look]
    retry: {max_attempts: 7}
  - name: cut
    type: batchable
    handler: {callable: cut}
    batch_config: {worker_template: file_down}
  - name: file_down
    type: batch_worker
    handler: {callable: file_down}
    dependencies: [cut]
  - name: mount
    type: deferred_convergence
    handler: {callable: mount}
    dependencies: [file_down]
"""


class Weigh(StepHandler):
    handler_name = "weigh"

    def __init__(self, config: dict[str, Any]) -> None:
        self.unit = config.get("unit", "kg")

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success({"weight": f"{context.get_input('weight')} {self.unit}"})

    def tare(self, context: StepContext) -> StepHandlerResult:
        return self.success({"tare": 0})


@step_handler("bikes_stamp")
@depends_on(weighed="weigh")
@inputs("owner")
async def stamp(weighed: dict[str, Any], owner: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"stamp": f"{owner}: {weighed['weight']}"}


# --- contexts -----------------------------------------------------------------------------


def test_a_context_is_made_of_its_parts():
    """Input, results, configuration, attempt and checkpoint are where a handler looks."""
    context = build_context(
        input={"frame": 7},
        results={"look": {"rust": True}},
        config={"light": "dim"},
        step_inputs={"cursor": {"start_cursor": 0}},
        checkpoint={"cursor": 40, "items_processed": 40},
        attempt=2,
        max_attempts=2,
    )

    assert context.get_input("frame") == 7
    assert context.get_dependency_field("look", "rust") is True
    assert context.get_config("light") == "dim"
    assert context.checkpoint_cursor == 40
    assert (context.is_retry(), context.is_last_retry()) == (True, True)


def test_a_template_gives_names_configuration_and_attempts():
    """With a template, the context is that of its step; what is given goes over it."""
    context = build_context(TEMPLATE, "order_parts", results={"look": {}})
    first = build_context(TEMPLATE, "look", config={"light": "dim"})

    assert (context.namespace, context.task_name, context.step_name) == (
        "bikes",
        "repair",
        "order_parts",
    )
    assert context.max_retries == 7
    assert first.step_config == {"light": "dim", "gloves": True}


@pytest.mark.parametrize(
    ("step", "results", "message"),
    [
        ("lok", {}, "did you mean 'look'"),
        ("order_parts", {"loook": {}}, "did you mean 'look'"),
        ("look", {"order_parts": {}}, "does not come after 'order_parts'"),
    ],
)
def test_steps_that_do_not_fit_are_named(step, results, message):
    """A step that does not exist, or does not come before, is a mistake of the test."""
    with pytest.raises(ValueError, match=message):
        build_context(TEMPLATE, step, results=results)


def test_the_steps_of_a_batch_may_have_results():
    """After a batch worker come the results of the steps that it becomes."""
    context = build_context(TEMPLATE, "mount", results={"file_down_000": {"n": 1}})

    assert context.get_all_dependency_results("file_down") == [{"n": 1}]


def test_attempts_are_counted_from_one():
    """Attempt 0 is a mistake."""
    with pytest.raises(ValueError, match="counted from 1"):
        build_context(attempt=0)


def test_a_template_may_be_a_file_a_name_or_a_dict(tmp_path, monkeypatch):
    """A path, a name in the usual directory with or without namespace and version, a dict."""
    directory = tmp_path / "templates"
    directory.mkdir()
    (directory / "old.yaml").write_text(TEMPLATE)
    (directory / "new.yaml").write_text(TEMPLATE.replace("1.0.0", "1.10.0"))
    monkeypatch.chdir(tmp_path)
    plain = {
        "name": "one",
        "namespace_name": "bikes",
        "version": "1.0.0",
        "steps": [{"name": "look", "handler": {"callable": "look"}}],
    }

    versions = [
        build_context(source, "look").task_version
        for source in (
            directory / "old.yaml",
            "templates/old.yaml",
            "repair",
            "bikes/repair@1.0.0",
            plain,
        )
    ]

    assert versions == ["1.0.0", "1.0.0", "1.10.0", "1.0.0", "1.0.0"]
    with pytest.raises(UnknownTemplate, match=r"bikes/repair 1\.0\.0"):
        build_context("repare", "look")
    (directory / "broken.yaml").write_text("name: broken\nsteps: 7\n")
    with pytest.raises(InvalidTemplate, match="broken"):
        build_context("broken", "look")


# --- handlers -----------------------------------------------------------------------------


def test_handlers_of_every_style_run():
    """A class, an object, a decorated function, a function, a name, another method."""
    weighed = {"weigh": {"weight": "9 kg"}}

    assert run_handler(Weigh, input={"weight": 9}).result == {"weight": "9 kg"}
    assert run_handler(Weigh, input={"weight": 9}, config={"unit": "lb"}).result == {
        "weight": "9 lb"
    }
    assert run_handler(Weigh({}), input={"weight": 9}).result == {"weight": "9 kg"}
    assert run_handler(Weigh, method="tare").result == {"tare": 0}
    assert run_handler(stamp, input={"owner": "Ada"}, results=weighed).result == {
        "stamp": "Ada: 9 kg"
    }
    assert run_handler("bikes_stamp", input={"owner": "Ada"}, results=weighed).success
    assert run_handler(lambda context: {"n": context.attempt}, attempt=3).result == {"n": 3}


def test_what_a_handler_returns_is_read_by_the_workers_rule():
    """None, a plain value and a dataclass become results, as they do in a worker."""

    @dataclasses.dataclass
    class Point:
        x: int

    assert run_handler(lambda context: None).result == {}
    assert run_handler(lambda context: 7).result == {"result": 7}
    assert run_handler(lambda context: Point(3)).result == {"x": 3}


@pytest.mark.parametrize(
    ("raised", "error_type", "retryable"),
    [
        (RetryableError("busy", error_code="BUSY"), "retryable_error", True),
        (PermanentError("no"), "permanent_error", False),
        (KeyError("sku"), "handler_error", True),
        (TimeoutError(), "timeout", True),
        (SystemExit(1), "handler_error", False),
    ],
)
def test_what_a_handler_raises_is_a_failed_result(raised, error_type, retryable):
    """Nothing is raised: it is what a worker would record, code and traceback too."""

    def fail(context: StepContext) -> None:
        raise raised

    result = run_handler(fail)

    assert (result.success, result.error_type, result.retryable) == (False, error_type, retryable)
    assert result.error_code == getattr(raised, "error_code", None)


def test_what_cannot_be_stored_is_a_failure():
    """A result that no worker could record is one that a test cannot miss."""
    result = run_handler(lambda context: {"file": object()})

    assert (result.error_type, result.retryable) == ("invalid_result", False)
    assert result.metadata == {"path": "/file"}


def test_a_test_that_fails_inside_of_a_handler_fails():
    """`pytest.fail` and Ctrl-C go through."""
    with pytest.raises(pytest.fail.Exception):
        run_handler(lambda context: pytest.fail("wrong"))
    with pytest.raises(KeyboardInterrupt):
        run_handler(MagicMock(spec=[], side_effect=KeyboardInterrupt))


def test_the_handlers_logs_know_their_step():
    """While a handler runs, it is the current step; afterwards there is none."""
    seen = run_handler(lambda context: {"step": current_step().step_name}, step_name="weigh")

    assert seen.result == {"step": "weigh"}
    assert current_step() is None


def test_mocks_of_contexts_are_contexts():
    """A MagicMock will do."""
    context = MagicMock()
    context.get_input = MagicMock(return_value=4)

    assert run_handler(Weigh({}), context).result == {"weight": "4 kg"}
    with pytest.raises(TypeError, match="not both"):
        run_handler(Weigh, context, input={})


def test_what_is_no_handler_is_said():
    """An unknown name, an unknown method, a number."""
    with pytest.raises(ResolutionError, match="no registered"):
        run_handler("no_such_handler")
    with pytest.raises(ResolutionError, match="does not have method"):
        run_handler(Weigh, method="lift")
    with pytest.raises(ResolutionError, match="no StepHandler"):
        run_handler(7)


async def test_an_async_handler_runs_on_the_loop_of_the_test():
    """The async twin lets it use what belongs to that loop; a sync one goes to a thread."""
    loop = asyncio.get_running_loop()

    async def here(context: StepContext) -> dict[str, bool]:
        return {"here": asyncio.get_running_loop() is loop}

    assert (await run_handler_async(here)).result == {"here": True}
    assert (await run_handler_async(Weigh, input={"weight": 1})).success
    assert (await run_handler_async(lambda context: 1 / 0)).error_type == "handler_error"
    assert run_handler(here).result == {"here": False}


def test_the_template_is_as_it_is_in_tests():
    """Its overrides for the environment `test` hold, or those that the test names."""
    more = "environments: {test: {steps: [{name: look, handler: {initialization: {light: dim}}}]}}"
    there = build_context(f"{TEMPLATE}\n{more}", "look")
    live = build_context(f"{TEMPLATE}\n{more}", "look", environment="production")

    assert there.step_config == {"light": "dim", "gloves": True}
    assert live.step_config == {"light": "bright", "gloves": True}
