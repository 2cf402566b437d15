"""Whatever a handler does becomes one recorded end of its attempt, and the worker lives on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from support.flows import CHAIN, DIAMOND, NO_REST, ONE, template
from support.workers import eventually
from tasker_core.errors import PermanentError, RetryableError
from tasker_core.handlers.functional import depends_on, inputs, step_handler
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.handlers.result import StepHandlerResult

TWICE = {"backoff": "none", "max_attempts": 2}
ONCE = {"max_attempts": 1}


async def quietly(context):
    return {"fine": True}


def both(function):
    """Give a function once as a sync and once as an async handler."""

    async def coroutine(context):
        return function(context)

    return pytest.param(function, id=f"{function.__name__}-sync"), pytest.param(
        coroutine, id=f"{function.__name__}-async"
    )


# --- results ----------------------------------------------------------------------------


async def test_results_pass_downstream(bench):
    """A child sees its parents' results; sync and async handlers mix."""

    def a(context):
        return {"n": context.get_input("start") + 1}

    async def b(context):
        return {"n": context.get_dependency_field("a", "n") * 10}

    def c(context):
        return {"n": context.get_dependency_field("a", "n") * 100}

    async def d(context):
        results = {name: context.get_dependency_result(name)["n"] for name in ("a", "b", "c")}
        return {"sum": sum(results.values()), "names": sorted(context.dependency_results)}

    await bench.worker({"a": a, "b": b, "c": c, "d": d})
    state, task = await bench.run(template(DIAMOND), context={"start": 1})

    assert state == "complete"
    assert await bench.result(task, "d") == {"sum": 222, "names": ["a", "b", "c"]}


async def test_functional_handlers_run(bench):
    """Decorated functions get inputs and results by name, in both colours."""

    @step_handler("run_priced")
    @inputs("amount")
    def priced(amount, context):
        return {"price": amount * 2}

    @step_handler("run_billed")
    @depends_on(first="a")
    async def billed(first, context):
        return {"bill": first["price"] + 1}

    known = HandlerRegistry()
    known.register(priced)
    known.register(billed)
    await bench.worker(known)
    flow = template({"a": [], "b": ["a"]}, callables={"a": "run_priced", "b": "run_billed"})
    state, task = await bench.run(flow, context={"amount": 4})

    assert state == "complete"
    assert await bench.result(task, "b") == {"bill": 9}


async def test_a_sync_function_that_gives_a_coroutine_is_awaited(bench):
    """What does not look async but gives an awaitable is awaited on the loop."""

    async def later(context):
        return {"n": 1}

    await bench.worker({"a": lambda context: later(context)})
    state, task = await bench.run(template(ONE))

    assert state == "complete"
    assert await bench.result(task, "a") == {"n": 1}


async def test_mutating_inputs_hurts_nobody(bench):
    """What a handler does to its inputs is seen by no other attempt and not stored."""

    def greedy(context):
        context.input_data["items"].clear()
        context.get_dependency_result("a")["list"].append("mine")
        context.step_config["x"] = 1
        return {}

    def honest(context):
        return {
            "items": context.get_input("items"),
            "list": context.get_dependency_field("a", "list"),
            "config": context.step_config,
        }

    await bench.worker({"a": lambda c: {"list": [1]}, "b": greedy, "c": greedy, "d": honest})
    state, task = await bench.run(template(DIAMOND), context={"items": [1, 2]})

    assert state == "complete"
    assert await bench.result(task, "d") == {"items": [1, 2], "list": [1], "config": {}}


@dataclass
class Receipt:
    """A dataclass as a result."""

    total: Decimal


class Order(BaseModel):
    """A model as a result."""

    lines: set[int]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, {}),
        (7, {"result": 7}),
        ([1, 2], {"result": [1, 2]}),
        (Receipt(Decimal("1.50")), {"total": "1.50"}),
        (Order(lines={2}), {"lines": [2]}),
        ({"ids": {3, 1, 2}}, {"ids": [1, 2, 3]}),
        (StepHandlerResult.success({"a": 1}), {"a": 1}),
    ],
)
async def test_what_a_handler_may_return(bench, value, stored):
    """Results, models, dataclasses, sets and plain values are all stored as JSON."""
    await bench.worker({"a": lambda context: value})
    state, task = await bench.run(template(ONE))

    assert (state, await bench.result(task, "a")) == ("complete", stored)


async def test_metadata_is_kept_with_the_attempt(bench):
    """A handler's own metadata stands beside what the worker measures."""

    def a(context):
        return StepHandlerResult.success({"x": 1}, metadata={"rows": 3})

    await bench.worker({"a": a})
    _, task = await bench.run(template(ONE))

    (past,) = await bench.attempts(task)
    assert past["metadata"]["custom"] == {"rows": 3}
    assert past["execution_ms"] >= 0


# --- failures ---------------------------------------------------------------------------


def raises_value_error(context):
    raise ValueError("seven is not a cart")


def raises_key_error(context):
    return {}["missing"]


def raises_permanent(context):
    raise PermanentError("card declined", error_code="CARD_DECLINED")


def raises_retryable(context):
    raise RetryableError("gateway away")


def raises_system_exit(context):
    raise SystemExit(3)


def raises_keyboard_interrupt(context):
    raise KeyboardInterrupt


def raises_cancelled(context):
    raise asyncio.CancelledError


def raises_generator_exit(context):
    raise GeneratorExit


def returns_failure(context):
    return StepHandlerResult.failure(
        "no stock", "out_of_stock", retryable=False, error_code="E7", metadata={"sku": "x"}
    )


FAILURES = [
    (raises_value_error, "handler_error", "seven is not a cart", True),
    (raises_key_error, "handler_error", "missing", True),
    (raises_permanent, "permanent_error", "card declined", False),
    (raises_retryable, "retryable_error", "gateway away", True),
    (raises_system_exit, "handler_error", "3", False),
    (raises_keyboard_interrupt, "handler_error", "KeyboardInterrupt", False),
    (raises_cancelled, "handler_error", "CancelledError", True),
    (raises_generator_exit, "handler_error", "GeneratorExit", None),
    (returns_failure, "out_of_stock", "no stock", False),
]


@pytest.mark.parametrize(
    ("handler", "error_type", "message", "retryable"),
    [
        pytest.param(*given.values, *case[1:], id=given.id)
        for case in FAILURES
        for given in both(case[0])
    ],
)
async def test_a_failure_is_recorded_and_the_worker_lives_on(
    bench, handler, error_type, message, retryable
):
    """Whatever a handler raises ends its attempt with type and message, and nothing else."""
    worker = await bench.worker({"a": handler, "b": quietly})
    state, task = await bench.run(template(ONE, retry=ONCE))

    (past,) = await bench.attempts(task)
    assert state == "blocked_by_failures"
    assert past["error"]["error_type"] == error_type
    assert message in past["error"]["message"]
    if retryable is not None:
        assert past["error"]["retryable"] is retryable
    assert (await bench.run(template({"b": []}, name="other")))[0] == "complete"
    await eventually(lambda: not worker.runner.running)


async def test_traceback_and_code_are_kept(bench):
    """An exception leaves its traceback, an application's error its own code."""
    await bench.worker({"a": raises_value_error, "b": raises_permanent})
    _, task = await bench.run(template({"a": [], "b": []}, retry=ONCE))

    for past in await bench.attempts(task, "a"):
        assert "raises_value_error" in past["error"]["traceback"]
        assert past["metadata"]["custom"]["exception_type"] == "ValueError"
    for past in await bench.attempts(task, "b"):
        assert past["error"]["error_code"] == "CARD_DECLINED"


async def test_a_permanent_failure_is_not_tried_again(bench):
    """A failure that is not retryable ends the step, whatever its policy."""
    await bench.worker({"a": returns_failure})
    state, task = await bench.run(template(ONE, retry=NO_REST))

    (past,) = await bench.attempts(task)
    assert (state, past["outcome"]) == ("blocked_by_failures", "error")
    assert past["error"]["error_code"] == "E7"
    assert past["metadata"]["custom"] == {"sku": "x"}


async def test_a_retry_counts_and_may_succeed(bench):
    """The next attempt knows that it is one, and its result is the step's."""

    def flaky(context):
        if context.attempt == 1:
            raise RetryableError("not yet")
        return {"attempt": context.attempt, "last": context.is_last_retry()}

    await bench.worker({"a": flaky})
    state, task = await bench.run(template(ONE, retry=TWICE))

    assert state == "complete"
    assert await bench.outcomes(task) == ["waiting_for_retry", "complete"]
    assert await bench.result(task, "a") == {"attempt": 2, "last": True}


async def test_retry_after_reaches_the_backoff(bench):
    """The rest that a handler asks for overrules the policy."""

    def busy(context):
        raise RetryableError("rate limited", retry_after=120)

    await bench.worker({"a": busy})
    task = await bench.begin(template(ONE, retry={"backoff": "none"}))
    past = (await eventually(lambda: bench.attempts(task)))[0]

    assert past["outcome"] == "waiting_for_retry"
    assert (past["due_at"] - past["finished_at"]).total_seconds() == 120


# --- results that cannot be stored ----------------------------------------------------------


class Treacherous(BaseModel):
    """A model that cannot be dumped."""

    def model_dump(self, **options):
        raise OSError("its file is gone")


class Mute(Exception):
    """An error that cannot even say what it is."""

    def __str__(self):
        raise self


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"in": value}
    return value


def itself():
    value = {}
    value["self"] = value
    return value


UNSTORABLE = {
    "nan": (lambda: {"a": [1.0, float("nan")]}, "/a/1"),
    "infinity": (lambda: {"a": float("inf")}, "/a"),
    "nul": (lambda: {"text": "a\0b"}, "/text"),
    "nul_key": (lambda: {"a\0b": 1}, None),
    "surrogate": (lambda: {"text": "\ud800"}, "/text"),
    "surrogate_key": (lambda: {"\ud800": 1}, None),
    "object": (lambda: {"x": {"y": object()}}, "/x/y"),
    "set_of_objects": (lambda: {"x": {object()}}, "/x/0"),
    "bytes": (lambda: {"x": b"raw"}, "/x"),
    "big_int": (lambda: {"n": 2**80}, "/n"),
    "deep": (lambda: deep(150), None),
    "very_deep": (lambda: deep(50_000), None),
    "itself": (itself, None),
    "too_large": (lambda: {"x": "y" * 200_000}, ""),
    "treacherous": (lambda: {"order": Treacherous()}, None),
    "class": (lambda: {"type": dict}, "/type"),
    "generator": (lambda: (n for n in range(3)), "/result"),
    "metadata": (lambda: StepHandlerResult.success({}, metadata={"x": object()}), "/metadata/x"),
}


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_result_that_cannot_be_stored_fails_its_step(bench, colour):
    """The step fails for good with `invalid_result` and the path; others are unaffected."""

    def make(value):
        def plain(context):
            return value()

        async def coroutine(context):
            return value()

        return plain if colour == "sync" else coroutine

    worker = await bench.worker(
        {name: make(value) for name, (value, _) in UNSTORABLE.items()} | {"good": quietly},
        max_result_bytes=100_000,
    )
    graph = {name: [] for name in [*UNSTORABLE, "good"]}
    state, task = await bench.run(template(graph, on_failure="continue"))

    assert state == "blocked_by_failures"
    attempts = {past["name"]: past for past in await bench.attempts(task)}
    assert attempts.pop("good")["outcome"] == "complete"
    assert attempts.keys() == UNSTORABLE.keys()
    for name, past in attempts.items():
        assert past["outcome"] == "error", name
        assert past["error"]["error_type"] == "invalid_result", (name, past["error"])
        assert past["error"]["retryable"] is False
        pointer = UNSTORABLE[name][1]
        if pointer is not None:
            assert past["metadata"]["custom"]["path"] == pointer, name
    assert not worker.runner.running


RECEIPT = {
    "type": "object",
    "required": ["total"],
    "properties": {"total": {"type": "number"}, "lines": {"type": "array"}},
}


def checked(validation):
    """A template whose one step says what its result looks like."""
    step = {"name": "a", "handler": {"callable": "a"}, "result_schema": RECEIPT}
    return template(steps=[step], result_validation=validation)


@pytest.mark.parametrize(
    ("validation", "state", "is_told"),
    [
        ("off", "complete", False),
        ("warn", "complete", True),
        ("enforce", "blocked_by_failures", True),
    ],
)
async def test_a_result_that_does_not_fit_its_schema(bench, validation, state, is_told):
    """Stored, stored and told, or a failure for good that names the place."""
    await bench.worker({"a": lambda context: {"total": "much", "lines": 3}})

    with capture_logs() as logs:
        ended, task = await bench.run(checked(validation))

    assert ended == state
    told = [one["violation"] for one in logs if one["event"] == "result_misfit"]
    assert bool(told) == is_told
    (past,) = await bench.attempts(task)
    if validation == "enforce":
        assert (past["error"]["error_type"], past["error"]["retryable"]) == (
            "invalid_result",
            False,
        )
        assert "result_schema: /" in past["error"]["message"]
        assert "(1 more)" in past["error"]["message"]
        custom = past["metadata"]["custom"]
        assert custom["path"] in {"/total", "/lines"}
        assert len(custom["violations"]) == 2
    else:
        assert await bench.result(task, "a") == {"total": "much", "lines": 3}


async def test_a_result_is_checked_as_it_is_stored(bench):
    """The schema is about JSON, not about the objects that a handler gives."""
    line = UUID(int=7)
    await bench.worker({"a": lambda context: {"total": 3, "lines": (line,)}})

    state, task = await bench.run(checked("enforce"))

    assert state == "complete"
    assert await bench.result(task, "a") == {"total": 3, "lines": [str(line)]}


async def test_a_failure_that_cannot_be_stored_is_a_failure_still(bench):
    """NUL characters, unreadable messages and metadata never lose the failure itself."""

    def nul(context):
        raise ValueError("a\0b\ud800")

    def mute(context):
        raise Mute

    def chatty(context):
        raise ValueError("x" * 5_000_000)

    def said(context):
        return StepHandlerResult.failure("y" * 5_000_000, retryable=False)

    def odd(context):
        return StepHandlerResult.failure("odd", metadata={"\ud800": object()}, error_code="\0")

    handlers = {"nul": nul, "mute": mute, "chatty": chatty, "said": said, "odd": odd}
    await bench.worker(handlers)
    graph = {name: [] for name in handlers}
    state, task = await bench.run(template(graph, retry=ONCE, on_failure="continue"))

    assert state == "blocked_by_failures"
    errors = {past["name"]: past["error"] for past in await bench.attempts(task)}
    assert errors["nul"]["message"].startswith("a\\x00b")
    assert errors["mute"]["error_type"] == "handler_error"
    assert len(errors["chatty"]["message"]) < 10_000
    assert len(errors["said"]["message"]) < 10_000
    assert errors["odd"]["message"] == "odd"


# --- time-outs --------------------------------------------------------------------------


def timed(seconds, **keys):
    """Make the template of one step `a` with a time-out."""
    flow = template(ONE, **keys)
    definition = dict(flow.definition)
    definition["steps"] = [{**definition["steps"][0], "timeout_seconds": seconds}]
    return type(flow).from_definition(definition)


async def test_an_async_handler_is_cancelled_at_its_time_out(bench):
    """The attempt ends as `timeout`, and the handler sees a CancelledError."""
    cancelled = asyncio.Event()

    async def endless(context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    worker = await bench.worker({"a": endless})
    state, task = await bench.run(timed(1, retry=ONCE))

    (past,) = await bench.attempts(task)
    assert state == "blocked_by_failures"
    assert past["error"]["error_type"] == "timeout"
    assert past["error"]["retryable"] is True
    assert cancelled.is_set()
    await eventually(lambda: not worker.runner.running)


async def test_a_sync_handler_keeps_its_slot_after_its_time_out(bench):
    """The attempt is over, its thread is not: the slot is free when the thread returns."""
    release = threading.Event()

    def stubborn(context):
        release.wait(20)
        return {"late": True}

    worker = await bench.worker({"a": stubborn, "b": quietly}, worker_concurrency=1)
    try:
        _, task = await bench.run(timed(1, retry=ONCE))
        other = await bench.begin(template({"b": []}, name="other"))
        (past,) = await bench.attempts(task)
        assert past["error"]["error_type"] == "timeout"
        assert len(worker.runner.running) == 1
        assert await bench.attempts(other) == []
    finally:
        release.set()

    assert await bench.settled(other) == "complete"
    assert len(await bench.attempts(task)) == 1
    assert await bench.result(task, "a") is None


async def test_the_default_time_out_holds_where_a_step_sets_none(bench):
    """handler_timeout_seconds ends whatever has no time-out of its own."""

    async def endless(context):
        await asyncio.Event().wait()

    await bench.worker({"a": endless}, handler_timeout_seconds=0.1)
    state, task = await bench.run(template(ONE, retry=ONCE))

    (past,) = await bench.attempts(task)
    assert (state, past["error"]["error_type"]) == ("blocked_by_failures", "timeout")


async def test_a_handler_deaf_to_cancellation_ends_at_its_time_out_all_the_same(bench):
    """Its result is dropped; it holds its slot for as long as it goes on."""
    release = asyncio.Event()

    async def deaf(context):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return {"late": True}

    worker = await bench.worker({"a": deaf}, handler_timeout_seconds=0.1)
    state, task = await bench.run(template(ONE, retry=ONCE))

    assert state == "blocked_by_failures"
    assert len(worker.runner.running) == 1
    release.set()
    await eventually(lambda: not worker.runner.running)
    assert await bench.outcomes(task) == ["error"]


async def test_chains_run_in_order(bench):
    """A step begins when its parents are recorded."""
    order = []

    def note(context):
        order.append(context.step_name)

    await bench.worker({"a": note, "b": note, "c": note})
    state, _ = await bench.run(template(CHAIN))

    assert (state, order) == ("complete", ["a", "b", "c"])
