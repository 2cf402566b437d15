"""/tasks: find tasks. The filter is the address, as the API has it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.search import ORDERS
from tasker_core.server.dashboard.pages import here, page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.problems import Refusal, fields_of
from tasker_core.server.routes import events, search
from tasker_core.states import TaskState

router = new_router()

PAGE_SIZE = 50
STATES = tuple(
    state
    for state in TaskState
    if state
    not in (
        TaskState.INITIALIZING,
        TaskState.ENQUEUING_STEPS,
        TaskState.EVALUATING_RESULTS,
    )
)


@router.get("/tasks")
async def find(request: Request) -> Response:
    """List the tasks that fit, or say what in the filter is wrong."""
    given = _given(request)
    found: dict[str, Any] = {"tasks": [], "pagination": {"next_cursor": None}}
    wrong: dict[str, str] = {}
    try:
        wanted = search.TaskQuery.model_validate({**given, "limit": PAGE_SIZE})
        found = said(await search.list_tasks(request, wanted))
    except ValidationError as error:
        for one in fields_of(error.errors(include_url=False)):
            wrong[one.pointer.split("/")[1]] = one.message
    except Refusal as refusal:
        if refusal.status != 400:
            raise
        wrong["cursor"] = refusal.detail
    cursor = found["pagination"]["next_cursor"]
    return page(
        request,
        "tasks.html",
        422 if wrong else 200,
        tasks=found["tasks"],
        wrong=wrong,
        given=given,
        typed=dict(request.query_params),
        states=STATES,
        orders=ORDERS,
        is_first="cursor" not in given,
        first=here(request, cursor=None),
        next=None if cursor is None else here(request, cursor=cursor),
    )


@router.get("/events")
async def follow(request: Request, namespace: str = "", name: str = "") -> Response:
    """Tell what happens to tasks, so that the list knows when to look again."""
    wanted = events.FeedQuery.model_validate({"namespace": namespace, "name": name})
    return await events.follow_all(request, wanted, request.headers.get("Last-Event-ID"))


def _given(request: Request) -> dict[str, Any]:
    """Read the filter; a field of a form that was left empty says nothing."""
    given: dict[str, Any] = {}
    for name in search.TaskQuery.model_fields:
        values = [one.strip() for one in request.query_params.getlist(name) if one.strip()]
        if name in ("page", "per_page", "limit", "include_total") or not values:
            continue
        given[name] = values[-1]
        if name == "tag":
            given[name] = [word for value in values for word in value.replace(",", " ").split()]
        elif name == "context":
            given[name] = context_of(values[-1])
    return given


def context_of(text: str) -> str:
    """Write what a context is to contain as JSON; a path and its value are a short form of it.

    >>> context_of("order.id = 7"), context_of("city=Rome"), context_of('{"a": 1}')
    ('{"order": {"id": 7}}', '{"city": "Rome"}', '{"a": 1}')
    """
    path, is_path, given = text.partition("=")
    if text.startswith("{") or not is_path:
        return text
    try:
        value = json.loads(given)
    except ValueError:
        value = given.strip()
    for name in reversed(path.strip().split(".")):
        value = {name: value}
    return json.dumps(value)
