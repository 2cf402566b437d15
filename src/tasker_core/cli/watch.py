"""Follow one task: as a live view, as one line a transition, or in silence.

The task is looked at every now and then. Its transitions come from its history, so
that none is missed between two looks. A server that restarts is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import typer

from tasker_core.cli.failures import ExitCode, WaitedTooLong
from tasker_core.cli.output import Output
from tasker_core.cli.views import (
    attempts_of,
    error_in,
    error_of,
    moment,
    note_of,
    progress_of,
    state_text,
    task_view,
    template_of,
)
from tasker_core.observe.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from tasker_core.client import StepAuditResponse, StepResponse, TaskerClient, TaskResponse

T = TypeVar("T")

GOOD_ENDS = frozenset({"complete", "resolved_manually"})
BAD_ENDS = frozenset({"error", "cancelled", "blocked_by_failures"})

PATIENCE_SECONDS = 15.0  # with a server that does not answer
FRAME_SECONDS = 0.1
COST = 5  # rest at least so many times as long as looking took: a large task is a large answer

MAX_EXPLAINED = 20  # steps that failed between two looks

ORDER = ("error", "in_progress", "waiting_for_retry", "enqueued", "pending")


class Watch:
    """One task under observation.

    Args:
        interval: Seconds between two looks.
        timeout: Seconds to watch at most; None is for ever.
        until: A status to stop at; None is any that ends the task.
    """

    def __init__(
        self,
        client: TaskerClient,
        task_uuid: UUID,
        *,
        interval: float,
        timeout: float | None,
        until: str | None,
    ) -> None:
        self.task: TaskResponse | None = None
        self.steps: list[StepResponse] = []
        self._client = client
        self._task_uuid = task_uuid
        self._interval = interval
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._until = (
            frozenset(until.replace("completed", "complete").split(",")) if until else None
        )
        self._told: set[tuple[Any, ...]] = set()

    # --- three ways to follow -----------------------------------------------------------

    def wait(self, out: Output) -> None:
        """Say nothing until the task has ended, then show it."""
        while not self._look(out):
            time.sleep(self._rest())
        assert self.task is not None
        task = self._client.get_task(self._task_uuid)
        out.data(vars(task), lambda: task_view(task))

    def lines(self, out: Output) -> None:
        """Write one line, or one JSON object, for every transition."""
        while True:
            ended = self._look(out)
            for transition in self._news(out):
                out.event(transition, _line(transition))
            if ended:
                return
            time.sleep(self._rest())

    def live(self, out: Output) -> None:
        """Show the task as it stands, ten times a second."""
        from rich.live import Live

        console = out.console()
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                ended = self._look(out, with_steps=True)
                next_look = time.monotonic() + self._rest()
                while True:
                    live.update(self._picture(console.height), refresh=True)
                    if ended:
                        return
                    rest = next_look - time.monotonic()
                    if rest <= 0:
                        break
                    time.sleep(min(rest, FRAME_SECONDS))

    def leave(self, out: Output) -> None:
        """Say what went wrong, if anything did, and leave with the exit code for it."""
        assert self.task is not None
        status = self.task.status
        if status not in BAD_ENDS or (self._until and status in self._until):
            return
        out.warn(f"task {self._task_uuid} is {status}")
        if status != "cancelled":
            failed = [s for s in self._list_steps(out) if s.current_state == "error"]
            for step in failed[:10]:
                why = error_of(step) or "no reason is recorded"
                out.warn(f"  {step.name}, {attempts_of(vars(step))} attempts: {why}")
            if failed:
                out.note(
                    f"run it again: tasker-ctl task reset-step {self._task_uuid} "
                    f"{failed[0].name} --reason '…'"
                )
        raise typer.Exit(ExitCode.TASK_FAILED)

    # --- looking ------------------------------------------------------------------------

    def _look(self, out: Output, *, with_steps: bool = False) -> bool:
        """Read how the task stands; tell whether that is what is waited for."""
        began = time.monotonic()
        self.task = self._patiently(
            out, lambda: self._client.get_task(self._task_uuid, include_steps=False)
        )
        if with_steps:
            self.steps = self._list_steps(out)
        self._took = time.monotonic() - began
        status = self.task.status
        if status in (self._until or GOOD_ENDS | BAD_ENDS) or status in _TERMINAL:
            return True
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise WaitedTooLong(self._task_uuid, self._timeout or 0, status)
        return False

    def _rest(self) -> float:
        rest = max(self._interval, COST * self._took)
        if self._deadline is not None:
            rest = min(rest, max(0.0, self._deadline - time.monotonic()))
        return rest

    def _list_steps(self, out: Output) -> list[StepResponse]:
        return self._patiently(out, lambda: self._client.list_task_steps(self._task_uuid))

    def _patiently(self, out: Output, ask: Callable[[], T]) -> T:
        """Ask again while the server is away, for a while."""
        from tasker_core.client import TaskerClientError

        give_up = time.monotonic() + PATIENCE_SECONDS
        if self.task is None:
            give_up = 0.0  # it never was there
        rest = 0.2
        while True:
            try:
                return ask()
            except TaskerClientError as error:
                if not error.recoverable or time.monotonic() > give_up:
                    raise
                if rest == 0.2:
                    out.note(f"waiting for the server: {error}")
            time.sleep(rest)
            rest = min(2.0, rest * 2)

    def _news(self, out: Output) -> Iterator[dict[str, Any]]:
        """Give the transitions that were not told yet, with the error of what failed."""
        found = self._patiently(out, lambda: self._client.list_task_transitions(self._task_uuid))
        news = []
        for one in found:
            key = (one["step_uuid"], one["from_state"], one["to_state"], one["moved_at"])
            if key not in self._told:
                self._told.add(key)
                news.append(one)
        reasons = self._reasons(out, {one["step_uuid"] for one in news if _is_failure(one)})
        for one in news:
            reason = reasons.get((one["step_uuid"], one["attempt"])) if _is_failure(one) else None
            yield {**one, "error": reason}

    def _reasons(self, out: Output, step_uuids: set[str]) -> dict[tuple[str, int | None], str]:
        """Say why each attempt of these steps failed; of many steps, of a few."""
        found = {}
        for step_uuid in sorted(step_uuids)[:MAX_EXPLAINED]:
            for audit in self._patiently(out, partial(self._audit, step_uuid)):
                error = error_in(audit.result)
                if error is not None:
                    found[step_uuid, audit.attempt] = error
        return found

    def _audit(self, step_uuid: str) -> list[StepAuditResponse]:
        return self._client.get_step_audit_history(self._task_uuid, step_uuid)

    # --- the live view ------------------------------------------------------------------

    def _picture(self, height: int) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        task = self.task
        assert task is not None
        now = datetime.now(UTC)
        head = Text.assemble((template_of(task), "bold"), "  ", (task.task_uuid, "dim"))
        bar = Table.grid(padding=(0, 2, 0, 0))
        bar.add_row(
            state_text(task.status),
            ProgressBar(total=max(1, task.total_steps), completed=task.completed_steps, width=30),
            f"{task.completed_steps}/{task.total_steps}",
            progress_of(task),
            _seconds(task.created_at, task.completed_at, now),
        )
        return Group(head, bar, "", self._steps_table(max(3, height - 6), now))

    def _steps_table(self, room: int, now: datetime) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = self.steps
        if len(shown) > room:  # what moves, in the order of the graph
            rank = {state: at for at, state in enumerate(ORDER)}
            keep = sorted(shown, key=lambda s: rank.get(s.current_state, len(ORDER)))[: room - 1]
            names = {step.step_uuid for step in keep}
            shown = [step for step in shown if step.step_uuid in names]
        made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for column in ("step", "state", "attempt", "time"):
            made.add_column(column, no_wrap=True)
        made.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        for step in shown:
            started = step.last_attempted_at
            made.add_row(
                visible(step.name),
                state_text(step.current_state),
                attempts_of(vars(step)) if step.attempts else "",
                _seconds(started, step.completed_at, now) if _has_run(step) else "",
                Text(note_of(step, now) or "", style="red" if error_of(step) else ""),
            )
        hidden = len(self.steps) - len(shown)
        return Group(made, Text(f"… and {hidden} more", style="dim")) if hidden else made


_TERMINAL = (GOOD_ENDS | BAD_ENDS) - {"blocked_by_failures"}


def _has_run(step: StepResponse) -> bool:
    return step.current_state in ("in_progress", "complete") and step.attempts > 0


def _seconds(start: str | None, end: str | None, now: datetime) -> str:
    began = moment(start)
    if began is None:
        return ""
    seconds = ((moment(end) or now) - began).total_seconds()
    return f"{max(0.0, seconds):.1f} s"  # the server's clock may be ahead of ours


def _is_failure(transition: dict[str, Any]) -> bool:
    failed = transition["to_state"] in ("error", "waiting_for_retry")
    return failed and transition["step_uuid"] is not None


def _line(transition: dict[str, Any]) -> Text:
    """Write a transition: `14:03:11.250 UTC  charge_card  in_progress → complete  attempt 2`."""
    from rich.text import Text

    from tasker_core.cli.output import STYLES, written

    at = moment(transition["moved_at"])
    clock = written(at, f"%H:%M:%S.{at.microsecond // 1000:03}") if at else "-"
    state = transition["to_state"]
    text = Text.assemble(
        (clock, "dim"),
        f"  {visible(transition['step_name'] or 'task')}  {transition['from_state'] or '-'} → ",
        (state, STYLES.get(state, "")),
    )
    if transition["step_uuid"] and transition["attempt"]:
        text.append(f"  attempt {transition['attempt']}", "dim")
    if transition["actor"]:
        text.append(f"  by {visible(transition['actor'])}: {visible(transition['reason'] or '')}")
    elif transition["reason"]:
        text.append(f"  {visible(transition['reason'])}")
    if transition["error"]:
        text.append(f"  {visible(transition['error'])}", "red")
    return text
