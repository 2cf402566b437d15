"""grpc.health.v1: whether the server takes work, for whoever balances load.

Anybody may ask, so that one look at `/health/ready` serves all for a few seconds, and so
many may watch.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from grpc import StatusCode
from grpc_health.v1 import health, health_pb2
from starlette.types import ASGIApp

from tasker_core.server.rpc import messages
from tasker_core.server.rpc.api import Api
from tasker_core.server.rpc.status import Refused

LOOK_SECONDS = 5.0
MOST_WATCHERS = 100
SERVICE = health.SERVICE_NAME

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Standing(health.aio.HealthServicer):  # type: ignore[misc] # it has no types
    """Answers for the server, and for each of its services; looks while somebody asks."""

    def __init__(self, app: ASGIApp, server: tuple[str, int]) -> None:
        super().__init__()
        self._api = Api(app, f"{SERVICE}/Check", (), "", server)
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._watchers = 0
        self._watch: asyncio.Task[None] | None = None

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 # the protocol's
        """Say how it is."""
        await self._look()
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 # likewise
        """Say how it is, and again whenever that changes."""
        if self._watchers >= MOST_WATCHERS:
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, "enough are watching already")
        self._watchers += 1
        try:
            await self._look()
            if self._watch is None:
                self._watch = asyncio.create_task(self._keep_looking())
            await super().Watch(request, context)
        finally:
            self._watchers -= 1

    async def stop(self) -> None:
        """Say that no more work is taken."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self.enter_graceful_shutdown()

    async def _keep_looking(self) -> None:
        while self._watchers:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()
        self._watch = None

    async def _look(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked_at < LOOK_SECONDS:
                return
            try:
                await self._api.ask("GET", "/health/ready")
                status = _SERVING
            except Refused:
                status = _NOT_SERVING
            self._looked_at = time.monotonic()
            for name in ("", *(one.full_name for one in messages.services())):
                await self.set(name, status)
