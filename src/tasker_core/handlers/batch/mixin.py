"""The helpers of analyzers, batch workers and aggregators, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tasker_core.handlers.batch.aggregate import BatchAggregationScenario, aggregate_batch_results
from tasker_core.handlers.batch.cursors import (
    BatchWorkerConfig,
    CursorConfig,
    cursor_config,
    equal_shares,
    ranges_of_size,
)
from tasker_core.handlers.batch.outcomes import (
    BatchAnalyzerOutcome,
    BatchWorkerOutcome,
    create_batches,
    no_batches,
)
from tasker_core.handlers.batch.worker import (
    BatchWorkerContext,
    BatchWorkerInputs,
    checkpoint_yield,
)
from tasker_core.handlers.result import StepHandlerResult

if TYPE_CHECKING:
    from tasker_core.handlers.context import StepContext


class Batchable:
    """Lets a `StepHandler` analyze, work on or add up batches; in either order of the bases.

    >>> from tasker_core.handlers.base import StepHandler
    >>> class Analyze(StepHandler, Batchable):
    ...     handler_name = "analyze_rows"
    ...     def call(self, context):
    ...         outcome = self.create_batch_outcome(total_items=1000, batch_size=200)
    ...         return self.batch_analyzer_success(outcome, worker_template_name="work_on_rows")
    >>> Analyze().call(None).result["worker_count"]
    5
    """

    # --- the analyzer: ranges ---------------------------------------------------------

    def create_cursor_config(
        self,
        start: Any,
        end: Any,
        step_size: int = 1,
        metadata: Mapping[str, Any] | None = None,
    ) -> CursorConfig:
        """Make one range, `start` included and `end` not."""
        return CursorConfig(
            start_cursor=start,
            end_cursor=end,
            step_size=step_size,
            metadata=dict(metadata or {}),
        )

    def create_cursor_ranges(
        self,
        total_items: int,
        batch_size: int,
        step_size: int = 1,
        max_batches: int | None = None,
    ) -> list[CursorConfig]:
        """Divide items 0 to `total_items` into ranges of one size; the last may be shorter.

        Args:
            max_batches: No more ranges than this: they grow until it is enough. There
                may be fewer: 10 items in at most 7 make 5 ranges of 2.

        Raises:
            ValueError: There are items, and a size or a limit is not above 0.
        """
        return ranges_of_size(total_items, batch_size, step_size, max_batches)

    def create_cursor_configs(self, total_items: int, worker_count: int) -> list[BatchWorkerConfig]:
        """Divide items 0 to `total_items` among workers, at most one share each.

        Raises:
            ValueError: `worker_count` is not above 0.
        """
        return equal_shares(total_items, worker_count)

    # --- the analyzer: what it says -----------------------------------------------------

    def create_batch_outcome(
        self,
        total_items: int,
        batch_size: int,
        step_size: int = 1,
        batch_metadata: Mapping[str, Any] | None = None,
        max_batches: int | None = None,
    ) -> BatchAnalyzerOutcome:
        """Divide as `create_cursor_ranges` does; for `batch_analyzer_success`."""
        return BatchAnalyzerOutcome(
            cursor_configs=ranges_of_size(total_items, batch_size, step_size, max_batches),
            total_items=total_items,
            batch_metadata=dict(batch_metadata or {}),
        )

    def create_batch_outcome_from_ranges(
        self,
        ranges: Sequence[tuple[Any, Any]],
        step_size: int = 1,
        total_items: int | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> BatchAnalyzerOutcome:
        """Take ranges of your own: `[(start, end), …]`, end not included.

        Args:
            total_items: None adds up the ranges, if all cursors are whole numbers.
        """
        outcome = BatchAnalyzerOutcome.from_ranges(ranges, step_size, total_items, batch_metadata)
        if total_items is None and all(type(c) is int for pair in ranges for c in pair):
            outcome.total_items = sum(c.batch_size for c in outcome.cursor_configs)
        return outcome

    def batch_analyzer_success(
        self,
        outcome: BatchAnalyzerOutcome | None = None,
        metadata: Mapping[str, Any] | None = None,
        worker_template_name: str | None = "batch_worker",
        cursor_configs: (
            Sequence[CursorConfig | BatchWorkerConfig | Mapping[str, Any]] | None
        ) = None,
        total_items: int | None = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Say which workers to create; the step is done then.

        The result is `{"batch_processing_outcome": {"type": "create_batches", …},
        "worker_count": int, "total_items": int, "batch_metadata": {}}`. Without any
        range it is that of `no_batches_outcome`, with `batch_metadata["reason"]` or
        `"empty_dataset"` as the reason.

        Args:
            outcome: What `create_batch_outcome` gave.
            metadata: Facts about the attempt. Copied.
            worker_template_name: The template's step of type `batch_worker`; None is the
                one that the analyzer's `batch_config` names.
            cursor_configs: Ranges, instead of the outcome's.
            total_items: Instead of the outcome's; 0 if nobody says.
            batch_metadata: Instead of the outcome's.
        """
        if cursor_configs is None and outcome is None:
            return self.no_batches_outcome("no_cursor_configs_provided", metadata)
        given = outcome or BatchAnalyzerOutcome()
        facts = dict(given.batch_metadata if batch_metadata is None else batch_metadata)
        chosen = given.cursor_configs if cursor_configs is None else cursor_configs
        configs = [cursor_config(value) for value in chosen]
        if not configs:
            reason = str(facts.pop("reason", None) or "empty_dataset")
            return self.no_batches_outcome(reason, {**facts, **(metadata or {})})
        items = given.total_items if total_items is None else total_items
        created = create_batches(worker_template_name, len(configs), configs, items or 0)
        result: dict[str, Any] = {
            "batch_processing_outcome": created.model_dump(),
            "worker_count": created.worker_count,
            "total_items": created.total_items,
        }
        if facts:
            result["batch_metadata"] = facts
        return StepHandlerResult.success(result, {**(metadata or {}), "batch_analyzer": True})

    def no_batches_outcome(
        self, reason: str, metadata: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Say that there is nothing to do.

        Args:
            reason: Why.
            metadata: More facts, put into the result beside the reason.
        """
        return StepHandlerResult.success(
            {
                "batch_processing_outcome": no_batches().model_dump(),
                "reason": reason,
                **(metadata or {}),
            },
            {"batch_analyzer": True, "no_batches": True},
        )

    # --- a worker -----------------------------------------------------------------------

    def get_batch_context(self, context: StepContext) -> BatchWorkerContext | None:
        """Give the worker's range and checkpoint; None if the step is no batch worker."""
        return BatchWorkerContext.from_step_context(context)

    def get_batch_worker_context(self, context: StepContext) -> BatchWorkerContext | None:
        """Do what `get_batch_context` does."""
        return BatchWorkerContext.from_step_context(context)

    def get_batch_worker_inputs(self, context: StepContext) -> BatchWorkerInputs | None:
        """Give what the engine has put into the step's inputs; None if the step is no worker."""
        return BatchWorkerInputs.of(context)

    def create_batch_context(
        self,
        cursor_config: CursorConfig,
        batch_index: int,
        total_batches: int,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> BatchWorkerContext:
        """Make a worker's context by hand, with a random `batch_id`: for tests."""
        return BatchWorkerContext(
            batch_id=str(uuid4()),
            cursor_config=cursor_config,
            batch_index=batch_index,
            total_batches=total_batches,
            batch_metadata=dict(batch_metadata or {}),
        )

    def handle_no_op_worker(self, context: StepContext) -> StepHandlerResult | None:
        """Answer for the placeholder of an analyzer that found nothing; None for real work.

        Call it first, and return what it gives unless that is None.
        """
        return no_op_result(context)

    def create_worker_outcome(
        self,
        items_processed: int,
        items_succeeded: int | None = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: Iterable[Any] | None = None,
        errors: Iterable[Any] | None = None,
        last_cursor: Any = None,
        batch_metadata: Mapping[str, Any] | None = None,
    ) -> BatchWorkerOutcome:
        """Say what became of the items; `items_succeeded` None is all that were processed."""
        return BatchWorkerOutcome(
            items_processed=items_processed,
            items_succeeded=items_processed if items_succeeded is None else items_succeeded,
            items_failed=items_failed,
            items_skipped=items_skipped,
            results=list(results or ()),
            errors=list(errors or ()),
            last_cursor=last_cursor,
            batch_metadata=dict(batch_metadata or {}),
        )

    def batch_worker_success(
        self,
        outcome: BatchWorkerOutcome | BatchWorkerContext | None = None,
        metadata: Mapping[str, Any] | None = None,
        items_processed: int | None = None,
        items_succeeded: int | None = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: Iterable[Any] | None = None,
        errors: Iterable[Any] | None = None,
        last_cursor: Any = None,
        batch_metadata: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Say that the range is done.

        The result is `{"items_processed": int, "items_succeeded": int, "items_failed": int,
        "items_skipped": int, "last_cursor": …, "batch_metadata": {}, "results": [],
        "errors": []}`, the last two only if there are any.

        Args:
            outcome: What `create_worker_outcome` gave; or the worker's own context, when
                its whole range was processed.
            metadata: Facts about the attempt. Copied.
            items_processed: With the arguments after it, instead of an outcome.
            items_succeeded: None is all that were processed.
            result: More keys for the result.
        """
        if items_processed is None and isinstance(outcome, BatchWorkerContext):
            items_processed = outcome.batch_size
            batch_metadata = outcome.batch_metadata if batch_metadata is None else batch_metadata
            last_cursor = outcome.end_cursor if last_cursor is None else last_cursor
        if items_processed is not None:
            outcome = self.create_worker_outcome(
                items_processed,
                items_succeeded,
                items_failed,
                items_skipped,
                results,
                errors,
                last_cursor,
                batch_metadata,
            )
        if not isinstance(outcome, BatchWorkerOutcome):
            return StepHandlerResult.failure(
                "batch_worker_success needs an outcome or items_processed",
                "invalid_args",
                retryable=False,
            )
        return StepHandlerResult.success(
            {**outcome.as_result(), **(result or {})}, {**(metadata or {}), "batch_worker": True}
        )

    def batch_worker_partial_failure(
        self,
        outcome: BatchWorkerOutcome,
        message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Say that the range is done although some items failed; the step is complete.

        The result has `partial_failure` and `partial_failure_message` besides.
        """
        failed, processed = outcome.items_failed, outcome.items_processed
        return StepHandlerResult.success(
            {
                **outcome.as_result(),
                "partial_failure": True,
                "partial_failure_message": message or f"{failed} of {processed} items failed",
            },
            {**(metadata or {}), "batch_worker": True, "had_failures": True},
        )

    def checkpoint_yield(
        self,
        cursor: Any,
        items_processed: int,
        accumulated_results: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Store how far the worker has come, and run it again from there.

        It has to be returned: the call alone does nothing. The step stays in progress
        and no attempt is used up; a retry, too, begins at the last checkpoint.

        Args:
            cursor: Where to go on; any JSON value.
            items_processed: In all runs of this step together.
            accumulated_results: What to carry along; stored each time, so keep it small.
        """
        return checkpoint_yield(cursor, items_processed, accumulated_results)

    # --- the aggregator -----------------------------------------------------------------

    def detect_aggregation_scenario(
        self,
        dependency_results: Mapping[str, Any],
        batchable_step_name: str,
        batch_worker_prefix: str,
    ) -> BatchAggregationScenario:
        """Look through the results before an aggregator, as `BatchAggregationScenario.detect`."""
        return BatchAggregationScenario.detect(
            dependency_results, batchable_step_name, batch_worker_prefix
        )

    def no_batches_aggregation_result(
        self, zero_metrics: Mapping[str, Any] | None = None
    ) -> StepHandlerResult:
        """Say that there was nothing to add up.

        The result is `{"worker_count": 0, "scenario": "no_batches", **zero_metrics}`.
        """
        return StepHandlerResult.success(
            {"worker_count": 0, "scenario": "no_batches", **(zero_metrics or {})}
        )

    def aggregate_batch_worker_results(
        self,
        scenario: BatchAggregationScenario,
        zero_metrics: Mapping[str, Any] | None = None,
        aggregation_fn: Callable[[dict[str, dict[str, Any]]], Mapping[str, Any]] | None = None,
    ) -> StepHandlerResult:
        """Add up the workers' results, or say that there are none.

        Args:
            zero_metrics: For the result when there was nothing to do.
            aggregation_fn: From worker's name → result to what the result shall have;
                None gives `{"batch_results": {}}`, unchanged.
        """
        if scenario.no_batches():
            return self.no_batches_aggregation_result(zero_metrics)
        results = scenario.batch_results
        sums = {"batch_results": results} if aggregation_fn is None else aggregation_fn(results)
        return StepHandlerResult.success(
            {**sums, "worker_count": scenario.worker_count, "scenario": "with_batches"}
        )

    @staticmethod
    def aggregate_worker_results(
        worker_results: Iterable[Mapping[str, Any] | None],
    ) -> dict[str, Any]:
        """Add up workers' results as `aggregate_batch_results` does; gives its fields."""
        return aggregate_batch_results(worker_results).model_dump()


BatchableMixin = Batchable


def no_op_result(context: StepContext) -> StepHandlerResult | None:
    """Answer for a placeholder; None for a step that has work to do."""
    inputs = context.step_inputs
    if not isinstance(inputs, Mapping) or inputs.get("is_no_op") is not True:
        return None
    cursor = inputs.get("cursor")
    batch_id = str(cursor.get("batch_id") or "") if isinstance(cursor, Mapping) else ""
    return StepHandlerResult.success(
        {
            "batch_id": batch_id,
            "no_op": True,
            "processed_count": 0,
            "message": "there was nothing to do",
            "processed_at": datetime.now(UTC).isoformat(),
        },
        {"batch_worker": True, "no_op": True},
    )
