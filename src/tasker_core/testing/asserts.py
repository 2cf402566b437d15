"""What a test may demand of a run; what does not hold is shown with the whole task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from tasker_core.engine.inspect import AttemptRecord
from tasker_core.handlers.events.types import InProcessDomainEvent
from tasker_core.states import StepState, TaskState
from tasker_core.templates.model import TaskTemplate
from tasker_core.testing.records import RunStep, Snapshot
from tasker_core.testing.sources import refuse_unknown_step


class Assertions:
    """The assertions of a `Run`. All raise AssertionError, and ValueError for unknown steps."""

    template: TaskTemplate

    def snapshot(self) -> Snapshot:
        """Give all about the task at this moment."""
        raise NotImplementedError

    @property
    def events(self) -> list[InProcessDomainEvent]:
        """The events that were published."""
        raise NotImplementedError

    def assert_complete(self) -> None:
        """Every step is done."""
        __tracebackhide__ = True
        self.assert_state(TaskState.COMPLETE)

    def assert_state(self, state: str) -> None:
        """The task is in this state, by its name: `"cancelled"`."""
        __tracebackhide__ = True
        seen = self.snapshot()
        if seen.task.state == TaskState(state):
            return
        advice = ""
        if seen.task.state == TaskState.WAITING_FOR_RETRY:
            advice = "; let time pass with run.advance(…), or run with skip_waits=True"
        self._fail(f"the task should be {state}, and is {seen.task.state}{advice}")

    def assert_blocked(
        self,
        step: str | None = None,
        *,
        error_code: str | None = None,
        error_type: str | None = None,
        match: str | None = None,
    ) -> None:
        """The task stands still because a step has failed for good.

        Args:
            step: Which one; None: any.
            error_code: What the handler called its error.
            error_type: `permanent_error`, `timeout` and so on.
            match: A regular expression that the error's message contains.
        """
        __tracebackhide__ = True
        seen = self.snapshot()
        if seen.task.state != TaskState.BLOCKED_BY_FAILURES:
            self._fail(f"the task should be blocked_by_failures, and is {seen.task.state}")
        failed = [one for one in seen.steps.values() if one.state == StepState.ERROR]
        if step is not None:
            found = self._step(step)
            if found is None or found.state != StepState.ERROR:
                names = ", ".join(one.name for one in failed)
                self._fail(f"step {step!r} should have failed; failed: {names}")
            failed = [found]
        demands = {"error_code": error_code, "error_type": error_type}
        for one in failed:
            error = one.error or {}
            if all(want in (None, error.get(key)) for key, want in demands.items()) and (
                match is None or re.search(match, str(error.get("message")))
            ):
                return
        wanted = {key: want for key, want in {**demands, "match": match}.items() if want}
        self._fail(
            "; ".join(
                f"step {one.name!r} failed with "
                f"{ {key: (one.error or {}).get(key) for key in (*demands, 'message')} }"
                for one in failed
            )
            + f", and not with {wanted}"
        )

    def assert_step(self, step: str, state: str) -> None:
        """A step is in this state, by its name: `"waiting_for_retry"`."""
        __tracebackhide__ = True
        found = self._step(step)
        if found is None:
            self._fail(f"step {step!r} should be {state}, and does not exist")
        if found.state != StepState(state):
            self._fail(f"step {step!r} should be {state}, and is {found.state}")

    def assert_ran(self, *steps: str) -> None:
        """Each of these steps ran, and none was over before one named before it had begun.

        So steps that run side by side may be named in either order.
        """
        __tracebackhide__ = True
        attempts = {step: self._attempts(step) for step in steps}
        never = [step for step, found in attempts.items() if not found]
        if never:
            self._fail(f"{_listed(never)} never ran")
        for position, earlier in enumerate(steps):
            for later in steps[position + 1 :]:
                if attempts[later][-1].finished_at <= attempts[earlier][0].claimed_at:
                    self._fail(f"{later!r} ran before {earlier!r}, and not after it")

    def assert_never_ran(self, *steps: str) -> None:
        """No attempt of these steps was ever made, whether or not they exist in the task."""
        __tracebackhide__ = True
        ran = [step for step in steps if self._attempts(step)]
        if ran:
            self._fail(f"{_listed(ran)} should never have run")

    def assert_attempts(self, step: str, count: int) -> None:
        """A step was attempted so often, before resets too."""
        __tracebackhide__ = True
        found = self._attempts(step)
        if len(found) != count:
            ends = ", ".join(str(one.outcome) for one in found)
            self._fail(
                f"step {step!r} should have had {count} attempts, and had {len(found)}"
                + (f": {ends}" if ends else "")
            )

    def assert_event(self, name: str, **payload: Any) -> InProcessDomainEvent:
        """An event was published.

        Args:
            name: Its name; `*` stands for any characters.
            payload: Fields that its payload has, with these values.

        Returns:
            The first such event.
        """
        __tracebackhide__ = True
        named = [event for event in self.events if fnmatchcase(event.event_name, name)]
        for event in named:
            if all(
                key in event.payload and event.payload[key] == want for key, want in payload.items()
            ):
                return event
        if named:
            shown = "; ".join(f"{event.event_name} {event.payload}" for event in named)
            self._fail(f"no event {name!r} has {payload}, but there is {shown}")
        names = ", ".join(event.event_name for event in self.events) or "none"
        self._fail(f"event {name!r} was not published; published: {names}")

    def assert_no_event(self, name: str) -> None:
        """No event of that name was published; `*` stands for any characters."""
        __tracebackhide__ = True
        for event in self.events:
            if fnmatchcase(event.event_name, name):
                self._fail(f"event {event.event_name!r} was published, with {event.payload}")

    def _step(self, name: str) -> RunStep | None:
        """Give a step; None if the task does not have it, although the template does."""
        seen = self.snapshot()
        if name not in seen.steps:
            known = {*seen.steps, *(one.name for one in self.template.steps)}
            refuse_unknown_step(self.template, name, sorted(known), "there is no step")
        return seen.steps.get(name)

    def _attempts(self, name: str) -> Sequence[AttemptRecord]:
        return self.snapshot().attempts_of(name) if self._step(name) else ()

    def _fail(self, message: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{message}\n\n{self.snapshot().describe()}")


def _listed(names: Sequence[str]) -> str:
    return ("step " if len(names) == 1 else "steps ") + ", ".join(map(repr, names))
