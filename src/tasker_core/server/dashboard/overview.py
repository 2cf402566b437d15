"""/: how everything stands, and what needs a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.analytics import count_by_namespace
from tasker_core.engine.gauges import NamespaceGauge
from tasker_core.errors import TaskerError
from tasker_core.server.auth import may, namespaces_of, sees
from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard.pages import page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.routes import analytics, dlq, health, search, workers
from tasker_core.states import TaskState

router = new_router()

NAMED = 5  # of each kind of trouble
READING_SECONDS = 2.0
WINDOWS = {1: "hour", 24: "day", 168: "week"}

_SHOWN = (
    TaskState.STEPS_IN_PROCESS,
    TaskState.WAITING_FOR_RETRY,
    TaskState.BLOCKED_BY_FAILURES,
    TaskState.ERROR,
    TaskState.COMPLETE,
    TaskState.CANCELLED,
    TaskState.RESOLVED_MANUALLY,
)


@router.get("/")
async def show(request: Request, hours: Annotated[int, Query(ge=1, le=168)] = 24) -> Response:
    """Show what there is, as far as the caller may see it."""
    facts: dict[str, Any] = dict.fromkeys(
        ("counts", "blocked", "stats", "letters", "performance", "at_work", "waiting")
    )
    if may(request, "tasks:list"):
        facts |= await _tasks(request, hours)
    if may(request, "dlq:read"):
        facts["letters"] = said(await dlq.queue(request, limit=NAMED))
    if may(request, "dlq:stats"):
        facts["stats"] = said(await dlq.stats(request))
    if may(request, "system:analytics_read"):
        facts["performance"] = said(await analytics.performance(request, hours=1))
        facts["waiting"] = await _waiting(request)
    if may(request, "system:handlers_read"):
        facts["at_work"] = said(await workers.list_all(request))
    checks = said(await health.detailed(request))["checks"]
    return page(
        request,
        "overview.html",
        hours=hours,
        windows=WINDOWS,
        states=_SHOWN,
        troubles={name: one for name, one in checks.items() if one["status"] != "healthy"},
        **facts,
    )


async def _tasks(request: Request, hours: int) -> Mapping[str, Any]:
    """Count the tasks of the window; name some of those that a person must look at."""
    async with backend_of(request).connection() as conn:
        counts = await count_by_namespace(conn, hours=hours, namespaces=namespaces_of(request))
    totals = {state: sum(one.get(state, 0) for one in counts.values()) for state in _SHOWN}
    blocked: list[Any] = []
    if totals[TaskState.BLOCKED_BY_FAILURES]:
        since = datetime.now(UTC) - timedelta(hours=hours)
        asked = {"status": TaskState.BLOCKED_BY_FAILURES, "created_after": since, "limit": NAMED}
        wanted = search.TaskQuery.model_validate(asked)
        blocked = said(await search.list_tasks(request, wanted))["tasks"]
    return {"counts": counts, "totals": totals, "blocked": blocked}


async def _waiting(request: Request) -> Mapping[str, Any] | None:
    """Say what waits and runs now, in the namespaces that are seen; None: it cannot be read."""
    try:
        reading = await backend_of(request).watch.reading(max_age=READING_SECONDS)
    except (TaskerError, TimeoutError, asyncpg.PostgresError):
        return None
    gauges = reading.gauges
    spaces: list[NamespaceGauge] = [
        one for one in gauges.namespaces if sees(request, one.namespace)
    ]
    return {
        "namespaces": {one.namespace: one for one in spaces},
        "enqueued": sum(one.enqueued for one in spaces),
        "in_progress": sum(one.in_progress for one in spaces),
        "waiting_for_retry": sum(one.waiting_for_retry for one in spaces),
        "starved": [one for one in gauges.starved if sees(request, one.namespace)],
    }
