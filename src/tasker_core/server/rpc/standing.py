"""grpc.health.v1: whether the server takes work, for whoever balances load.

One look every few seconds serves all who ask: anybody may.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2
from starlette.types import ASGIApp

from tasker_core.server.rpc import messages
from tasker_core.server.rpc.api import Api
from tasker_core.server.rpc.status import Refused

LOOK_SECONDS = 5.0
SERVICE = health.SERVICE_NAME

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Standing:
    """Keeps what `/health/ready` says, for the server and each of its services."""

    def __init__(self, app: ASGIApp, server: tuple[str, int]) -> None:
        self.servicer: Any = health.aio.HealthServicer()
        self._api = Api(app, f"{SERVICE}/Check", (), "", server)
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then again and again."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Say that no more work is taken."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self.servicer.enter_graceful_shutdown()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        try:
            await self._api.ask("GET", "/health/ready")
            status = _SERVING
        except Refused:
            status = _NOT_SERVING
        for name in ("", *(one.full_name for one in messages.services())):
            await self.servicer.set(name, status)
