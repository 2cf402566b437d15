"""Create tasks in a transaction of your own.

The task is part of it like every other row: there once it commits, gone if it rolls
back. The checks are those of every way to create a task. A task that is refused leaves
the transaction as it was, and usable. Without a transaction, the task is there at once.
The environment of this process, TASKER_ENV, says which overrides of a template hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasker_core.db.drivers import AsyncConnection, SyncConnection, ask_async, ask_sync
from tasker_core.engine.create import CreatedTask, NewTask, creating
from tasker_core.engine.register import TemplateShelf

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["NewTask", "create_task", "create_task_async", "create_tasks", "create_tasks_async"]


@cache
def _shelf() -> TemplateShelf:
    """Give the templates as they are in the environment of this process."""
    from tasker_core.settings import Settings

    return TemplateShelf(environment=Settings().environment)


def create_task(
    connection: SyncConnection,
    name: str,
    context: Mapping[str, Any] | BaseModel,
    *,
    namespace: str = "default",
    version: str | None = None,
    priority: int = 0,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
    initiator: str = "application",
    source_system: str = "application",
    reason: str = "Task requested",
    correlation_id: UUID | None = None,
    parent_correlation_id: UUID | None = None,
) -> UUID:
    """Create a task in the transaction of a sync connection.

    Args:
        connection: A psycopg `Connection`, a SQLAlchemy `Connection` or `Session`, or
            Django's `django.db.connection`, to the database with the schema `tasker`.
        name: The template's.
        context: What the task is about: an object of JSON, at most 4 MiB.
        version: The template's; None: the newest one.
        priority: From -100 to 100; a point is worth a minute of waiting.
        idempotency_key: What makes it the same task; it overrules the template's
            `identity_strategy`.
        initiator: Who asked for it; kept with the task, as are the next two.
        correlation_id: What it belongs to; None: a new one.

    Returns:
        The task's id. Nobody else sees the task before you commit.

    Raises:
        UnknownTemplate: No such template, or not in this version.
        InvalidRequest: A field is outside its bounds.
        InvalidContext: The context does not fit the template; every violation is named.
        MissingIdempotencyKey: The template wants one.
        DuplicateTask: A task with this identity exists. If another open transaction has
            just created it, the call waits for that one to end.
        TypeError: The connection is of no kind that is known here.
    """
    new = NewTask(
        name=name,
        namespace=namespace,
        version=version,
        context=context,
        initiator=initiator,
        source_system=source_system,
        reason=reason,
        tags=tags,
        priority=priority,
        correlation_id=correlation_id,
        parent_correlation_id=parent_correlation_id,
        idempotency_key=idempotency_key,
    )
    (task_uuid,) = create_tasks(connection, [new])
    return task_uuid


async def create_task_async(
    connection: AsyncConnection,
    name: str,
    context: Mapping[str, Any] | BaseModel,
    *,
    namespace: str = "default",
    version: str | None = None,
    priority: int = 0,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
    initiator: str = "application",
    source_system: str = "application",
    reason: str = "Task requested",
    correlation_id: UUID | None = None,
    parent_correlation_id: UUID | None = None,
) -> UUID:
    """Create a task in the transaction of an async connection; see `create_task`.

    Args:
        connection: An asyncpg `Connection`, its own or a pool's, a psycopg
            `AsyncConnection`, or a SQLAlchemy `AsyncConnection` or `AsyncSession`.
    """
    new = NewTask(
        name=name,
        namespace=namespace,
        version=version,
        context=context,
        initiator=initiator,
        source_system=source_system,
        reason=reason,
        tags=tags,
        priority=priority,
        correlation_id=correlation_id,
        parent_correlation_id=parent_correlation_id,
        idempotency_key=idempotency_key,
    )
    (task_uuid,) = await create_tasks_async(connection, [new])
    return task_uuid


def create_tasks(connection: SyncConnection, new: Iterable[NewTask]) -> list[UUID]:
    """Create many tasks at once, all of them or none; see `create_task`.

    Returns:
        Their ids, in the order of the requests.

    Raises:
        DuplicateTask: Also when two of the requests are the same; `positions` says which.
    """
    return _ids(ask_sync(connection, creating(_shelf(), list(new))))


async def create_tasks_async(connection: AsyncConnection, new: Iterable[NewTask]) -> list[UUID]:
    """Create many tasks at once, all of them or none; see `create_tasks`."""
    return _ids(await ask_async(connection, creating(_shelf(), list(new))))


def _ids(created: Sequence[CreatedTask]) -> list[UUID]:
    return [one.task_uuid for one in created]
