"""A socket for a small app, in this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from tasker_core.errors import SetupError


class AddressUnavailable(SetupError):
    """A process cannot listen where it should."""

    code = "address_unavailable"

    def __init__(
        self,
        host: str,
        port: int,
        reason: str,
        variables: str = "TASKER_SERVER_HOST, TASKER_SERVER_PORT",
    ) -> None:
        self.host, self.port, self.reason = host, port, reason
        super().__init__(
            f"cannot listen at {host}:{port}: {reason}; choose another address: {variables}"
        )


class Listener:
    """Serves an app; signals are left to the process, and the app's lifespan to the caller."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        *,
        shutdown_seconds: float,
        http: type[asyncio.Protocol] | None = None,
    ) -> None:
        self._bound = bound
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=http or "httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once requests are answered; raise what keeps it from that."""
        self._task = asyncio.create_task(self._server.serve([self._bound]))
        heard = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._task, heard], return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Take no more requests, and let those that are under way end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, variables: str) -> socket.socket:
    """Listen at an address; port 0 takes a free one.

    Raises:
        AddressUnavailable: Another process listens there, or it is not this machine's;
            `variables` are what would choose another one.
    """
    bound = None
    try:
        family, *_, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # two sockets may be bound to one address; listening is what tells
        bound.listen(2048)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise AddressUnavailable(host, port, error.strerror or str(error), variables) from None
    bound.setblocking(False)
    return bound


def url_of(host: str, port: int) -> str:
    """Say where this machine reaches what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
