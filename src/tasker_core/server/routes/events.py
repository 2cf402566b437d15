"""/v1/events and /v1/tasks/{task_uuid}/events: what happens, while it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import ExitStack
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tasker_core.engine import inspect
from tasker_core.engine.history import current_snapshot, follow_tasks
from tasker_core.server.auth import caller_of, counted_as, namespaces_of
from tasker_core.server.backend import backend_of
from tasker_core.server.live.event import Change, Cursor, Mark, task_event
from tasker_core.server.live.stream import feed_stream, is_known, task_stream, until
from tasker_core.server.openapi import problems_of
from tasker_core.server.problems import Refusal
from tasker_core.server.routes import Word
from tasker_core.server.routes import router as new_router
from tasker_core.server.routes.search import States, read_states
from tasker_core.wire.events import EventPage, EventResponse

router = new_router()

STREAM = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Go on after this event.")
]
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream of events, each an EventResponse in `data:`.",
        "content": {STREAM: {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/v1/tasks/{task_uuid}/events",
    operation_id="followTask",
    responses={
        200: {"model": EventPage, "content": {STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The task has ended, and the reader has seen it end."},
        **problems_of(400, 404, 503),
    },
    tags=["events"],
)
async def follow_task(
    request: Request,
    task_uuid: UUID,
    include_steps: Annotated[bool, Query(description="false: only the task itself.")] = True,
    since: Annotated[
        Word, Query(description="As Last-Event-ID; `0` tells everything from the begin.")
    ] = None,
    format: Annotated[
        Literal["stream", "history"],
        Query(description="`history`: a page of what has happened, as JSON."),
    ] = "stream",
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a page of the history.")] = 100,
    last_event_id: _LastEventId = None,
) -> Response:
    """Follow one task: how it stands, then each event, until it has ended.

    With the id of an event, what comes after it: nothing is missed, nothing comes twice.
    """
    backend = backend_of(request)
    given = last_event_id or since
    try:
        mark = None if given is None else Mark.parse(given)
    except ValueError as error:
        raise Refusal(400, "BAD_REQUEST", str(error)) from None
    if format == "history":
        return await _history(request, task_uuid, mark or Mark(0, ""), limit, include_steps)
    async with backend.live.task(task_uuid) as topic:
        if mark is not None and not await is_known(backend.connection, topic, mark):
            mark = None  # what it knows is no part of this history: it begins anew
        if mark is not None and topic.has_ended and mark == topic.mark:
            return Response(None, 204)  # which tells a browser not to come again
    return EventStream(
        request,
        task_stream(backend.live, backend.connection, task_uuid, mark, with_steps=include_steps),
    )


class FeedQuery(BaseModel):
    """Which events of which tasks."""

    namespace: Word = None
    template: Word = Field(None, description="The template's name.")
    name: Word = Field(None, description="The same as template.")
    state: States = Field(None, description="The new state, or several with commas.")
    types: Word = Field(
        None, description="`task.created`, `task.state_changed`, `task.finished`, with commas."
    )
    correlation_id: UUID | None = None
    since: Word = Field(None, description="As Last-Event-ID.")


@router.get(
    "/v1/events",
    operation_id="followTasks",
    responses={**_STREAMS, **problems_of(400, 410, 422, 503)},
    tags=["events"],
)
async def follow_all(
    request: Request,
    wanted: Annotated[FeedQuery, Query()],
    last_event_id: _LastEventId = None,
) -> Response:
    """Follow all tasks that fit: their creation, their changes of state, their end."""
    backend = backend_of(request)
    given = last_event_id or wanted.since
    cursor = None
    async with backend.connection() as conn:
        now = await current_snapshot(conn)
    if given is not None:
        try:
            cursor = Cursor.parse(given)
        except ValueError as error:
            raise Refusal(400, "BAD_REQUEST", str(error)) from None
        latest = cursor.until or cursor.seen
        if latest.xmax > now.xmax or cursor.seen.xmax > latest.xmax:
            detail = "this id is not of this database; begin without one"
            raise Refusal(410, "GONE", detail)
    choice = _choice(wanted, namespaces_of(request))
    return EventStream(request, feed_stream(backend.live, backend.connection, cursor, choice))


# --- helpers ----------------------------------------------------------------------------


class EventStream(StreamingResponse):
    """A stream that counts as open for its caller, and ends with the caller's credential.

    Raises:
        Refusal: This caller has as many open as are allowed: 429.
    """

    def __init__(self, request: Request, frames: AsyncGenerator[bytes]) -> None:
        ends_at = caller_of(request).expires_at
        told = frames if ends_at is None else until(frames, ends_at)
        super().__init__(told, media_type=STREAM, headers=_HEADERS)
        self._open = ExitStack()
        self._open.enter_context(backend_of(request).streams.opened(counted_as(request)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames until there is no more of them, or no reader."""
        with self._open:
            await super().__call__(scope, receive, send)


def _choice(wanted: FeedQuery, namespaces: Collection[str] | None) -> Any:
    states = None if wanted.state is None else frozenset(read_states(wanted.state))
    types = None if wanted.types is None else {one.strip() for one in wanted.types.split(",")}
    name = wanted.template or wanted.name

    def choose(one: Change) -> bool:
        return (
            (namespaces is None or one.namespace in namespaces)
            and (wanted.namespace is None or one.namespace == wanted.namespace)
            and (name is None or one.name == name)
            and (states is None or one.state in states)
            and (types is None or one.event.type in types)
            and (wanted.correlation_id is None or one.correlation_id == wanted.correlation_id)
        )

    return choose


async def _history(
    request: Request, task_uuid: UUID, mark: Mark, limit: int, include_steps: bool
) -> Response:
    async with backend_of(request).connection() as conn:
        task = await inspect.get_task(conn, task_uuid)
        news = await follow_tasks(conn, {task_uuid: mark.position}, max_events=limit + 1)
    found = [one for each in news for one in each.events if one.position > mark.position]
    page, more = found[:limit], len(found) > limit
    shown = [task_event(task, one) for one in page if include_steps or one.step_no is None]
    last = Mark(page[-1].position, page[-1].check) if page else mark
    document = EventPage(
        events=[EventResponse.model_validate_json(one.text) for one in shown],
        next_since=str(last),
        has_more=more,
    )
    return Response(document.model_dump_json(), media_type="application/json")
