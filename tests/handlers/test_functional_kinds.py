"""Functions as API handlers, decisions, analyzers and batch workers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.errors import RateLimitError
from tasker_core.handlers.api import APIMixin
from tasker_core.handlers.batch import (
    Batchable,
    BatchAnalyzerOutcome,
    BatchWorkerContext,
    BatchWorkerOutcome,
)
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.decision import DecisionMixin, DecisionPointOutcome
from tasker_core.handlers.functional import depends_on, inputs
from tasker_core.handlers.functional_kinds import (
    BatchConfig,
    Decision,
    api_handler,
    batch_analyzer,
    batch_worker,
    decision_handler,
)
from tasker_core.handlers.result import StepHandlerResult


def run(function: Any, context: Any = None) -> Any:
    return function.handler_class().call(context or StepContext.for_testing())


DECORATORS: dict[str, Callable[[str], Any]] = {
    "api": lambda name: api_handler(name, base_url="https://api.example.com"),
    "decision": decision_handler,
    "analyzer": lambda name: batch_analyzer(name, worker_template="work"),
    "worker": batch_worker,
}
RETURNED: dict[str, Any] = {
    "api": {"a": 1},
    "decision": Decision.route(["a"]),
    "analyzer": BatchConfig(4, 2),
    "worker": {"items_processed": 1},
}
BASES = {"api": APIMixin, "decision": DecisionMixin, "analyzer": Batchable, "worker": Batchable}


@pytest.mark.parametrize("kind", DECORATORS)
@given(order=st.permutations(["handler", "depends_on", "inputs"]))
def test_decorators_may_stand_in_any_order(kind: str, order: list[str]):
    """Each kind goes with `depends_on` and `inputs` above and below it."""
    decorators: dict[str, Callable[[Any], Any]] = {
        "handler": DECORATORS[kind](f"kinds.order.{kind}"),
        "depends_on": depends_on(cart="validate_cart"),
        "inputs": inputs("email"),
    }
    seen = {}

    def handle(cart: Any, email: Any) -> Any:
        seen.update(cart=cart, email=email)
        return RETURNED[kind]

    decorated = functools.reduce(lambda f, name: decorators[name](f), order, handle)
    context = StepContext.for_testing(
        input_data={"email": "a@b"}, dependency_results={"validate_cart": {"n": 1}}
    )

    assert decorated is handle
    assert run(handle, context).success is True
    assert seen == {"cart": {"n": 1}, "email": "a@b"}


@pytest.mark.parametrize("kind", DECORATORS)
async def test_sync_and_async_functions_do_the_same(kind: str):
    """Also a sync function that gives an awaitable."""

    @DECORATORS[kind](f"kinds.sync.{kind}")
    def sync_function() -> Any:
        return RETURNED[kind]

    @DECORATORS[kind](f"kinds.async.{kind}")
    async def async_function() -> Any:
        return RETURNED[kind]

    @DECORATORS[kind](f"kinds.later.{kind}")
    def later() -> Any:
        return async_function()

    expected = run(sync_function)
    assert expected.success is True
    assert (await run(async_function)).result == expected.result
    assert (await run(later)).result == expected.result


@pytest.mark.parametrize("kind", DECORATORS)
async def test_errors_come_back_as_results(kind: str):
    """By the rule for all handlers."""

    @DECORATORS[kind](f"kinds.raises.{kind}")
    def raises() -> Any:
        raise RateLimitError("slow", retry_after=3)

    @DECORATORS[kind](f"kinds.raises_async.{kind}")
    async def raises_async() -> Any:
        raise RateLimitError("slow", retry_after=3)

    for result in (run(raises), await run(raises_async)):
        assert (result.error_type, result.retry_after_seconds) == ("retryable_error", 3.0)


@pytest.mark.parametrize("kind", DECORATORS)
def test_the_class_behind_a_function_has_the_helpers(kind: str):
    """It is a handler with the mixin of its kind, named like the function."""

    @DECORATORS[kind](f"kinds.bases.{kind}")
    def named() -> None: ...

    made = named.handler_class
    assert issubclass(made, BASES[kind])
    assert (made.__name__, made.handler_name) == ("named", f"kinds.bases.{kind}")


@pytest.mark.parametrize(
    ("decorator", "name"),
    [(decision_handler, "decision_handler"), (batch_analyzer, "batch_analyzer")],
)
def test_a_name_is_needed(decorator: Any, name: str):
    """The message shows the decorator that was meant."""
    with pytest.raises(TypeError, match=rf'write @{name}\("a name"\)'):
        decorator(lambda: None)


# --- API ------------------------------------------------------------------------------


def test_an_api_function_gets_the_handler():
    """With its own address, time-out and headers, and every helper."""

    @api_handler(
        "kinds.fetch",
        base_url="https://api.example.com",
        timeout=5,
        default_headers={"x-team": "shop"},
    )
    @inputs("user_id")
    def fetch(user_id: int, api: Any, context: StepContext) -> Any:
        response = api.get(f"/users/{user_id}")
        return api.api_success(response) if response.ok else api.api_failure(response)

    handler = fetch.handler_class()  # type: ignore[attr-defined]
    assert handler.capabilities == ["process", "http", "api"]
    assert str(handler.client.base_url) == "https://api.example.com"
    assert handler.client.timeout == httpx.Timeout(5)
    assert handler.client.headers["x-team"] == "shop"

    for status, retryable in ((200, None), (404, False), (503, True)):
        handler._client = httpx.Client(
            base_url=handler.base_url,
            transport=httpx.MockTransport(
                lambda request, status=status: httpx.Response(
                    status, json={"path": request.url.path}
                )
            ),
        )
        result = handler.call(StepContext.for_testing(input_data={"user_id": 7}))
        if retryable is None:
            assert result.result == {"path": "/users/7"}
        else:
            assert (result.success, result.retryable) == (False, retryable)


def test_tests_may_replace_a_verb():
    """As generated tests do."""

    @api_handler("kinds.patched", base_url="https://api.example.com")
    def fetch(_api: Any) -> Any:
        return _api.api_success(_api.get("/"))

    handler = fetch.handler_class()  # type: ignore[attr-defined]
    handler.get = MagicMock(return_value=MagicMock(status_code=200, headers={}, body={"a": 1}))

    assert handler.call(StepContext.for_testing()).result == {"a": 1}


async def test_an_async_api_function_awaits_its_requests():
    """With the verbs that begin with `a`."""

    @api_handler("kinds.fetch_async", base_url="https://api.example.com")
    async def fetch(api: Any) -> Any:
        return api.api_success(await api.aget("/users"))

    handler = fetch.handler_class()  # type: ignore[attr-defined]
    handler._async_client = httpx.AsyncClient(
        base_url=handler.base_url,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"a": 1})),
    )

    assert (await handler.call(StepContext.for_testing())).result == {"a": 1}
    await handler.aclose()


def test_the_extra_parameter_may_be_left_out_or_swept_up():
    """A function need not take it; `**kwargs` does."""

    @api_handler("kinds.without", base_url="https://api.example.com")
    def without() -> dict[str, int]:
        return {"a": 1}

    @api_handler("kinds.sweeps", base_url="https://api.example.com")
    def sweeps(**given: Any) -> dict[str, Any]:
        return {"given": sorted(given)}

    assert run(without).result == {"a": 1}
    assert run(sweeps).result == {"given": ["api"]}


def test_the_extra_parameter_cannot_be_declared():
    """It always is what the decorator gives."""
    with pytest.raises(TypeError, match="'api' always is what the decorator gives"):

        @api_handler("kinds.clash", base_url="https://api.example.com")
        @inputs("api")
        def clash(api: Any) -> None: ...


# --- decisions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (Decision.route(["a", "b"]), ["a", "b"]),
        (Decision.route("a"), ["a"]),
        (["a", "b"], ["a", "b"]),
        (("a",), ["a"]),
        ("a", ["a"]),
        (DecisionPointOutcome.create_steps(["a"]), ["a"]),
        ({"decision_point_outcome": {"type": "create_steps", "step_names": ["a"]}}, ["a"]),
    ],
)
def test_a_decision_may_be_said_in_many_ways(value: Any, names: list[str]):
    """All of them route to the named steps."""

    @decision_handler("kinds.route", version="3.0.0")
    def route() -> Any:
        return value

    result = run(route)

    assert result.result["decision_point_outcome"] == {"type": "create_steps", "step_names": names}
    assert result.metadata == {"decision_handler": "kinds.route", "decision_version": "3.0.0"}


def test_a_decision_hands_on_what_it_knows():
    """Routing context, dynamic steps, reasons."""

    @decision_handler("kinds.knows")
    @inputs("choice")
    def knows(choice: str) -> Any:
        return {
            "route": Decision.route(["a"], why="large"),
            "dynamic": Decision(DecisionPointOutcome.create_steps(["a"], [{"name": "x"}])),
            "skip": Decision.skip("small", amount=3),
            "silent": Decision.skip(None),  # type: ignore[arg-type]
            "none": [],
        }[choice]

    def decide(choice: str) -> Any:
        return run(knows, StepContext.for_testing(input_data={"choice": choice})).result

    assert decide("route")["routing_context"] == {"why": "large"}
    assert decide("dynamic")["dynamic_steps"] == [{"name": "x"}]
    assert decide("skip") == {
        "decision_point_outcome": {"type": "no_branches"},
        "reason": "small",
        "routing_context": {"amount": 3},
    }
    assert decide("silent")["reason"] == "No branches"
    assert decide("none")["reason"] == "no steps selected"


@pytest.mark.parametrize("value", [None, {"route": "a"}, 3, [1, 2], "", {"a", "b"}])
def test_what_is_no_decision_fails_for_good(value: Any):
    """Otherwise the task would end without its branches, and nobody would know."""

    @decision_handler("kinds.inert")
    def inert() -> Any:
        return value

    result = run(inert)

    assert (result.success, result.error_type, result.retryable) == (False, "decision_error", False)
    assert "kinds.inert" in result.error_message


def test_a_decision_may_fail_by_hand():
    """A `StepHandlerResult` is taken as it is."""

    @decision_handler("kinds.by_hand")
    def by_hand() -> StepHandlerResult:
        return StepHandlerResult.failure("later")

    assert run(by_hand).error_message == "later"


# --- batches --------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["work", None])
def test_an_analyzer_divides(template: str | None):
    """Sizes, or ranges of its own; without a template's name the engine takes the configured."""

    @batch_analyzer("kinds.analyze", worker_template=template)
    @inputs("own")
    def analyze(own: bool | None) -> Any:
        if own:
            return BatchAnalyzerOutcome.from_ranges([("a", "m"), ("m", "z")])
        return BatchConfig(total_items=5, batch_size=2, metadata={"file": "a.csv"})

    sized = run(analyze).result
    own = run(analyze, StepContext.for_testing(input_data={"own": True})).result

    assert sized["batch_processing_outcome"]["worker_template_name"] == template
    assert (sized["worker_count"], sized["batch_metadata"]) == (3, {"file": "a.csv"})
    assert own["batch_processing_outcome"]["cursor_configs"][1]["start_cursor"] == "m"


def test_an_analyzer_may_find_nothing():
    """Zero items are no batches."""

    @batch_analyzer("kinds.nothing", "work")
    def nothing() -> BatchConfig:
        return BatchConfig(0, 100)

    assert run(nothing).result == {
        "batch_processing_outcome": {"type": "no_batches"},
        "reason": "empty_dataset",
    }


def worker_inputs(**changes: Any) -> StepContext:
    cursor = {"batch_id": "001", "start_cursor": 0, "end_cursor": 10, "batch_size": 10}
    return StepContext.for_testing(step_inputs={"cursor": cursor, **changes})


def test_a_worker_gets_its_range():
    """Or None if the step is no batch worker."""

    @batch_worker("kinds.work", analyzer_step="analyze")
    def work(batch_context: BatchWorkerContext | None, context: StepContext) -> Any:
        return {"items_processed": batch_context.batch_size if batch_context else None}

    assert work.handler_class.analyzer_step == "analyze"  # type: ignore[attr-defined]
    assert run(work, worker_inputs()).result == {"items_processed": 10}
    assert run(work).result == {"items_processed": None}
    assert work(None, StepContext()) == {"items_processed": None}


async def test_placeholders_do_not_reach_the_function():
    """They are answered before, sync and async."""

    @batch_worker("kinds.real")
    def real(batch_context: Any) -> None:
        raise AssertionError

    @batch_worker("kinds.real_async")
    async def real_async(batch_context: Any) -> None:
        raise AssertionError

    context = worker_inputs(is_no_op=True)
    for result in (run(real, context), await run(real_async, context)):
        assert (result.success, result.result["no_op"]) == (True, True)


def test_a_worker_may_give_up_its_slot():
    """And go on from the checkpoint when it is called again."""

    @batch_worker("kinds.yields")
    def yields(batch_context: BatchWorkerContext) -> Any:
        done = batch_context.resume_cursor + 6
        if done < batch_context.end_cursor:
            return batch_context.checkpoint_yield(done, done)
        return BatchWorkerOutcome(items_processed=batch_context.end_cursor)

    context = worker_inputs()
    first = run(yields, context)
    context.checkpoint = first.checkpoint
    second = run(yields, context)

    assert first.checkpoint == {"cursor": 6, "items_processed": 6}
    assert second.checkpoint is None
    assert second.result["items_processed"] == 10
