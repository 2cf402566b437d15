"""Functions as API handlers, decisions, batch analyzers and batch workers.

Each decorator does what `step_handler` does, and goes with `depends_on` and `inputs`
in any order. What differs: one more parameter, or another reading of what the
function returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tasker_core.handlers.api.mixin import APIMixin
from tasker_core.handlers.batch.mixin import Batchable, no_op_result
from tasker_core.handlers.batch.outcomes import BatchAnalyzerOutcome, BatchWorkerOutcome
from tasker_core.handlers.batch.worker import BatchWorkerContext
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.decision import DecisionMixin, DecisionPointOutcome
from tasker_core.handlers.functional import FunctionMixin, HandlerDecorator, function_decorator
from tasker_core.handlers.result import StepHandlerResult

# --- API ------------------------------------------------------------------------------


def api_handler(
    name: str,
    base_url: str,
    version: str = "1.0.0",
    timeout: float = 30.0,
    default_headers: Mapping[str, str] | None = None,
) -> HandlerDecorator:
    """Make a function the handler of that name, and give it an HTTP client.

    A parameter `api` receives the handler, with everything that `APIMixin` has: `get`,
    `post`, `api_success`, `api_failure`, …; in `async def`, `aget`, `apost`, …

    Args:
        name: What templates call it in `handler.callable`.
        base_url: Put before every path.
        version: Recorded with each attempt.
        timeout: Seconds, for each phase of a request: connect, write, read.
        default_headers: Sent with every request.

    Raises:
        TypeError: Something is declared that no parameter takes.

    >>> @api_handler("fetch_user", base_url="https://api.example.com")
    ... def fetch_user(api, context):
    ...     response = api.get("/users/1")
    ...     return api.api_success(response) if response.ok else api.api_failure(response)
    """
    return function_decorator(
        "api_handler",
        name,
        version,
        _ApiFunction,
        base_url=base_url,
        default_timeout=timeout,
        default_headers=dict(default_headers or {}),
    )


class _ApiFunction(FunctionMixin, APIMixin):
    extra_parameter = "api"

    def _extra_argument(self, context: StepContext) -> Any:
        return self


# --- decisions ------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What a decision function returns: `Decision.route(…)` or `Decision.skip(…)`."""

    outcome: DecisionPointOutcome

    @classmethod
    def route(cls, steps: Sequence[str] | str, **routing_context: Any) -> Decision:
        """Go on with these steps of the template; later steps may read the keywords."""
        names = [steps] if isinstance(steps, str) else steps
        return cls(DecisionPointOutcome.create_steps(names, routing_context=routing_context))

    @classmethod
    def skip(cls, reason: str, **routing_context: Any) -> Decision:
        """Go on with none, and say why."""
        return cls(DecisionPointOutcome.no_branches(reason, routing_context))


def decision_handler(name: str, version: str = "1.0.0") -> HandlerDecorator:
    """Make a function the decision of that name.

    It returns a `Decision`, or a list of step names, or one name. Whatever else it
    returns, None included, fails the step for good with `decision_error`: nothing would
    follow from it.

    Args:
        name: What templates call it in `handler.callable`.
        version: Recorded with each attempt.

    Raises:
        TypeError: Something is declared that no parameter takes.

    >>> @decision_handler("route_order")
    ... def route_order(context):
    ...     return Decision.route(["manual_review"], why="large")
    >>> route_order.handler_class().call(None).result["routing_context"]
    {'why': 'large'}
    """
    return function_decorator("decision_handler", name, version, _DecisionFunction)


class _DecisionFunction(FunctionMixin, DecisionMixin):
    def _read(self, value: Any) -> StepHandlerResult:
        if isinstance(value, StepHandlerResult):
            return value
        if isinstance(value, Decision):
            value = value.outcome
        if isinstance(value, DecisionPointOutcome):
            if value.reason is None:
                value = value.model_copy(update={"reason": "No branches"})
            return self.decision_success_with_outcome(value)
        if isinstance(value, str) and value:
            return self.decision_success([value])
        if isinstance(value, list | tuple) and all(isinstance(step, str) for step in value):
            return self.decision_success(value)
        if isinstance(value, dict) and isinstance(value.get("decision_point_outcome"), dict):
            return StepHandlerResult.success(value, self._facts(None))
        return self.decision_failure(
            f"decision {getattr(self, 'name', '')!r} returned {_shown(value)}; return "
            f"Decision.route([…]), Decision.skip(reason) or a list of step names"
        )


# --- batches --------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchConfig:
    """What an analyzer function returns: how many items there are, and how many go together."""

    total_items: int
    batch_size: int
    metadata: dict[str, Any] = field(default_factory=dict)


def batch_analyzer(
    name: str, worker_template: str | None = None, version: str = "1.0.0"
) -> HandlerDecorator:
    """Make a function the batch analyzer of that name.

    It returns a `BatchConfig`, or a `BatchAnalyzerOutcome` with ranges of its own.
    Without items there are no batches.

    Args:
        name: What templates call it in `handler.callable`.
        worker_template: The template's step of type `batch_worker`; None is the one that
            the analyzer's `batch_config` names.
        version: Recorded with each attempt.

    Raises:
        TypeError: Something is declared that no parameter takes.

    >>> @batch_analyzer("analyze_rows", worker_template="work_on_rows")
    ... def analyze_rows(context):
    ...     return BatchConfig(total_items=1000, batch_size=200)
    >>> analyze_rows.handler_class().call(None).result["worker_count"]
    5
    """
    return function_decorator(
        "batch_analyzer", name, version, _AnalyzerFunction, worker_template=worker_template
    )


class _AnalyzerFunction(FunctionMixin, Batchable):
    worker_template: ClassVar[str | None]

    def _read(self, value: Any) -> StepHandlerResult:
        if isinstance(value, BatchConfig):
            value = self.create_batch_outcome(
                value.total_items, value.batch_size, batch_metadata=value.metadata
            )
        if isinstance(value, BatchAnalyzerOutcome):
            return self.batch_analyzer_success(value, worker_template_name=self.worker_template)
        return super()._read(value)


def batch_worker(
    name: str, version: str = "1.0.0", *, analyzer_step: str | None = None
) -> HandlerDecorator:
    """Make a function the batch worker of that name.

    A parameter `batch_context` receives the `BatchWorkerContext`, None if the step is no
    batch worker. The function returns its result, or a `BatchWorkerOutcome`, or what
    `batch_context.checkpoint_yield(…)` gives, to be called again from there. The
    placeholder of an analyzer that found nothing is answered without calling it.

    Args:
        name: What templates call it in `handler.callable`.
        version: Recorded with each attempt.
        analyzer_step: For the reader; has no effect.

    Raises:
        TypeError: Something is declared that no parameter takes.

    >>> @batch_worker("work_on_rows")
    ... def work_on_rows(batch_context):
    ...     return {"items_processed": batch_context.batch_size}
    """
    return function_decorator(
        "batch_worker", name, version, _WorkerFunction, analyzer_step=analyzer_step
    )


class _WorkerFunction(FunctionMixin, Batchable):
    extra_parameter = "batch_context"
    analyzer_step: ClassVar[str | None]

    def _extra_argument(self, context: StepContext) -> Any:
        return BatchWorkerContext.from_step_context(context)

    def _answer(self, context: StepContext) -> StepHandlerResult | None:
        return no_op_result(context)

    def _read(self, value: Any) -> StepHandlerResult:
        if isinstance(value, BatchWorkerOutcome):
            return self.batch_worker_success(value)
        return super()._read(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
