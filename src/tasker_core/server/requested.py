"""A request for a task → what the engine creates, and the task that an earlier one created."""

from __future__ import annotations

import orjson
from starlette.requests import Request

from tasker_core.db.connect import Connection
from tasker_core.engine import inspect
from tasker_core.engine.create import NewTask, identity_hash
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.inspect import TaskRecord
from tasker_core.engine.register import TemplateShelf
from tasker_core.engine.search import find_identity
from tasker_core.payload import encode
from tasker_core.server.auth import caller, check_namespace
from tasker_core.server.problems import Refusal
from tasker_core.wire.tasks import TaskRequest

KEY_HEADER = "Idempotency-Key"


def new_task(request: Request, asked: TaskRequest, key: str | None = None) -> NewTask:
    """Say what is to be created.

    Raises:
        Refusal: The caller may not create anything in this namespace.
    """
    check_namespace(request, asked.namespace)
    return NewTask(
        name=asked.name,
        namespace=asked.namespace,
        version=asked.version,
        context=asked.context,
        initiator=asked.initiator or caller(request),
        source_system=asked.source_system,
        reason=asked.reason,
        tags=asked.tags,
        priority=asked.priority or 0,
        correlation_id=asked.correlation_id or new_uuid(),
        parent_correlation_id=asked.parent_correlation_id,
        idempotency_key=asked.idempotency_key if key is None else key,
    )


def idempotency_key(request: Request, asked: TaskRequest) -> str | None:
    """Read the header `Idempotency-Key`.

    Raises:
        Refusal: The body has another one.
    """
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if asked.idempotency_key not in (None, key):
        detail = f"{KEY_HEADER} and the body's idempotency_key are not the same; give one of them"
        raise Refusal(400, "BAD_REQUEST", detail)
    return key


async def find_earlier(conn: Connection, shelf: TemplateShelf, new: NewTask) -> TaskRecord | None:
    """Find the task that a request with the same key has created; None: it has left since.

    Raises:
        Refusal: That request asked for something else.
    """
    registered = await shelf.find(conn, new.namespace, new.name, new.version)
    identity = identity_hash(registered.template, new)
    assert identity is not None  # it has a key
    found = await find_identity(conn, new.namespace, identity)
    if found is None:
        return None
    task = await inspect.get_task(conn, found)
    if task.context != orjson.loads(encode(new.context)):
        detail = f"{KEY_HEADER} was used for a task with another context: {found}"
        raise Refusal(422, "VALIDATION_ERROR", detail)
    return task
