"""How the results of batch workers are added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

MAX_ERRORS = 100


class BatchAggregationResult(BaseModel):
    """The sums over all workers."""

    total_processed: int = 0
    total_succeeded: int = 0
    total_failed: int = 0
    total_skipped: int = 0
    batch_count: int = 0  # workers that have a result
    success_rate: float = 0.0  # succeeded of processed, 0.0 to 1.0; 0.0 if none was processed
    errors: list[Any] = Field(default_factory=list)  # the first ones
    error_count: int = 0  # all of them


def aggregate_batch_results(
    worker_results: Iterable[Mapping[str, Any] | None], max_errors: int = MAX_ERRORS
) -> BatchAggregationResult:
    """Add up the results of batch workers, as `Batchable.batch_worker_success` makes them.

    Args:
        worker_results: None is passed over; what a result lacks counts as 0.
        max_errors: No more errors than this are kept; all are counted.

    >>> done = {"items_processed": 3, "items_succeeded": 2, "items_failed": 1, "errors": ["x"]}
    >>> total = aggregate_batch_results([done, None, done])
    >>> total.total_processed, total.batch_count, total.error_count
    (6, 2, 2)
    """
    results = [result for result in worker_results if result is not None]

    def total(key: str) -> int:
        return sum(result.get(key) or 0 for result in results)

    processed, succeeded = total("items_processed"), total("items_succeeded")
    errors = [error for result in results for error in result.get("errors") or ()]
    return BatchAggregationResult(
        total_processed=processed,
        total_succeeded=succeeded,
        total_failed=total("items_failed"),
        total_skipped=total("items_skipped"),
        batch_count=len(results),
        success_rate=succeeded / processed if processed else 0.0,
        errors=errors[:max_errors],
        error_count=len(errors),
    )


@dataclass
class BatchAggregationScenario:
    """What an aggregator finds: nothing to do, or the results of workers."""

    is_no_batches: bool
    batchable_result: dict[str, Any]  # the analyzer's
    batch_results: dict[str, dict[str, Any]] = field(default_factory=dict)  # worker's name → result
    worker_count: int = 0

    @classmethod
    def detect(
        cls,
        dependency_results: Mapping[str, Any],
        batchable_step_name: str,
        batch_worker_prefix: str,
    ) -> BatchAggregationScenario:
        """Look through the results before an aggregator.

        Args:
            dependency_results: The context's: step name → `{"result": …}` or the result.
            batchable_step_name: The analyzer.
            batch_worker_prefix: How the workers' names begin: the name of their template.
                If the analyzer's result lists the workers, others are left out.

        Raises:
            ValueError: The analyzer's result is not there, or it has made batches but
                no worker's result is there.
        """
        analyzed = _unwrapped(dependency_results.get(batchable_step_name))
        if not isinstance(analyzed, Mapping):
            raise ValueError(
                f"Missing batchable step dependency: {batchable_step_name!r} has no result; "
                f"there are {sorted(dependency_results)}"
            )
        analyzed = dict(analyzed)
        outcome = analyzed.get("batch_processing_outcome")
        outcome = outcome if isinstance(outcome, Mapping) else {}
        if outcome.get("type") == "no_batches":
            return cls(is_no_batches=True, batchable_result=analyzed)
        names = [name for name in dependency_results if name.startswith(batch_worker_prefix)]
        names = [name for name in names if name != batchable_step_name]
        listed = _listed(outcome)
        names = [name for name in names if name in listed] or names
        if not names:
            raise ValueError(
                f"No batch workers found: no result's name begins with {batch_worker_prefix!r}; "
                f"there are {sorted(dependency_results)}"
            )
        found = {name: _unwrapped(dependency_results.get(name)) for name in names}
        results = {
            name: dict(value) if isinstance(value, Mapping) else {} for name, value in found.items()
        }
        return cls(False, analyzed, results, len(results))

    def no_batches(self) -> bool:
        """Say whether there was nothing to do."""
        return self.is_no_batches


def _listed(outcome: Mapping[str, Any]) -> set[str]:
    """Name the workers that an analyzer's outcome asks for."""
    template = outcome.get("worker_template_name")
    configs = outcome.get("cursor_configs") or ()
    return {
        f"{template}_{c['batch_id']}" for c in configs if isinstance(c, Mapping) and "batch_id" in c
    }


def _unwrapped(envelope: Any) -> Any:
    if isinstance(envelope, Mapping) and "result" in envelope:
        return envelope["result"]
    return envelope
