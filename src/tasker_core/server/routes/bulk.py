"""/v1/tasks/bulk: begin thousands of tasks in one request, one statement and one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine.create import CreatedTask, NewTask, create_each
from tasker_core.errors import TaskerError
from tasker_core.server.backend import backend_of
from tasker_core.server.body import read_request
from tasker_core.server.openapi import body_of, problems_of
from tasker_core.server.problems import Refusal, facts_of, fields_of
from tasker_core.server.requested import new_task
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.bulk import BulkCreateItem, BulkCreateRequest, BulkCreateResponse
from tasker_core.wire.problems import FieldError
from tasker_core.wire.tasks import TaskRequest

router = new_router()

_BULK: TypeAdapter[BulkCreateRequest] = TypeAdapter(BulkCreateRequest)
_TASK: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)


@router.post(
    "/v1/tasks/bulk",
    operation_id="createTasks",
    status_code=201,
    responses={
        201: {"model": BulkCreateResponse, "description": "All were created."},
        207: {"model": BulkCreateResponse, "description": "Not all were; each item says so."},
        **problems_of(400, 409, 413, 415, 422, 503),
    },
    openapi_extra=body_of("BulkCreateTasks"),
    tags=["tasks"],
)
async def create_bulk(request: Request) -> Response:
    """Begin many tasks, each for itself, or all of them or none."""
    asked = await read_request(request, _BULK)
    items, ready = _check_each(request, asked.tasks)
    if asked.atomic:
        _refuse_any(items)
    backend = backend_of(request)
    await backend.pressure.refuse_if_full(*{new.namespace for _, new in ready})
    async with backend.connection() as conn, conn.transaction():
        outcomes = await create_each(
            conn,
            backend.shelf,
            [new for _, new in ready],
            max_context_bytes=backend.settings.max_context_bytes,
        )
        items += [_item(place, one) for (place, _), one in zip(ready, outcomes, strict=True)]
        items.sort(key=lambda item: item.index)
        if asked.atomic:
            _refuse_any(items)  # which undoes the rest
    created = sum(item.status == 201 for item in items)
    reply = BulkCreateResponse(
        created_count=created, refused_count=len(items) - created, items=items
    )
    return answer(reply, 201 if created == len(items) else 207)


def _check_each(
    request: Request, tasks: Sequence[Any]
) -> tuple[list[BulkCreateItem], list[tuple[int, NewTask]]]:
    """Tell those that are wrong as they stand from those that the engine is to look at."""
    wrong: list[BulkCreateItem] = []
    ready: list[tuple[int, NewTask]] = []
    for place, document in enumerate(tasks):
        try:
            ready.append((place, new_task(request, _TASK.validate_python(document))))
        except ValidationError as error:
            fields = fields_of(
                error.errors(include_url=False, include_context=False, include_input=False)
            )
            told = "; ".join(f"{one.pointer or 'the task'}: {one.message}" for one in fields)
            detail = f"the request is wrong: {told}"
            wrong.append(_refused(place, 422, "VALIDATION_ERROR", detail, fields))
        except Refusal as refusal:  # of a namespace that is not the caller's
            wrong.append(_refused(place, refusal.status, refusal.code, refusal.detail, ()))
    return wrong, ready


def _item(place: int, outcome: CreatedTask | TaskerError) -> BulkCreateItem:
    if isinstance(outcome, CreatedTask):
        return BulkCreateItem(index=place, status=201, task_uuid=outcome.task_uuid)
    status, code, fields = facts_of(outcome)
    return _refused(place, status, code, str(outcome), fields)


def _refused(
    place: int, status: int, code: str, detail: str, fields: Sequence[FieldError]
) -> BulkCreateItem:
    return BulkCreateItem(index=place, status=status, code=code, detail=detail, errors=list(fields))


def _refuse_any(items: Sequence[BulkCreateItem]) -> None:
    refused = [item for item in items if item.status != 201]
    if not refused:
        return
    first = refused[0]
    fields = [
        FieldError(pointer=f"/tasks/{item.index}{one.pointer}", message=one.message, kind=one.kind)
        for item in refused
        for one in item.errors
        or [FieldError(pointer="", message=item.detail or "", kind=str(item.code).lower())]
    ]
    status, code = first.status, str(first.code)
    if status == 404:  # of a template, not of what was asked for
        status, code = 422, "VALIDATION_ERROR"
    detail = f"none was created: of {len(refused)} tasks, the first is /tasks/{first.index}"
    raise Refusal(status, code, f"{detail}: {first.detail}", fields[:1000])
