"""What stands in for a handler in a test, attempt by attempt."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

from tasker_core.handlers.batch.mixin import Batchable
from tasker_core.handlers.batch.outcomes import BatchAnalyzerOutcome, BatchWorkerOutcome
from tasker_core.handlers.decision import DecisionMixin, DecisionPointOutcome
from tasker_core.handlers.functional_kinds import BatchConfig, Decision
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.templates.model import TaskTemplate
from tasker_core.testing.sources import find_handler, is_handler, refuse_unknown_step


class Simulated(Enum):
    """Outcomes that no handler can return."""

    REAL = "the real handler runs"
    TIMES_OUT = "the handler does not end within its time-out"
    WORKER_LOST = "the worker dies in the middle, and its lease runs out"


REAL: Final = Simulated.REAL
TIMES_OUT: Final = Simulated.TIMES_OUT
WORKER_LOST: Final = Simulated.WORKER_LOST

Outcome: TypeAlias = Any  # see `Mocks`


class MockExhausted(AssertionError):
    """A step ran more often than its mock has outcomes."""

    def __init__(self, step: str, count: int) -> None:
        self.step, self.count = step, count
        super().__init__(
            f"the mock of step {step!r} has {count} outcome{'s' * (count != 1)}, and the step ran "
            f"once more; add an outcome, or give one without a list for every attempt"
        )


class Mocks:
    """The mocks of one run: step → outcome, or a list with one outcome for each attempt.

    An outcome is one of:

    - what a handler may return: a dict, a pydantic model, a dataclass, None, a
      `StepHandlerResult`; for decisions `Decision.route(…)` or `.skip(…)`, for batches
      `BatchConfig(…)` and the outcome classes;
    - an exception, or its class, to be raised;
    - a function of the context, sync or async, that returns or raises one of these;
    - a handler: a `StepHandler` class or object, a decorated function;
    - `REAL`, `TIMES_OUT` or `WORKER_LOST`.

    A batch worker's mock holds for all steps that are made of it; each has its own list.

    >>> from tasker_core.templates.load import parse_template
    >>> steps = "[{name: pay, handler: {callable: pay}}]"
    >>> report = parse_template(f"name: a\\nnamespace_name: b\\nversion: 1.0.0\\nsteps: {steps}")
    >>> mocks = Mocks(report.template, {"pay": [TimeoutError("slow"), {"paid": True}]})
    >>> mocks.take("pay"), mocks.take("pay")
    (TimeoutError('slow'), {'paid': True})
    """

    def __init__(self, template: TaskTemplate, outcomes: Mapping[str, Outcome]) -> None:
        self._template = template
        self._outcomes: dict[str, Outcome] = {}
        self._taken: dict[str, int] = {}  # per step of the task, not of the template
        self.set(outcomes)

    def set(self, outcomes: Mapping[str, Outcome]) -> None:
        """Mock these steps from now on; lists begin at their beginning.

        Raises:
            ValueError: The template has no such step.
        """
        names = [step.name for step in self._template.steps]
        for name in outcomes:
            if self._batch_worker(name) is None:
                refuse_unknown_step(self._template, name, names, "mocks name step")
        self._outcomes.update(outcomes)
        for name in [taken for taken in self._taken if self._key(taken) in outcomes]:
            del self._taken[name]

    def covers(self, step: str) -> bool:
        """Say whether a step of the task or of the template is mocked."""
        return self._key(step) is not None

    def take(self, step: str) -> Outcome:
        """Give the outcome of the attempt that begins; REAL for a step that is not mocked.

        Raises:
            MockExhausted: The list is at its end.
        """
        key = self._key(step)
        if key is None:
            return REAL
        outcome = self._outcomes[key]
        if not isinstance(outcome, list):
            return outcome
        count = self._taken[step] = self._taken.get(step, 0) + 1
        if count > len(outcome):
            raise MockExhausted(step, len(outcome))
        return outcome[count - 1]

    def _key(self, step: str) -> str | None:
        if step in self._outcomes:
            return step
        worker = self._batch_worker(step)
        return worker if worker in self._outcomes else None

    def _batch_worker(self, step: str) -> str | None:
        """Name the batch worker that a step of the task was made of."""
        found = [
            one.name
            for one in self._template.steps
            if one.type == "batch_worker" and step.startswith(f"{one.name}_")
        ]
        return max(found, key=len, default=None)


def play(outcome: Outcome, context: Any) -> Any:
    """Return or raise what an outcome stands for; an awaitable is for the caller to await."""
    if isinstance(outcome, BaseException):
        raise outcome.with_traceback(None)
    if isinstance(outcome, type) and issubclass(outcome, BaseException):
        raise outcome()
    if is_handler(outcome):
        return find_handler(outcome).run(context)
    if callable(outcome) and not isinstance(outcome, type):
        value = outcome(context)
        return _awaited(value) if inspect.isawaitable(value) else as_result(value)
    return as_result(outcome)


class _Reader(DecisionMixin, Batchable):
    """Has the methods that make results of decisions and batches."""


def as_result(value: Any) -> Any:
    """Turn what only the base classes of handlers understand into a result."""
    if isinstance(value, Decision):
        value = value.outcome
    if isinstance(value, DecisionPointOutcome):
        if value.reason is None:
            value = value.model_copy(update={"reason": "No branches"})
        return _Reader().decision_success_with_outcome(value)
    if isinstance(value, BatchConfig):
        value = _Reader().create_batch_outcome(
            value.total_items, value.batch_size, batch_metadata=value.metadata
        )
    if isinstance(value, BatchAnalyzerOutcome):
        return _Reader().batch_analyzer_success(value, worker_template_name=None)
    if isinstance(value, BatchWorkerOutcome):
        return _Reader().batch_worker_success(value)
    return value


async def _awaited(value: Awaitable[Any]) -> Any:
    return as_result(await value)


def timed_out(seconds: float | None) -> StepHandlerResult:
    """Say what a worker says of a handler that took too long."""
    limit = "its time" if seconds is None else f"{seconds:g} seconds"
    return StepHandlerResult.failure(
        f"the handler did not end within {limit}", "timeout", retryable=True
    )
