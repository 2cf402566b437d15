"""One event: its id, what it says, and how it looks in a stream.

An id says all that is needed to go on after it, on any server. Of one task it is the number
of the event and a check of what it said. Of all tasks it is a snapshot, and for an event
in the middle of what one look found, two of them and the event's place between.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from tasker_core.engine.history import Snapshot, TaskChange, TaskEvent
from tasker_core.engine.ids import step_uuid
from tasker_core.engine.inspect import TaskRecord
from tasker_core.states import TASK_TERMINAL
from tasker_core.wire.common import write_moment
from tasker_core.wire.events import EventType

RETRY = b"retry: 3000\n\n"
HEARTBEAT = b": heartbeat\n\n"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDS = frozenset(TASK_TERMINAL)


@dataclass(frozen=True, slots=True)
class Event:
    """One event, written down once for all its readers."""

    id: str
    type: EventType
    is_step: bool
    is_end: bool  # of a task
    frame: bytes

    @property
    def text(self) -> bytes:
        """The event alone, as JSON."""
        return self.frame[self.frame.index(b"data: ") + 6 : -2]


@dataclass(frozen=True, slots=True)
class Change:
    """One event of all tasks, with what readers choose by."""

    xid: int
    namespace: str
    name: str
    state: str
    correlation_id: UUID
    event: Event


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a reader of one task is: how many events it knows, and the check of the last."""

    position: int
    check: str

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Read an id; `0` is before the first event.

        Raises:
            ValueError: It is none.
        """
        number, _, check = text.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise ValueError(f"{text!r} is no id of an event of a task")
        return cls(int(number), check)

    def __str__(self) -> str:
        return f"{self.position}-{self.check}" if self.position else "0"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader of all tasks is.

    Everything that `seen` sees is known, and of what `until` sees beyond it, what comes
    before `last` or is it: `moved_at`, `task_uuid`, `change_no`.
    """

    seen: Snapshot
    until: Snapshot | None = None
    last: tuple[datetime, UUID, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read an id.

        Raises:
            ValueError: It is none.
        """
        seen, *rest = text.split("~")
        if not rest:
            return cls(Snapshot.parse(seen))
        if len(rest) != 4:
            raise ValueError(f"{text!r} is no id of an event")
        until, microseconds, task_uuid, change_no = rest
        try:
            moment = _EPOCH + timedelta(microseconds=int(microseconds))
        except OverflowError:
            raise ValueError(f"{text!r} is no id of an event") from None
        number = int(change_no)
        if not 0 <= number < 2**31:
            raise ValueError(f"{text!r} is no id of an event")
        return cls(Snapshot.parse(seen), Snapshot.parse(until), (moment, UUID(task_uuid), number))

    def __str__(self) -> str:
        if self.until is None or self.last is None:
            return str(self.seen)
        moment, task_uuid, change_no = self.last
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
        return f"{self.seen}~{self.until}~{microseconds}~{task_uuid}~{change_no}"


def task_event(task: TaskRecord, one: TaskEvent) -> Event:
    """Tell one event of a task's history."""
    if one.step_no is None:
        kind: EventType = "task.finished" if one.to_state in _ENDS else "task.state_changed"
        data: dict[str, Any] = {"from": one.from_state, "to": one.to_state}
    else:
        kind = "step.state_changed"
        data = {
            "step_uuid": str(step_uuid(task.task_uuid, one.step_no)),
            "step": one.step,
            "from": one.from_state,
            "to": one.to_state,
        }
    if one.attempt is not None:
        data |= {
            "attempt": one.attempt,
            "enqueued_at": one.enqueued_at,
            "claimed_at": one.claimed_at,
            "execution_time_ms": None if one.execution_ms is None else round(one.execution_ms),
            "next_retry_at": one.due_at,
            "worker_uuid": one.worker_uuid,
            "error": one.error and {k: v for k, v in one.error.items() if k != "traceback"},
        }
    else:
        data |= {"action": one.action, "actor": one.actor, "reason": one.reason}
    return _event(str(Mark(one.position, one.check)), kind, one.moved_at, task, data)


def snapshot_event(task: TaskRecord, mark: Mark, data: dict[str, Any], moment: datetime) -> Event:
    """Tell how a task stands."""
    return _event(str(mark), "task.snapshot", write_moment(moment), task, data)


def change_event(change: TaskChange, id: str) -> Change:
    """Tell one change of any task."""
    kind: EventType = "task.created"
    if change.change_no:
        kind = "task.finished" if change.to_state in _ENDS else "task.state_changed"
    data = {
        "from": change.from_state,
        "to": change.to_state,
        "action": change.action,
        "actor": change.actor,
        "reason": change.reason,
    }
    return Change(
        change.xid,
        change.namespace,
        change.name,
        change.to_state,
        change.correlation_id,
        _event(id, kind, write_moment(change.moved_at), change, data),
    )


def end_frame(cause: str) -> bytes:
    """Say that the stream ends here, and why; without an id, so that the last one counts."""
    document = {"type": "stream.end", "data": {"cause": cause}}
    return b"event: stream.end\ndata: " + orjson.dumps(document) + b"\n\n"


def id_frame(id: object) -> bytes:
    """Give a reader an id without an event: it goes on from there."""
    return f"id: {id}\n\n".encode()


def _event(
    id: str,
    kind: EventType,
    occurred_at: str,
    task: TaskRecord | TaskChange,
    data: dict[str, Any],
) -> Event:
    document = {
        "id": id,
        "type": kind,
        "occurred_at": occurred_at,
        "task_uuid": str(task.task_uuid),
        "namespace": task.namespace,
        "name": task.name,
        "version": task.version,
        "correlation_id": str(task.correlation_id),
        "data": data,
    }
    text = orjson.dumps(document)
    frame = f"id: {id}\nevent: {kind}\ndata: ".encode() + text + b"\n\n"
    return Event(id, kind, kind.startswith("step."), kind == "task.finished", frame)
