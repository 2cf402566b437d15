"""How the server is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasker_core.wire.common import Answer, Moment


class HealthResponse(Answer):
    """The process answers."""

    status: Literal["healthy", "alive"]
    timestamp: Moment


class Check(Answer):
    """One thing that was looked at."""

    status: Literal["healthy", "degraded", "unhealthy"]
    message: str | None
    duration_ms: float


class ReadinessResponse(Answer):
    """Whether the server can do its work; only an unhealthy check makes it not ready."""

    status: Literal["ready", "not_ready", "healthy", "degraded"]
    timestamp: Moment
    checks: dict[str, Check] = Field(
        description="database, schema, workers, sweep, events, transactions, pool, load"
    )
    info: dict[str, Any]
