"""Where a worker looks for steps that wait.

Whoever makes a step ready tells its namespace. A namespace in which nothing was found is not
looked at again before it is told of, so that what a call costs does not grow with the lanes
that a worker serves. Since what is told may be lost, all are looked at now and then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from tasker_core.engine.claim import Lane

MOST_AT_ONCE = 64  # namespaces that one call looks at


class Lookout:
    """The namespaces that a worker serves, and in which of them something may wait.

    Args:
        poll_seconds: How often to look everywhere, told or not.
    """

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._lanes: dict[str, list[int]] = {}
        self._told: dict[str, None] = {}  # in the order in which to look
        self._looking: list[list[str]] = []  # by call
        self._everywhere_at = 0.0  # time.monotonic()
        self.is_due = False  # a delayed step: a call enqueues it, and then one is told

    def serve(self, lanes: Iterable[Lane]) -> None:
        """Serve these lanes from now on."""
        self._lanes = {}
        for lane in lanes:
            self._lanes.setdefault(lane.namespace, []).append(lane.lane)
        self._told = {}
        self.look_everywhere()

    def tell(self, namespace: str) -> bool:
        """Something may wait there; say whether it is served here."""
        if namespace not in self._lanes:
            return False
        self._told[namespace] = None
        return True

    def look_everywhere(self) -> None:
        """Something may wait anywhere."""
        self._everywhere_at = time.monotonic() + self._poll_seconds
        self._told.update(dict.fromkeys(self._lanes))

    @property
    def has_any(self) -> bool:
        """Whether there is anywhere to look."""
        return bool(self._told) or self.is_due

    @property
    def seconds_to_poll(self) -> float:
        """How long until it is to look everywhere."""
        return max(0.0, self._everywhere_at - time.monotonic())

    def begin(self) -> list[str]:
        """Take the next namespaces for a call to look at, and those that another is looking at.

        Nothing waits in them afterwards, unless `end` says so, or one is told of them again.
        """
        if not self.seconds_to_poll:
            self.look_everywhere()
        self.is_due = False
        others = (namespace for looking in self._looking for namespace in looking)
        taken = list(dict.fromkeys([*self._told, *others]))[:MOST_AT_ONCE]
        for namespace in taken:
            self._told.pop(namespace, None)
        self._looking.append(taken)
        return taken

    def end(self, looked: list[str], *, found_all: bool) -> None:
        """A call has looked; if not to the end, the first one is the last one of all now."""
        self._looking = [one for one in self._looking if one is not looked]
        if not found_all:
            self._put_first(looked[1:])
            for namespace in looked[:1]:
                self._told.pop(namespace, None)  # told of meanwhile
                self._told[namespace] = None

    def fail(self, looked: list[str]) -> None:
        """The call did not look at all."""
        self._looking = [one for one in self._looking if one is not looked]
        self._put_first(looked)
        self.is_due = True  # it may have been

    def _put_first(self, namespaces: list[str]) -> None:
        self._told = dict.fromkeys([*namespaces, *self._told])

    def lanes_of(self, namespaces: Iterable[str]) -> list[int]:
        """List the lanes of these namespaces, those of one side by side."""
        return [lane for one in namespaces for lane in self._lanes.get(one, ())]
