"""/v1/dlq: dead letters, and the report of tasks that do not move."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import dlq
from tasker_core.engine.inspect import namespace_of_task
from tasker_core.engine.staleness import list_staleness
from tasker_core.errors import UnknownDlqEntry, UnknownTask
from tasker_core.server.auth import actor, namespaces_of, sees
from tasker_core.server.backend import backend_of, path_of
from tasker_core.server.body import read_request
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.problems import Refusal
from tasker_core.server.render_dlq import dlq_entry, dlq_stats, investigation, staleness
from tasker_core.server.routes import Word, answer, answer_list
from tasker_core.server.routes import router as new_router
from tasker_core.states import DlqStatus
from tasker_core.wire.dlq import (
    DlqEntryRequest,
    DlqEntryResponse,
    DlqStatsResponse,
    DlqUpdate,
    DlqUpdateResponse,
    InvestigationResponse,
    ReasonWord,
    StalenessResponse,
    StatusWord,
)

router = new_router()

_ENTRY_REQUEST: TypeAdapter[DlqEntryRequest] = TypeAdapter(DlqEntryRequest)
_UPDATE: TypeAdapter[DlqUpdate] = TypeAdapter(DlqUpdate)
_ENTRIES = TypeAdapter(list[DlqEntryResponse])
_STATS = TypeAdapter(list[DlqStatsResponse])
_QUEUE = TypeAdapter(list[InvestigationResponse])
_STALENESS = TypeAdapter(list[StalenessResponse])

Limit = Annotated[int, Query(ge=1, le=1000)]


class DlqQuery(BaseModel):
    """Which entries to list."""

    resolution_status: StatusWord = None
    dlq_reason: ReasonWord = None
    namespace: Word = None
    task_uuid: UUID | None = None
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000_000)
    cursor: Word = Field(
        None, description="The X-Next-Cursor of the reply before, with the same filters."
    )


@router.get(
    "/v1/dlq",
    operation_id="listDlqEntries",
    responses={200: {"model": list[DlqEntryResponse]}, **problems_of(400, 503)},
    tags=["dlq"],
)
async def list_entries(request: Request, wanted: Annotated[DlqQuery, Query()]) -> Response:
    """List dead letters, the youngest first; X-Total-Count and Link tell of the others.

    By cursor, none is left out or comes twice, whatever is put aside meanwhile.
    """
    if wanted.cursor is not None and wanted.offset:
        raise Refusal(400, "BAD_REQUEST", "offset does not go together with cursor")
    filtered = dlq.DlqFilter(
        status=wanted.resolution_status,
        reason=wanted.dlq_reason,
        namespace=wanted.namespace,
        task_uuid=wanted.task_uuid,
        namespaces=namespaces_of(request),
    )
    digest = blake2b(orjson.dumps(filtered, default=str), digest_size=6).hexdigest()
    after = None if wanted.cursor is None else _read_cursor(wanted.cursor, digest)
    async with backend_of(request).connection() as conn:
        total = await dlq.count_entries(conn, filtered)
        found = await dlq.list_entries(
            conn, filtered, limit=wanted.limit + 1, offset=wanted.offset, after=after
        )
    page = found[: wanted.limit]
    reply = answer_list(_ENTRIES, [dlq_entry(entry) for entry in page])
    reply.headers["X-Total-Count"] = str(total)
    cursor = None
    if len(found) > len(page):
        text = orjson.dumps([digest, str(page[-1].dlq_entry_uuid)])
        cursor = reply.headers["X-Next-Cursor"] = urlsafe_b64encode(text).decode()
    if links := _links(request, wanted, total, cursor):
        reply.headers["Link"] = links
    return reply


@router.post(
    "/v1/dlq",
    operation_id="createDlqEntry",
    status_code=201,
    responses={201: {"model": DlqEntryResponse}, **problems_of(400, 404, 409, 413, 415, 422, 503)},
    openapi_extra=body_of("DlqEntryRequest"),
    tags=["dlq"],
)
async def create(request: Request) -> Response:
    """Put a task aside for a person; the task itself is not changed."""
    asked = await read_request(request, _ENTRY_REQUEST)
    async with backend_of(request).connection() as conn:
        if not sees(request, await namespace_of_task(conn, asked.task_uuid)):
            raise UnknownTask(asked.task_uuid)
        uuid = await dlq.add_entry(
            conn,
            asked.task_uuid,
            actor=actor(request, asked.entered_by),
            reason=asked.reason,
            metadata=asked.metadata,
        )
        entry = await dlq.get_entry(conn, uuid)
    return answer(
        dlq_entry(entry), 201, Location=path_of(request, f"/v1/dlq/task/{entry.task_uuid}")
    )


@router.get(
    "/v1/dlq/task/{task_uuid}",
    operation_id="getDlqEntryOfTask",
    responses={
        200: {"model": DlqEntryResponse | list[DlqEntryResponse]},
        **problems_of(400, 404, 503),
    },
    tags=["dlq"],
)
async def get_entry(
    request: Request,
    task_uuid: UUID,
    all: Annotated[bool, Query(description="true: an array of all of them.")] = False,
) -> Response:
    """Read the dead letter of a task, the pending one if there is one; its own id does, too."""
    async with backend_of(request).connection() as conn:
        if not all:
            return answer(dlq_entry(await dlq.find_entry(conn, task_uuid)))
        found = await dlq.list_entries(conn, dlq.DlqFilter(task_uuid=task_uuid), limit=1000)
    if not found:
        raise UnknownDlqEntry(task_uuid=task_uuid)
    return answer_list(_ENTRIES, [dlq_entry(entry) for entry in found])


@router.patch(
    "/v1/dlq/entry/{dlq_entry_uuid}",
    operation_id="updateDlqEntry",
    responses={
        200: {"model": DlqUpdateResponse},
        **problems_of(400, 404, 409, 413, 415, 422, 503),
    },
    openapi_extra=body_of("DlqUpdate"),
    tags=["dlq"],
)
async def update(request: Request, dlq_entry_uuid: UUID) -> Response:
    """Write into a dead letter, resolve it, or reopen it; the task itself is not changed.

    The id of its task does, too.
    """
    asked = await read_request(request, _UPDATE)
    if not (asked.reopen or any(value is not None for value in _given(asked))):
        raise Refusal(
            422,
            "VALIDATION_ERROR",
            "nothing is to be changed; give resolution_status, resolution_notes, resolved_by, "
            "metadata or reopen",
        )
    status = asked.resolution_status
    resolves = status not in (None, DlqStatus.PENDING)
    async with backend_of(request).connection() as conn:
        entry = await dlq.update_entry(
            conn,
            (await dlq.find_entry(conn, dlq_entry_uuid)).dlq_entry_uuid,
            status=status,
            notes=asked.resolution_notes,
            actor=actor(request, asked.resolved_by) if asked.resolved_by or resolves else None,
            metadata=asked.metadata,
            reopen=asked.reopen,
        )
    return answer(
        DlqUpdateResponse(
            success=True,
            message=f"the dead letter is {entry.resolution_status}",
            dlq_entry_uuid=entry.dlq_entry_uuid,
            entry=dlq_entry(entry),
        )
    )


@router.get(
    "/v1/dlq/stats",
    operation_id="getDlqStats",
    responses={200: {"model": list[DlqStatsResponse]}, **problems_of(503)},
    tags=["dlq"],
)
async def stats(request: Request) -> Response:
    """Count the dead letters by reason."""
    async with backend_of(request).connection() as conn:
        found = await dlq.dlq_stats(conn, namespaces=namespaces_of(request))
    return answer_list(_STATS, [dlq_stats(one) for one in found])


@router.get(
    "/v1/dlq/investigation-queue",
    operation_id="getInvestigationQueue",
    responses={200: {"model": list[InvestigationResponse]}, **problems_of(400, 503)},
    tags=["dlq"],
)
async def queue(request: Request, limit: Limit = 100) -> Response:
    """List the pending dead letters, the most urgent first, those of repaired tasks last."""
    async with backend_of(request).connection() as conn:
        found = await dlq.investigation_queue(conn, limit=limit, namespaces=namespaces_of(request))
    return answer_list(_QUEUE, [investigation(one) for one in found])


@router.get(
    "/v1/dlq/staleness",
    operation_id="getStaleness",
    responses={200: {"model": list[StalenessResponse]}, **problems_of(400, 503)},
    tags=["dlq"],
)
async def report_staleness(request: Request, limit: Limit = 100) -> Response:
    """Report how close living tasks are to being stale, the worst first."""
    backend = backend_of(request)
    default = timedelta(minutes=backend.settings.stale_after_minutes)
    async with backend.connection() as conn:
        found = await list_staleness(
            conn, limit=limit, default_limit=default, namespaces=namespaces_of(request)
        )
    return answer_list(_STALENESS, [staleness(one) for one in found])


# --- helpers ----------------------------------------------------------------------------


def _given(asked: DlqUpdate) -> tuple[object, ...]:
    return (asked.resolution_status, asked.resolution_notes, asked.resolved_by, asked.metadata)


def _read_cursor(text: str, digest: str) -> UUID:
    try:
        bound_to, uuid = orjson.loads(urlsafe_b64decode(text))
        after = UUID(uuid)
    except (ValueError, TypeError, AttributeError):
        raise Refusal(400, "BAD_REQUEST", "cursor is not one that a reply has named") from None
    if bound_to != digest:
        raise Refusal(400, "BAD_REQUEST", "cursor belongs to other filters; begin without one")
    return after


def _links(request: Request, wanted: DlqQuery, total: int, cursor: str | None) -> str:
    """Name the pages before and after this one, as RFC 8288 has it."""
    pages: dict[str, dict[str, Any]] = {}
    if wanted.cursor is None:
        if wanted.offset > 0:
            pages["prev"] = {"offset": max(0, wanted.offset - wanted.limit)}
        if wanted.offset + wanted.limit < total:
            pages["next"] = {"offset": wanted.offset + wanted.limit}
    elif cursor is not None:
        pages["next"] = {"cursor": cursor}
    query = wanted.model_dump(mode="json", exclude_none=True, exclude={"offset", "cursor"})
    return ", ".join(
        f'<{path_of(request, "/v1/dlq")}?{urlencode({**query, **place})}>; rel="{name}"'
        for name, place in pages.items()
    )
