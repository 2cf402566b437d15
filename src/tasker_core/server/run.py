"""Listen: a server in this event loop, or a process that is a server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from tasker_core.db import Database
from tasker_core.errors import GrpcUnavailable, UnprotectedServer
from tasker_core.observe.listen import AddressUnavailable, Listener, bind, url_of
from tasker_core.server.app import create_app
from tasker_core.server.protocol import BoundedHttp
from tasker_core.settings import Settings

if TYPE_CHECKING:
    from tasker_core.server.rpc.listen import RpcServer

__all__ = ["AddressUnavailable", "Server", "serve"]

VARIABLES = "TASKER_SERVER_HOST, TASKER_SERVER_PORT"


class Server:
    """An app behind a socket, in this event loop; others may live in it too.

    >>> async def example() -> None:
    ...     server = Server(create_app(Settings()), port=0)
    ...     print(await server.start())  # http://127.0.0.1:43210
    ...     await server.stop()
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        shutdown_seconds: float = 30.0,
    ) -> None:
        self.app = app
        self.host = host
        self.port = port  # 0: a free one; the one it got, once started
        self._shutdown_seconds = shutdown_seconds
        self._stack = contextlib.AsyncExitStack()
        self._listener: Listener | None = None
        self.rpc: RpcServer | None = None  # beside it, if the settings say so, once started

    @property
    def url(self) -> str:
        """Where this machine reaches the server."""
        return url_of(self.host, self.port)

    async def start(self) -> str:
        """Connect, check, listen; return the URL once requests are answered.

        Raises:
            AddressUnavailable: Another process listens there, or it is not this machine's.
            UnprotectedServer: Others would reach it, and it would ask nobody who they are.
            InvalidSettings: What gRPC is to show as a certificate cannot be used.
            SetupError: There is no database, its schema is not this program's, or there is
                no gRPC.
        """
        bound = bind(self.host, self.port, VARIABLES)
        try:
            self._check_protected(bound)
            rpc = _make_rpc(self.app)
            await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))
            if rpc is not None:
                self._stack.push_async_callback(rpc.stop)
                await rpc.start()
                self.rpc = rpc
        except BaseException:
            bound.close()
            await self._stack.aclose()
            raise
        self.port = bound.getsockname()[1]
        self._listener = Listener(
            self.app, bound, shutdown_seconds=self._shutdown_seconds, http=BoundedHttp
        )
        try:
            await self._listener.start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop listening, let requests end, let go of the database."""
        self.app.state.backend.draining = True
        listening = [one.stop() for one in (self._listener, self.rpc) if one is not None]
        await asyncio.gather(*listening)
        self._listener = self.rpc = None
        await self._stack.aclose()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _check_protected(self, bound: socket.socket) -> None:
        settings: Settings = self.app.state.backend.settings
        if settings.asks_who_calls or settings.allow_unprotected:
            return
        if not ip_address(bound.getsockname()[0]).is_loopback:
            raise UnprotectedServer(self.host)


def serve(
    settings: Settings,
    *,
    database: Database | None = None,
    templates: Sequence[Path | str] = (),
    strict_templates: bool = False,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Be a server until SIGINT or SIGTERM, then stop in good order.

    Args:
        settings: How and where.
        database: As for `create_app`.
        templates: As for `create_app`.
        strict_templates: As for `create_app`.
        on_ready: Called once requests are answered.

    Raises:
        AddressUnavailable: Another process listens there.
        UnprotectedServer: Others would reach it, and it would ask nobody who they are.
        SetupError: There is no database, or its schema is not this program's.
    """
    app = create_app(settings, database, templates, strict_templates=strict_templates)
    server = Server(
        app,
        host=settings.server_host,
        port=settings.server_port,
        shutdown_seconds=settings.shutdown_seconds,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(server, on_ready))


async def _serve(server: Server, on_ready: Callable[[Server], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(kind, stop.set)
    async with server:
        if on_ready is not None:
            on_ready(server)
        await stop.wait()


def _make_rpc(app: FastAPI) -> RpcServer | None:
    """Build what answers over gRPC, if the settings ask for it.

    Raises:
        GrpcUnavailable: It is not installed.
    """
    settings: Settings = app.state.backend.settings
    if settings.grpc_port is None:
        return None
    try:
        from tasker_core.server.rpc.listen import RpcServer
    except ImportError as error:
        raise GrpcUnavailable(str(error)) from None
    return RpcServer(app, settings)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop
