"""One task of a test: let it go on, step in as an operator, ask what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack
from uuid import UUID

from tasker_core.engine.inspect import AttemptRecord
from tasker_core.engine.operate import cancel_task, complete_step, reset_step, resolve_step
from tasker_core.errors import PermanentError, ResolutionError
from tasker_core.handlers.bound import BoundHandler, HandlerDefinition
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.events.types import InProcessDomainEvent
from tasker_core.states import TaskState
from tasker_core.templates.model import TaskTemplate
from tasker_core.testing.asserts import Assertions
from tasker_core.testing.clock import TimeUnits, span
from tasker_core.testing.contexts import stops_the_test
from tasker_core.testing.mocks import REAL, TIMES_OUT, WORKER_LOST, Mocks, Outcome, play, timed_out
from tasker_core.testing.records import Results, RunStep, RunTransition, Snapshot, read_snapshot
from tasker_core.testing.sources import HandlerSources, refuse_unknown_step

if TYPE_CHECKING:
    from tasker_core.testing.flows import Bench

ACTOR = "test"
REASON = "asked for by a test"

T = TypeVar("T")


class Run(Assertions):
    """One task of a test, and what became of it.

    Whatever it does, it goes on until nothing can run at the moment: a worker that never
    sleeps stands behind it.
    """

    def __init__(
        self,
        bench: Bench,
        task_uuid: UUID,
        template: TaskTemplate,
        mocks: Mocks,
        sources: HandlerSources,
        *,
        skip_waits: bool,
        timeout: float,
    ) -> None:
        self.bench = bench
        self.task_uuid = task_uuid
        self.template = template
        self.skip_waits = skip_waits
        self.timeout = timeout
        self.is_held = False  # by `until`: nothing of it runs while another run is driven
        self._mocks = mocks
        self._sources = sources
        self._problems: list[BaseException] = []  # the test's own, met inside of handlers
        self._snapshot: tuple[int, Snapshot] | None = None

    # --- let it go on -------------------------------------------------------------------

    def go_on(self, *, until: str | None = None, skip_waits: bool | None = None) -> Self:
        """Run what can run, after `until` or after the clock was moved.

        Args:
            until: Begin no step any more once this one has ended. Holds until the run goes on
                again, whatever else is run meanwhile.
            skip_waits: Let time pass as far as retries need it; None: as the run began.

        Raises:
            AssertionError: A mock failed the test, or has no outcome left.
            ResolutionError: A step is to run that has neither a handler nor a mock.
            TimeoutError: It did not come to rest within the run's `timeout`.
        """
        if until is not None:
            known = [*self.snapshot().steps, *(step.name for step in self.template.steps)]
            refuse_unknown_step(self.template, until, known, "until names step")
        skipping = self.skip_waits if skip_waits is None else skip_waits
        try:
            self.bench.drive(self, until, skipping, self.timeout)
        except TimeoutError:
            raise TimeoutError(
                f"the run did not come to rest within {self.timeout:g} seconds of real time\n\n"
                + self.describe()
            ) from None
        if self._problems:
            raise self._problems.pop(0)
        return self

    def advance(self, by: timedelta | None = None, /, **units: Unpack[TimeUnits]) -> Self:
        """Let time pass, and run what is due by then: `run.advance(hours=1)`."""
        self.bench.clock.advance(span(by, units))
        return self.go_on()

    def mock(self, mocks: Mapping[str, Outcome]) -> Self:
        """Mock steps otherwise from now on."""
        self._mocks.set(mocks)
        self.bench.look_for_handlers()
        return self

    # --- what an operator may do ----------------------------------------------------------

    def reset(self, step: str, *, reason: str = REASON, drop_checkpoint: bool = False) -> Self:
        """Run a failed step again, with all its attempts before it.

        Raises:
            TransitionRefused: It is not in error; likewise below when that is not allowed.
        """
        found = self._step_uuid(step)
        self.bench.do(
            lambda conn: reset_step(
                conn,
                self.task_uuid,
                found,
                actor=ACTOR,
                reason=reason,
                drop_checkpoint=drop_checkpoint,
            )
        )
        return self.go_on()

    def resolve(self, step: str, *, reason: str = REASON, force: bool = False) -> Self:
        """Declare a step settled without a result."""
        found = self._step_uuid(step)
        self.bench.do(
            lambda conn: resolve_step(
                conn, self.task_uuid, found, actor=ACTOR, reason=reason, force=force
            )
        )
        return self.go_on()

    def complete(
        self, step: str, result: Any, *, reason: str = REASON, force: bool = False
    ) -> Self:
        """Complete a step with a result, as if its handler had."""
        found = self._step_uuid(step)
        self.bench.do(
            lambda conn: complete_step(
                conn,
                self.bench.shelf,
                self.task_uuid,
                found,
                result=result,
                actor=ACTOR,
                reason=reason,
                force=force,
            )
        )
        return self.go_on()

    def cancel(self, *, reason: str = REASON) -> Self:
        """Cancel the task."""
        self.bench.do(lambda conn: cancel_task(conn, self.task_uuid, actor=ACTOR, reason=reason))
        return self.go_on()

    # --- what became of it ------------------------------------------------------------------

    @property
    def state(self) -> TaskState:
        """The task's state; equals its name: `run.state == "complete"`."""
        return self.snapshot().task.state

    @property
    def results(self) -> Results:
        """Step → result, of every step that is complete."""
        return Results(self.steps)

    @property
    def steps(self) -> dict[str, RunStep]:
        """The steps that exist, parents before children."""
        return self.snapshot().steps

    def attempts(self, step: str) -> list[AttemptRecord]:
        """The attempts of a step that have ended, the first one first."""
        return list(self._attempts(step))

    @property
    def ran(self) -> list[str]:
        """The steps that were attempted, in the order in which they first began."""
        first: dict[int, AttemptRecord] = {}
        for attempt in self.snapshot().attempts:
            known = first.setdefault(attempt.step_no, attempt)
            if attempt.claimed_at < known.claimed_at:
                first[attempt.step_no] = attempt
        names = {step.record.step_no: step.name for step in self.steps.values()}
        order = sorted(first.values(), key=lambda one: (one.claimed_at, one.step_no))
        return [names[one.step_no] for one in order]

    @property
    def events(self) -> list[InProcessDomainEvent]:
        """The events that its steps published, in order, whatever their delivery mode."""
        return list(self.bench.published(self.task_uuid))

    @property
    def transitions(self) -> list[RunTransition]:
        """Every change of state, in order."""
        return self.snapshot().transitions

    def snapshot(self) -> Snapshot:
        """Give all about the task at this moment: one read after each thing that happened."""
        if self._snapshot is None or self._snapshot[0] != self.bench.turn_count:
            seen = self.bench.read(lambda conn: read_snapshot(conn, self.task_uuid))
            self._snapshot = (self.bench.turn_count, seen)
        return self._snapshot[1]

    def refresh(self) -> Self:
        """Read anew: after code under test has changed the task in the database itself."""
        self._snapshot = None
        return self

    def describe(self) -> str:
        """Show task and steps, a line each."""
        return self.snapshot().describe()

    def __repr__(self) -> str:
        return f"<Run {self.template.label} {self.task_uuid}>"

    # --- for the worker -----------------------------------------------------------------------

    def find(self, wanted: HandlerDefinition) -> BoundHandler | None:
        """Give what runs these steps; None if there is neither handler nor mock."""
        mocked = [
            self._mocks.covers(step.name)
            for step in self.template.steps
            if step.handler.callable == wanted.callable
        ]
        real = None if mocked and all(mocked) else self._sources.find(wanted)
        if real is None and any(mocked):
            return BoundHandler(wanted.callable, "", False, lambda context: None)
        return real

    def execute(self, wanted: HandlerDefinition, context: StepContext) -> Any:
        """Run one attempt: the mock, or the real handler."""
        try:
            outcome = self._mocks.take(context.step_name)
            if outcome is REAL:
                return self._real(wanted, context).run(context)
            if outcome is TIMES_OUT:
                return timed_out(self._timeout_of(context.step_name))
            if outcome is WORKER_LOST:
                self.bench.lose(self.task_uuid, context.step_name)
                return None
        except (AssertionError, ResolutionError) as error:
            self._note(error)
        value = self._guarded(lambda: play(outcome, context))
        return self._guarded_awaitable(value) if hasattr(value, "__await__") else value

    def _real(self, wanted: HandlerDefinition, context: StepContext) -> BoundHandler:
        found = self._sources.find(wanted)
        if found is None:
            raise no_handler(context.step_name, wanted.callable)
        return found

    def _timeout_of(self, step: str) -> float | None:
        return next((one.timeout_seconds for one in self.template.steps if one.name == step), None)

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except BaseException as error:
            if isinstance(error, AssertionError) or stops_the_test(error):
                self._note(error)
            raise

    async def _guarded_awaitable(self, value: Any) -> Any:
        try:
            return await value
        except BaseException as error:
            if isinstance(error, AssertionError) or stops_the_test(error):
                self._note(error)
            raise

    @property
    def has_problem(self) -> bool:
        """Whether the test has failed inside of a handler."""
        return bool(self._problems)

    def _note(self, error: BaseException) -> NoReturn:
        """Keep what is the test's; the step fails for good, so that nothing goes on."""
        self._problems.append(error)
        raise PermanentError(f"the test failed: {error}") from error

    def _step_uuid(self, name: str) -> UUID:
        found = self._step(name)
        if found is None:
            raise ValueError(f"the task has no step {name!r}\n\n{self.describe()}")
        return found.record.step_uuid


def no_handler(step: str, name: str) -> ResolutionError:
    """Say that a step can neither be run nor mocked."""
    return ResolutionError(
        name,
        f"step {step!r} is to run, and nobody knows it; give it in handlers=… or packages=…, "
        f"import its module, or mock the step",
    )
