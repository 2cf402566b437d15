"""/v1/workers: who is at work."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.inspect import WORKER_SEEN_WITHIN, list_workers
from tasker_core.server.auth import namespaces_of
from tasker_core.server.backend import backend_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.workers import WorkerListResponse, WorkerResponse

router = new_router()


@router.get(
    "/v1/workers",
    operation_id="listWorkers",
    responses={200: {"model": WorkerListResponse}, **problems_of(503)},
    tags=["workers"],
)
async def list_all(request: Request) -> Response:
    """List the workers of the last day: what they can serve, and what they are at."""
    async with backend_of(request).connection() as conn:
        found = await list_workers(
            conn, seen_within=WORKER_SEEN_WITHIN, namespaces=namespaces_of(request)
        )
    return answer(
        WorkerListResponse(
            workers=[WorkerResponse(**asdict(one)) for one in found],
            total_count=len(found),
            alive_count=sum(one.is_alive for one in found),
        )
    )
