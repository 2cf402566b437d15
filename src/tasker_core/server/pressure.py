"""Refuse work while there is too much of it: new tasks when their namespace is full, and
requests when too many wait for a connection.

Both limits are settings. What is refused can be sent again: the reply says when.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import structlog

from tasker_core.errors import DatabaseUnreachable
from tasker_core.observe.gauges import Watch
from tasker_core.server.problems import Refusal

READING_SECONDS = 2.0  # a reading of this age still decides
QUEUE_RETRY_SECONDS = 30
POOL_RETRY_SECONDS = 2

_log = structlog.get_logger("tasker.server")


class Overloaded(Refusal):
    """Too much is under way; the request may come again later."""

    def __init__(self, reason: str, detail: str, retry_after: int, **facts: Any) -> None:
        # so that those who were refused together do not come back together
        later = max(1, round(retry_after * random.uniform(0.8, 1.2)))
        super().__init__(503, "BACKPRESSURE", detail, retry_after=later, reason=reason, **facts)


class Pressure:
    """How full the namespaces are, and what has been refused.

    Args:
        watch: Reads how many steps are enqueued.
        most: With so many in a namespace it takes no more tasks; None: any number.
    """

    def __init__(self, watch: Watch, most: int | None) -> None:
        self._watch = watch
        self._most = most
        self._full: dict[str, int] = {}  # the steps enqueued in namespaces that are full
        self.refused: Counter[str] = Counter({"queue_depth": 0, "pool": 0})

    async def refuse_if_full(self, *namespaces: str) -> None:
        """Let a new task of these namespaces in, or refuse it.

        Raises:
            Overloaded: One of them is full.
        """
        if self._most is None:
            return
        try:
            reading = await self._watch.reading(max_age=READING_SECONDS)
        except (DatabaseUnreachable, TimeoutError):  # the creation itself will say so
            return
        self._full = {
            space.namespace: space.enqueued
            for space in reading.gauges.namespaces
            if space.enqueued >= self._most
        }
        for namespace in namespaces:
            if namespace in self._full:
                raise self.refusal(
                    "queue_depth",
                    f"namespace {namespace} has {self._full[namespace]} steps enqueued, and takes "
                    f"no more tasks from {self._most} on; try again later",
                    QUEUE_RETRY_SECONDS,
                    queue=namespace,
                    depth=self._full[namespace],
                )

    def refusal(self, reason: str, detail: str, retry_after: int, **facts: Any) -> Overloaded:
        """Make the error to raise, counted and told."""
        self.refused[reason] += 1
        _log.warning("refused_for_load", reason=reason)
        return Overloaded(reason, detail, retry_after, **facts)

    def full_namespaces(self) -> list[str]:
        """Name the namespaces that were full when somebody last asked."""
        return sorted(self._full)
