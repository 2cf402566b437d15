"""Listen for gRPC beside HTTP, in the same event loop."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import grpc
import structlog
from fastapi import FastAPI
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tasker_core.errors import UnprotectedServer
from tasker_core.observe.listen import AddressUnavailable, bind
from tasker_core.server.body import SLACK_BYTES
from tasker_core.server.rpc import messages, standing
from tasker_core.server.rpc.calls import Calls
from tasker_core.server.rpc.tls import credentials
from tasker_core.settings import Settings

VARIABLES = "TASKER_GRPC_HOST, TASKER_GRPC_PORT"
MOST_CALLS = 2_000  # at a time; what is beyond is RESOURCE_EXHAUSTED
MOST_CALLS_OF_ONE = 200  # connection; more of them wait
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 30_000, 10_000

_log = structlog.get_logger("tasker.server")


class RpcServer:
    """Serves the app's API over gRPC.

    Args:
        app: What `create_app` has built; it runs already.
        settings: Where to listen, and with which certificate.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        assert settings.grpc_port is not None
        self.host, self.port = settings.grpc_host, settings.grpc_port
        self._app, self._settings = app, settings
        self._server: Any = None
        self._standing: standing.Standing | None = None

    @property
    def address(self) -> str:
        """Where this machine reaches it: `127.0.0.1:9190`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def start(self) -> None:
        """Return once calls are answered.

        Raises:
            InvalidSettings: The certificate, its key or the clients' authority cannot be used.
            AddressUnavailable: Another process listens there, or it is not this machine's.
            UnprotectedServer: Others would reach it, and it would ask nobody who they are.
        """
        secret = credentials(self._settings)
        place = self._place()
        self._warn(place, is_secret=secret is not None)
        server = grpc.aio.server(
            options=_options(self._settings), maximum_concurrent_rpcs=MOST_CALLS
        )
        here = f"[{place}]:{self.port}" if ":" in place else f"{place}:{self.port}"
        try:
            if secret is None:
                self.port = server.add_insecure_port(here)
            else:
                self.port = server.add_secure_port(here, secret)
        except RuntimeError as error:
            raise AddressUnavailable(self.host, self.port, str(error), VARIABLES) from None
        self._server = server
        calls = Calls(self._app, self._app.state.requests, (place, self.port))
        server.add_generic_rpc_handlers(calls.handlers())
        self._add_others(server, (place, self.port))
        await server.start()

    async def stop(self) -> None:
        """Take no more calls, and let those that are under way end."""
        if self._standing is not None:
            await self._standing.stop()
        if self._server is not None:
            await self._server.stop(self._settings.shutdown_seconds)
        self._server = self._standing = None

    def _place(self) -> str:
        """Find out which address the host is, and whether it is free."""
        bound = bind(self.host, self.port, VARIABLES)
        place: str = bound.getsockname()[0]
        bound.close()
        return place

    def _warn(self, place: str, *, is_secret: bool) -> None:
        if ip_address(place).is_loopback:
            return
        if not (self._settings.asks_who_calls or self._settings.allow_unprotected):
            raise UnprotectedServer(self.host)
        if not is_secret:
            hint = "keys and tokens are sent in plain text; set TASKER_GRPC_TLS_CERTIFICATE"
            _log.warning("grpc_without_tls", host=self.host, hint=hint)

    def _add_others(self, server: Any, here: tuple[str, int]) -> None:
        names = [service.full_name for service in messages.services()]
        if self._settings.grpc_health:
            self._standing = standing.Standing(self._app, here)
            health_pb2_grpc.add_HealthServicer_to_server(self._standing, server)
            names.append(standing.SERVICE)
        if self._settings.grpc_reflection:
            names.append(reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server, pool=messages.pool())


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a taken port is to be told, not shared
        # a Struct takes more room than its JSON, whose size the API itself bounds
        ("grpc.max_receive_message_length", 2 * settings.max_context_bytes + SLACK_BYTES),
        ("grpc.max_concurrent_streams", MOST_CALLS_OF_ONE),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),  # who has gone follows no more
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
