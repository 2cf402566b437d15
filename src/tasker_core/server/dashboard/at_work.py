"""/workers: who is at work, who is late, and what nobody can do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.inspect import WORKER_SEEN_WITHIN, list_starved_lanes
from tasker_core.server.auth import sees
from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard.pages import page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.routes import workers

router = new_router()


@router.get("/workers")
async def show(request: Request) -> Response:
    """List the workers of the last day, and the handlers that are missing."""
    async with backend_of(request).connection() as conn:
        starved = await list_starved_lanes(conn, seen_within=WORKER_SEEN_WITHIN)
    return page(
        request,
        "workers.html",
        found=said(await workers.list_all(request)),
        starved=[lane for lane in starved if sees(request, lane.namespace)],
    )
