"""Begin tasks.

The caller names a template and gives a context. Checked here: the bounds of every
field, the context against the template, and what makes a task the same task. Then
one SQL function writes everything, for one task or for thousands, in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from tasker_core.db.asking import Asking, Rows, Statement, ask
from tasker_core.db.connect import Connection
from tasker_core.engine.ids import new_task_uuid, new_uuid
from tasker_core.engine.register import RegisteredTemplate, TemplateShelf
from tasker_core.errors import (
    DuplicateTask,
    InvalidRequest,
    MissingIdempotencyKey,
    NotStorable,
    TaskerError,
    UnknownTemplate,
)
from tasker_core.payload import MAX_BYTES, encode
from tasker_core.templates.inputs import check_context
from tasker_core.templates.model import TaskTemplate
from tasker_core.tracing import Creation

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A request for a task; a request for many has one each."""

    name: str
    namespace: str = "default"
    version: str | None = None  # None: the newest registered one
    context: Mapping[str, Any] | BaseModel = field(default_factory=dict)
    initiator: str = "application"
    source_system: str = "application"
    reason: str = "Task requested"
    tags: Sequence[str] = ()
    priority: int = 0  # -100 to 100; a point is worth a minute of waiting
    correlation_id: UUID | None = None  # None: a new one
    parent_correlation_id: UUID | None = None
    idempotency_key: str | None = None  # overrules the template's identity_strategy


@dataclass(frozen=True, slots=True)
class CreatedTask:
    """A task that has begun."""

    task_uuid: UUID
    template: RegisteredTemplate
    created_at: datetime


async def create_task(
    conn: Connection, shelf: TemplateShelf, new: NewTask, *, max_context_bytes: int = MAX_BYTES
) -> CreatedTask:
    """Create one task; see `create_tasks`."""
    (created,) = await create_tasks(conn, shelf, [new], max_context_bytes=max_context_bytes)
    return created


async def create_tasks(
    conn: Connection,
    shelf: TemplateShelf,
    new: Sequence[NewTask],
    *,
    max_context_bytes: int = MAX_BYTES,
) -> list[CreatedTask]:
    """Create tasks with all their first steps, in one transaction: all of them or none.

    Returns:
        The tasks, in the order of the requests.

    Raises:
        UnknownTemplate: No such template, or not in this version.
        InvalidRequest: A field is outside its bounds.
        InvalidContext: The context does not fit the template; every violation is named.
        MissingIdempotencyKey: The template wants one.
        DuplicateTask: A task with this identity exists, or has left and its identity was
            kept, or two requests have the same.
    """
    return await ask(conn, creating(shelf, new, max_context_bytes=max_context_bytes))


async def create_each(
    conn: Connection,
    shelf: TemplateShelf,
    new: Sequence[NewTask],
    *,
    max_context_bytes: int = MAX_BYTES,
    patient: bool = True,
) -> list[CreatedTask | TaskerError]:
    """Create those of these tasks that can be created, each for itself.

    Args:
        patient: Wait for however long another transaction takes that creates the same.

    Returns:
        In the order of the requests, the task, or what `create_tasks` would have raised for
        it alone. Of requests with the same identity the first one is created.

    Raises:
        asyncpg.LockNotAvailableError: It is not patient, and would have had to wait for
            longer than a moment; none was created.
    """
    asking = creating_each(shelf, new, max_context_bytes=max_context_bytes, patient=patient)
    return await ask(conn, asking)


def creating(
    shelf: TemplateShelf, new: Sequence[NewTask], *, max_context_bytes: int = MAX_BYTES
) -> Asking[list[CreatedTask]]:
    """Do `create_tasks`, on whatever connection."""
    if not new:
        return []
    found = _Found()
    ready = []
    for task in new:
        one = yield from _preparing(shelf, task, found, max_context_bytes)
        ready.append(one)
    _refuse_twins(ready)
    with Creation(len(new), {"tasker.template": _label(ready)}) as span:
        moment, taken = _outcome((yield _statement(ready, span.traceparent)))
        if taken:
            raise DuplicateTask(ready[taken[0]].label, taken)
    return [one.created(moment) for one in ready]


def creating_each(
    shelf: TemplateShelf,
    new: Sequence[NewTask],
    *,
    max_context_bytes: int = MAX_BYTES,
    patient: bool = True,
) -> Asking[list[CreatedTask | TaskerError]]:
    """Do `create_each`, on whatever connection."""
    refused: dict[int, TaskerError] = {}
    made: dict[int, CreatedTask] = {}
    ready: dict[int, _Ready] = {}
    seen: set[bytes] = set()
    found = _Found()
    for place, task in enumerate(new):
        try:
            one = yield from _preparing(shelf, task, found, max_context_bytes)
        except TaskerError as error:
            refused[place] = error
            continue
        if one.identity is not None and one.identity in seen:
            refused[place] = DuplicateTask(one.label)
            continue
        if one.identity is not None:
            seen.add(one.identity)
        ready[place] = one
    # whoever creates the same meanwhile takes at least one of them away each time round
    while ready:
        places, asked = list(ready), list(ready.values())
        with Creation(len(asked), {"tasker.template": _label(asked)}) as span:
            rows = yield _statement(asked, span.traceparent, patient=patient)
            moment, taken = _outcome(rows)
        for position in taken:
            one = ready.pop(places[position])
            refused[places[position]] = DuplicateTask(one.label)
        if not taken:
            made = {place: one.created(moment) for place, one in ready.items()}
            break
    return [refused[place] if place in refused else made[place] for place in range(len(new))]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that has passed every check, and its task to be."""

    task: NewTask
    task_uuid: UUID
    template: RegisteredTemplate
    context: str  # JSON
    identity: bytes | None

    @property
    def label(self) -> str:
        return self.template.template.label

    def created(self, moment: datetime) -> CreatedTask:
        return CreatedTask(self.task_uuid, self.template, moment)


class _Found(dict[tuple[str, str, str | None], "RegisteredTemplate | UnknownTemplate"]):
    """What was found of the templates that the requests name, each looked for once."""


def _preparing(
    shelf: TemplateShelf, task: NewTask, found: _Found, max_context_bytes: int
) -> Asking[_Ready]:
    _check_bounds(task)
    key = (task.namespace, task.name, task.version)
    if key not in found:
        try:
            found[key] = yield from shelf.finding(*key)
        except UnknownTemplate as error:
            found[key] = error
    registered = found[key]
    if isinstance(registered, UnknownTemplate):
        raise registered
    context = check_context(registered.template, task.context, max_bytes=max_context_bytes)
    identity = identity_hash(registered.template, task, context)
    return _Ready(task, new_task_uuid(), registered, context, identity)


def _label(ready: Sequence[_Ready]) -> str:
    labels = {one.label for one in ready}
    return labels.pop() if len(labels) == 1 else "(several)"


def _statement(
    ready: Sequence[_Ready], traceparent: str | None, *, patient: bool = True
) -> Statement:
    return Statement(
        _CREATE if patient else _CREATE_SOON,
        (
            [str(one.task_uuid) for one in ready],
            [str(one.template.template_uuid) for one in ready],
            [one.context for one in ready],
            [str(one.task.priority) for one in ready],
            [None if one.identity is None else f"\\x{one.identity.hex()}" for one in ready],
            [str(one.task.correlation_id or new_uuid()) for one in ready],
            [_text(one.task.parent_correlation_id) for one in ready],
            [one.task.initiator for one in ready],
            [one.task.source_system for one in ready],
            [one.task.reason for one in ready],
            [encode(list(one.task.tags)) for one in ready],
            None if traceparent is None else [traceparent] * len(ready),
        ),
    )


def _outcome(rows: Rows) -> tuple[datetime, list[int]]:
    """Tell when they were created, or the positions of those that are taken."""
    taken = [place - 1 for _, place in rows if place is not None]
    microseconds = rows[0][0] or 0
    return _EPOCH + timedelta(microseconds=microseconds), taken


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_CREATE = """
select cast(extract(epoch from made.created_at) * 1000000 as bigint), place.n
from tasker.create_tasks(
    cast(cast($1 as text[]) as uuid[]), cast(cast($2 as text[]) as uuid[]),
    cast(cast($3 as text[]) as json[]), cast(cast($4 as text[]) as int[]),
    cast(cast($5 as text[]) as bytea[]), cast(cast($6 as text[]) as uuid[]),
    cast(cast($7 as text[]) as uuid[]), cast($8 as text[]), cast($9 as text[]),
    cast($10 as text[]), cast(cast($11 as text[]) as jsonb[]), cast($12 as text[])
) as made
left join unnest(made.taken) as place (n) on true
"""

# the settings first: the function needs what that gives
_CREATE_SOON = _CREATE.replace(
    "from tasker.create_tasks(",
    "from (select set_config('lock_timeout', '100ms', true) as soon offset 0) as patience\n"
    "cross join lateral tasker.create_tasks(",
).replace("cast($12 as text[])", "case when patience.soon <> '' then cast($12 as text[]) end")


def identity_hash(
    template: TaskTemplate, task: NewTask, context: str | None = None
) -> bytes | None:
    """Say what makes a task the same task: equal hashes are never created twice.

    The hash covers namespace, name and version, and the idempotency key when one is
    given, else what the template's strategy says: the context with sorted keys
    (`strict`), nothing without a key (`caller_provided`), or no identity at all
    (`always_unique`, None).

    Args:
        context: The task's context as JSON text; None: it is encoded here.

    Raises:
        MissingIdempotencyKey: The strategy is `caller_provided` and no key is given.
    """
    if task.idempotency_key is not None:
        kind, facts = "key", task.idempotency_key.encode()
    elif template.identity_strategy == "caller_provided":
        raise MissingIdempotencyKey(template.label)
    elif template.identity_strategy == "always_unique":
        return None
    else:
        kind = "context"
        text = encode(task.context) if context is None else context
        facts = orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    named = [template.namespace, template.name, template.version, kind]
    return hashlib.sha256(orjson.dumps(named) + b"\n" + facts).digest()


def _refuse_twins(ready: Sequence[_Ready]) -> None:
    first: dict[bytes, int] = {}
    twins = [
        position
        for position, one in enumerate(ready)
        if one.identity is not None and first.setdefault(one.identity, position) != position
    ]
    if twins:
        raise DuplicateTask(ready[twins[0]].label, twins)


def _check_bounds(task: NewTask) -> None:
    for field_name, longest in _LONGEST.items():
        text = getattr(task, field_name)
        if text is None and field_name in _OPTIONAL:
            continue
        if not isinstance(text, str) or not 1 <= len(text) <= longest:
            raise InvalidRequest(field_name, text, f"text of 1 to {longest} characters")
        _check_text(field_name, text)
    priority = task.priority
    if type(priority) is not int or not -100 <= priority <= 100:
        raise InvalidRequest("priority", priority, "a whole number from -100 to 100")
    if isinstance(task.tags, str):
        raise InvalidRequest("tags", task.tags, "a list of texts")
    for tag in task.tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= 255:
            raise InvalidRequest("tags", tag, "texts of 1 to 255 characters")
        _check_text("tags", tag)
    for field_name in ("correlation_id", "parent_correlation_id"):
        uuid = getattr(task, field_name)
        if uuid is not None and not isinstance(uuid, UUID):
            raise InvalidRequest(field_name, uuid, "a UUID")


_LONGEST = {
    "name": 255,
    "namespace": 255,
    "version": 50,
    "initiator": 255,
    "source_system": 255,
    "reason": 500,
    "idempotency_key": 255,
}
_OPTIONAL = ("version", "idempotency_key")


def _check_text(name: str, text: str) -> None:
    try:
        encode(text)
    except NotStorable as error:
        raise InvalidRequest(name, text, f"storable text: {error.reason}") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
