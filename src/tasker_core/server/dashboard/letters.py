"""/dlq: dead letters, the most urgent first, and what is found out about each."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.dlq import get_entry
from tasker_core.server.auth import may
from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard.act import read_form, who
from tasker_core.server.dashboard.pages import asking, go_to, here, page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.render_dlq import dlq_entry
from tasker_core.server.routes import dlq
from tasker_core.states import DlqReason, DlqStatus

router = new_router()

PAGE_SIZE = 50
NAMED = 20  # of the queue and of the report


@router.get("/dlq")
async def show(request: Request, wanted: Annotated[dlq.DlqQuery, Query()]) -> Response:
    """Show the queue, the report of tasks that do not move, and all entries."""
    reply = await dlq.list_entries(request, wanted)
    total = int(reply.headers["X-Total-Count"])
    before, after = wanted.offset - wanted.limit, wanted.offset + wanted.limit
    return page(
        request,
        "letters.html",
        queue=said(await dlq.queue(request, limit=NAMED)),
        stale=[
            one
            for one in said(await dlq.report_staleness(request, limit=NAMED))
            if one["health_status"] != "healthy"
        ],
        stats=said(await dlq.stats(request)) if may(request, "dlq:stats") else [],
        entries=said(reply),
        total=total,
        wanted=wanted,
        statuses=list(DlqStatus),
        reasons=list(DlqReason),
        previous=here(request, offset=str(max(0, before))) if wanted.offset else None,
        next=here(request, offset=str(after)) if after < total else None,
    )


@router.get("/dlq/{dlq_entry_uuid}")
async def show_one(request: Request, dlq_entry_uuid: UUID) -> Response:
    """Show one dead letter, with its task as it was."""
    async with backend_of(request).connection() as conn:
        entry = dlq_entry(await get_entry(conn, dlq_entry_uuid))
    return page(
        request,
        "letter.html",
        entry=entry.model_dump(mode="json"),
        resolutions=[one for one in DlqStatus if one is not DlqStatus.PENDING],
    )


@router.post("/dlq/{dlq_entry_uuid}")
async def update(request: Request, dlq_entry_uuid: UUID) -> Response:
    """Write into a dead letter, resolve it, or reopen it."""
    form = await read_form(request)
    asked: dict[str, Any] = {
        "resolution_status": form.get("resolution_status"),
        "resolution_notes": form.get("resolution_notes"),
        "reopen": "reopen" in form,
    }
    if asked["resolution_status"] is not None:
        asked["resolved_by"] = who(request, form)
    await dlq.update(asking(request, asked), dlq_entry_uuid)
    return go_to(request, f"dlq/{dlq_entry_uuid}")
