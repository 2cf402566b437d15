"""One handler, no database.

`build_context` makes what a handler sees; `run_handler` runs it as a worker would.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from tasker_core.engine.claim import Claim
from tasker_core.handlers.bound import BoundHandler
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.current import enter_step, leave_step
from tasker_core.handlers.result import (
    StepHandlerResult,
    result_from_exception,
    result_from_return,
)
from tasker_core.payload import MAX_BYTES
from tasker_core.templates.environments import in_environment
from tasker_core.templates.graph import ancestors
from tasker_core.templates.model import TaskTemplate
from tasker_core.testing.sources import (
    ENVIRONMENT,
    TemplateSource,
    find_handler,
    find_template,
    refuse_unknown_step,
)
from tasker_core.worker.attempt import Attempt, Ended
from tasker_core.worker.plan import StepPlan


class ContextParts(TypedDict, total=False):
    """What a context is made of; leave out what the handler does not look at."""

    input: Mapping[str, Any]
    results: Mapping[str, Any]
    config: Mapping[str, Any]
    step_inputs: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    attempt: int
    max_attempts: int
    task_uuid: UUID | str
    step_uuid: UUID | str
    correlation_id: UUID | str
    handler_name: str
    step_name: str
    task_name: str
    task_version: str
    namespace: str
    environment: str
    is_cancelled: bool


def build_context(
    template: TemplateSource | None = None,
    step: str | None = None,
    /,
    **parts: Unpack[ContextParts],
) -> StepContext:
    """Make the context of one attempt of one step, without a database.

    Args:
        template: Takes names, configuration and the number of attempts from a template,
            and checks the names in `results`; see `find_template` for what may stand here.
        step: The step of it.
        parts: Each may be left out.
            `input`: the task's context.
            `results`: `{step: what its handler returned}`.
            `config`: the template's `handler.initialization`; with a template, over its own.
            `step_inputs`: what the engine adds for one step, such as a batch's cursor.
            `checkpoint`: what an earlier run of the step left.
            `attempt`: counted from 1; `max_attempts`: how many there are, 3.
            `environment`: whose overrides of the template hold, "test".
            `is_cancelled`: the attempt does not count any more, which a handler may ask.
            Ids and names, if the handler looks at them.

    Raises:
        ValueError: The template has no such step; or `results` names one that does not
            come before it; or `attempt` is below 1.
        InvalidTemplate, UnknownTemplate: See `find_template`.

    >>> context = build_context(input={"sku": "tea"}, results={"price": {"cents": 450}}, attempt=2)
    >>> context.get_input("sku"), context.get_dependency_field("price", "cents")
    ('tea', 450)
    >>> context.is_retry()
    True
    """
    known: dict[str, Any] = {}
    config = dict(parts.get("config", {}))
    if template is not None:
        if step is None:
            raise ValueError("name a step of the template: build_context(template, 'step')")
        found = in_environment(find_template(template), parts.get("environment", ENVIRONMENT))
        refuse_unknown_step(found, step, [one.name for one in found.steps], "there is no step")
        defined = found.step(step)
        _check_results(found, step, parts.get("results", {}))
        config = {**defined.handler.initialization, **config}
        known = {
            "handler_name": defined.handler.callable,
            "step_name": step,
            "task_name": found.name,
            "task_version": found.version,
            "namespace": found.namespace,
            "max_attempts": defined.retry.executions,
        }
    for name in ContextParts.__optional_keys__ & {*parts} - {
        *("input", "results", "config", "attempt", "environment")
    }:
        known[name] = parts[name]  # type: ignore[literal-required]  # a key of ContextParts
    attempt = parts.get("attempt", 1)
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, and this is {attempt}")
    return StepContext.for_testing(
        input_data=parts.get("input"),
        dependency_results=parts.get("results"),
        step_config=config,
        attempts=attempt - 1,
        **known,
    )


def run_handler(
    handler: Any,
    context: StepContext | None = None,
    /,
    *,
    method: str | None = None,
    **parts: Unpack[ContextParts],
) -> StepHandlerResult:
    """Run one handler once, and give what a worker would record: never what it raised.

    What it returns and raises is read by the worker's own rule; a result that could not be
    stored is a failure of type `invalid_result`, as it is there. Time-outs do not count.

    Args:
        handler: A `StepHandler` class or object, a decorated function, a function of the
            context, or a name; sync or async.
        context: What `build_context` gave, or a mock of one; or leave it out and give its
            parts here.
        method: Another method than `call`.
        parts: See `build_context`.

    Raises:
        ResolutionError: There is no such handler.
        BaseException: What stops a test is let through: KeyboardInterrupt, `pytest.fail()`.

    >>> def double(context):
    ...     return {"twice": 2 * context.get_input("n")}
    >>> run_handler(double, input={"n": 21}).result
    {'twice': 42}
    >>> run_handler(double, input={"n": None}).error_type
    'handler_error'
    """
    bound, seen = find_handler(handler, method), _context(context, parts)
    began = time.monotonic()
    try:
        entered = enter_step(seen)
        try:
            value = bound.run(seen)
            if inspect.isawaitable(value):
                value = wait_for(value)
        finally:
            leave_step(entered)
        result = result_from_return(value)
    except BaseException as error:
        result = _failure(error)
    return _as_recorded(bound, result, time.monotonic() - began)


async def run_handler_async(
    handler: Any,
    context: StepContext | None = None,
    /,
    *,
    method: str | None = None,
    **parts: Unpack[ContextParts],
) -> StepHandlerResult:
    """Do what `run_handler` does, with an async handler on the loop of the test.

    So the handler may use what belongs to that loop: connections, clients, servers. A
    handler that is not async runs in a thread, as it does in a worker.
    """
    bound, seen = find_handler(handler, method), _context(context, parts)
    began = time.monotonic()
    try:
        entered = enter_step(seen)
        try:
            value = bound.run(seen) if bound.is_async else await asyncio.to_thread(bound.run, seen)
            if inspect.isawaitable(value):
                value = await value
        finally:
            leave_step(entered)
        result = result_from_return(value)
    except BaseException as error:
        result = _failure(error)
    return _as_recorded(bound, result, time.monotonic() - began)


def wait_for(value: Awaitable[Any]) -> Any:
    """Await something on a loop and in a thread of its own: the caller's may be in use."""
    outcome: dict[str, Any] = {}

    async def finish() -> Any:
        return await value

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(finish())
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def stops_the_test(error: BaseException) -> bool:
    """Say whether an exception is the test's, not the handler's: Ctrl-C, `pytest.fail()`."""
    return not isinstance(error, Exception | SystemExit | asyncio.CancelledError)


def _context(context: StepContext | None, parts: ContextParts) -> StepContext:
    if context is None:
        return build_context(**parts)
    if parts:
        raise TypeError(f"give a context, or its parts, not both: {', '.join(parts)}")
    return context


def _failure(error: BaseException) -> StepHandlerResult:
    if stops_the_test(error):
        raise error
    return result_from_exception(error)


def _check_results(template: TaskTemplate, step: str, results: Mapping[str, Any]) -> None:
    before = ancestors(template, step)
    batches = tuple(
        f"{name}_" for name in before if template.step(name).type == "batch_worker"
    )  # the steps that a batch worker becomes
    for name in results:
        if batches and name.startswith(batches):
            continue
        if name not in before and any(one.name == name for one in template.steps):
            raise ValueError(
                f"step {step!r} of template {template.label} does not come after {name!r}, so it "
                f"cannot see a result of it; before it: {', '.join(sorted(before)) or 'nothing'}"
            )
        refuse_unknown_step(template, name, sorted(before), "results are given for step")


def _as_recorded(
    bound: BoundHandler, result: StepHandlerResult, seconds: float
) -> StepHandlerResult:
    """Hold a result against what the database takes, as a worker does."""
    nobody = UUID(int=0)
    moment = datetime.now(UTC)
    claim = Claim(
        *(nobody, 1, 1, bound.name, bound.name, nobody, 0, 1),
        moment,
        moment,
        None,
        *(nobody, None, None, None, None, None),
    )
    plan = StepPlan(bound, bound.name, expands=True)  # so that the outcome is kept
    ended = Attempt(claim, plan, 0.0).finished(result, seconds, MAX_BYTES)
    assert isinstance(ended, Ended)
    return ended.outcome
