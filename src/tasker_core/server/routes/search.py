"""GET /v1/tasks: find tasks, by pages with numbers or from one to the next by a cursor."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import search
from tasker_core.engine.inspect import TaskRecord
from tasker_core.engine.search import Place, TaskFilter, TaskOrder
from tasker_core.payload import encode
from tasker_core.server.auth import namespaces_of
from tasker_core.server.backend import backend_of, path_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.problems import Refusal
from tasker_core.server.render import task_list
from tasker_core.server.routes import Word, answer
from tasker_core.server.routes import router as new_router
from tasker_core.states import TASK_TERMINAL, TaskState
from tasker_core.wire.actions import GivenMoment
from tasker_core.wire.common import Text
from tasker_core.wire.tasks import Pagination, TaskListResponse

router = new_router()

PAGE_SIZE, CURSOR_PAGE_SIZE = 25, 50

_ALIASES = {"completed": TaskState.COMPLETE}
_ACTIVE = tuple(state for state in TaskState if state not in TASK_TERMINAL)


def read_states(text: str) -> tuple[TaskState, ...]:
    """Read a list of states.

    Raises:
        ValueError: One of them is none.
    """
    states = []
    for word in map(str.strip, text.split(",")):
        try:
            states.append(_ALIASES.get(word) or TaskState(word))
        except ValueError:
            known = ", ".join(TaskState)
            raise ValueError(f"{word!r} is no state of a task; states: {known}") from None
    return tuple(states)


def _check_states(text: str | None) -> str | None:
    if text is not None:
        read_states(text)
    return text


def _check_object(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        document = orjson.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError('must be a JSON object, for example {"order": {"id": 7}}')
    return encode(document)


States = Annotated[Word, AfterValidator(_check_states)]


class TaskQuery(BaseModel):
    """Which tasks to list, in which order, and from where on."""

    page: int | None = Field(None, ge=1, le=1_000_000_000, description="1 if left out.")
    per_page: int | None = Field(None, ge=1, le=100, description="25 if left out.")
    offset: int | None = Field(
        None, ge=0, le=1_000_000_000, description="In place of page: how many to leave out."
    )
    cursor: Word = Field(None, description="The next_cursor of the reply before.")
    limit: int | None = Field(
        None, ge=1, le=200, description="Go by cursor, so many tasks a reply; 50 with a cursor."
    )
    include_total: bool = Field(False, description="Count all of them, with a cursor, too.")
    sort: TaskOrder = Field("-created_at", description="`-` is the last or the highest first.")
    namespace: Word = None
    name: Word = None
    q: Word = Field(None, description="How the name begins.")
    version: Word = None
    status: States = Field(
        None, description="A state, or several with commas; `completed` is `complete`."
    )
    active: bool = Field(False, description="Only tasks that have not ended.")
    initiator: Word = None
    source_system: Word = None
    correlation_id: UUID | None = None
    parent_correlation_id: UUID | None = None
    tag: list[Text] = Field([], max_length=20, description="Given twice: both of them.")
    created_after: GivenMoment | None = Field(None, description="Without an offset: UTC.")
    created_before: GivenMoment | None = None
    context: Annotated[Word, AfterValidator(_check_object)] = Field(
        None, description='JSON that the context contains: `{"order": {"id": 7}}`.'
    )

    def states(self) -> tuple[TaskState, ...] | None:
        """Give the states that `status` and `active` leave; None: all of them."""
        named = None if self.status is None else read_states(self.status)
        if not self.active:
            return named
        return _ACTIVE if named is None else tuple(state for state in named if state in _ACTIVE)

    def filter(self, states: tuple[TaskState, ...], namespaces: Sequence[str] | None) -> TaskFilter:
        """Say it in the engine's words."""
        return TaskFilter(
            states=states,
            namespace=self.namespace,
            namespaces=namespaces,
            name=self.name,
            name_prefix=self.q,
            version=self.version,
            initiator=self.initiator,
            source_system=self.source_system,
            correlation_id=self.correlation_id,
            parent_correlation_id=self.parent_correlation_id,
            tags=tuple(self.tag),
            created_after=self.created_after,
            created_before=self.created_before,
            context=self.context,
        )


@router.get(
    "/v1/tasks",
    operation_id="listTasks",
    responses={200: {"model": TaskListResponse}, **problems_of(400, 503)},
    tags=["tasks"],
)
async def list_tasks(request: Request, wanted: Annotated[TaskQuery, Query()]) -> Response:
    """List tasks, the youngest first unless another order is asked for."""
    by_cursor = wanted.cursor is not None or wanted.limit is not None
    by_page = (wanted.page, wanted.per_page, wanted.offset) != (None, None, None)
    if by_cursor and by_page:
        detail = "page, per_page and offset do not go together with cursor and limit"
        raise Refusal(400, "BAD_REQUEST", detail)
    if None not in (wanted.page, wanted.offset):
        raise Refusal(400, "BAD_REQUEST", "page and offset do not go together")
    states = wanted.states()
    filtered = wanted.filter(states or (), namespaces_of(request))
    digest = _digest(filtered, wanted.sort)
    after = None if wanted.cursor is None else _read_cursor(wanted.cursor, digest)
    size = wanted.limit or CURSOR_PAGE_SIZE if by_cursor else wanted.per_page or PAGE_SIZE
    offset = ((wanted.page or 1) - 1) * size if wanted.offset is None else wanted.offset
    tasks: list[TaskRecord] = []
    total: int | None = 0
    if states != ():  # an engine's filter without states has all of them
        async with backend_of(request).connection() as conn:
            total = None
            if not by_cursor or wanted.include_total:
                total = await search.count_tasks(conn, filtered)
            if by_cursor or offset < (total or 0):
                tasks = await search.list_tasks(
                    conn, filtered, limit=size + 1, offset=offset, order=wanted.sort, after=after
                )
    more, tasks = len(tasks) > size, tasks[:size]
    next_cursor = _write_cursor(tasks[-1], digest) if more else None
    number = None if by_cursor or wanted.offset is not None else wanted.page or 1
    page = _pagination(number, size, total, next_cursor)
    page.has_previous = after is not None or offset > 0
    reply = answer(task_list(tasks, page))
    if next_cursor is not None:
        reply.headers["Link"] = _next_link(request, next_cursor, size)
    return reply


# --- helpers ----------------------------------------------------------------------------


def _pagination(page: int | None, size: int, total: int | None, cursor: str | None) -> Pagination:
    pages = None if total is None else -(-total // size)
    return Pagination(
        page=page,
        per_page=size,
        total_count=total,
        total_pages=pages,
        has_next=cursor is not None,
        has_previous=page is not None and page > 1,
        next_cursor=cursor,
    )


def _digest(filtered: TaskFilter, order: str) -> str:
    """Bind a cursor to what was asked for: with other filters it would mean nothing."""
    return blake2b(orjson.dumps([order, filtered], default=_plain), digest_size=6).hexdigest()


def _plain(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} in a filter")


def _write_cursor(last: TaskRecord, digest: str) -> str:
    return urlsafe_b64encode(orjson.dumps([digest, str(last.task_uuid), last.priority])).decode()


def _read_cursor(text: str, digest: str) -> Place:
    try:
        bound_to, task_uuid, priority = orjson.loads(urlsafe_b64decode(text))
        place = Place(UUID(task_uuid), int(priority))
    except (ValueError, TypeError, AttributeError):
        raise Refusal(400, "BAD_REQUEST", "cursor is not one that a reply has named") from None
    if bound_to != digest or not -100 <= place.priority <= 100:
        detail = "cursor belongs to other filters, or to another order; begin without one"
        raise Refusal(400, "BAD_REQUEST", detail)
    return place


def _next_link(request: Request, cursor: str, size: int) -> str:
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("page", "per_page", "offset", "cursor", "limit")
    ]
    query = urlencode([*kept, ("cursor", cursor), ("limit", str(size))])
    return f'<{path_of(request, "/v1/tasks")}?{query}>; rel="next"'
