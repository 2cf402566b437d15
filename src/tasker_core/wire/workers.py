"""Who is at work."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from tasker_core.wire.common import Answer, Moment


class WorkerResponse(Answer):
    """One worker that was seen within the last day."""

    worker_uuid: UUID
    host: str
    pid: int
    version: str
    concurrency: int
    running_steps: int = Field(description="On loan to it now.")
    started_at: Moment
    seen_at: Moment
    is_alive: bool = Field(description="Seen within the last minute.")
    namespaces: list[str]
    handlers: list[str] = Field(description="Callables that it can serve.")


class WorkerListResponse(Answer):
    """All of them, those seen last first."""

    workers: list[WorkerResponse]
    total_count: int
    alive_count: int
