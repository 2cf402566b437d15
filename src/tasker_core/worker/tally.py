"""Count what a worker's attempts come to: plain numbers, read when somebody scrapes.

Touched on the worker's event loop only, so nothing is locked; a worker that shows its
metrics to nobody counts no steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasker_core.engine.finish import Finished

if TYPE_CHECKING:
    from tasker_core.worker.attempt import Attempt

# Upper bounds in seconds; the last bucket is what is beyond.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

OUTCOMES = ("complete", "retryable_failure", "permanent_failure", "checkpoint")


class Buckets:
    """How often something took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0  # seconds

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class SpaceTally:
    """What a worker's attempts in one namespace came to."""

    __slots__ = ("outcomes", "took", "waited")

    def __init__(self) -> None:
        self.waited = Buckets()  # from ready to claimed, by the database's clock
        self.took = Buckets()  # from claimed to the result, by the worker's
        self.outcomes = dict.fromkeys(OUTCOMES, 0)


class Tally:
    """What a worker has done since it began."""

    def __init__(self, *, counts_steps: bool) -> None:
        self.counts_steps = counts_steps
        self.spaces: dict[str, SpaceTally] = {}  # no more than the worker serves
        self.refused = 0  # results that came too late
        self.lost = 0  # leases that were gone while the handler ran
        self.taken_back = 0  # attempts whose worker fell silent, found by this worker's sweeps

    def claimed(self, attempts: Iterable[Attempt]) -> None:
        """Count what was claimed, and how long it had been ready."""
        for attempt in attempts:
            self._space(attempt).waited.add(attempt.claim.waited.total_seconds())

    def ended(self, ends: Sequence[tuple[Attempt, Finished]], moment: float) -> None:
        """Count results that are about to be recorded, at this time.monotonic()."""
        for attempt, finished in ends:
            space = self._space(attempt)
            space.took.add(moment - attempt.claimed_at)
            space.outcomes[_outcome(finished)] += 1

    def _space(self, attempt: Attempt) -> SpaceTally:
        template = attempt.plan.template
        name = template.namespace if template is not None else ""
        try:
            return self.spaces[name]
        except KeyError:
            return self.spaces.setdefault(name, SpaceTally())


def _outcome(finished: Finished) -> str:
    if finished.error is not None:
        return "retryable_failure" if finished.retryable else "permanent_failure"
    return "complete" if finished.checkpoint is None else "checkpoint"
