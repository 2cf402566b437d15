"""Listen: a server in this event loop, or a process that is a server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tasker_core.db import Database
from tasker_core.errors import SetupError, UnprotectedServer
from tasker_core.server.app import create_app
from tasker_core.server.protocol import BoundedHttp
from tasker_core.settings import Settings


class AddressUnavailable(SetupError):
    """The server cannot listen where it should."""

    code = "address_unavailable"

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port, self.reason = host, port, reason
        super().__init__(
            f"cannot listen at {host}:{port}: {reason}; choose another address: "
            f"TASKER_SERVER_HOST, TASKER_SERVER_PORT"
        )


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
        self._listener: _Listener | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def start(self) -> str:
        """Connect, check, listen; return the URL once requests are answered.

        Raises:
            AddressUnavailable: Another process listens there, or it is not this machine's.
            UnprotectedServer: Others would reach it, and it would ask nobody who they are.
            SetupError: There is no database, or its schema is not this program's.
        """
        bound = _bind(self.host, self.port)
        try:
            self._check_protected(bound)
            await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))
        except BaseException:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        self._listener = _Listener(self._config())
        self._task = asyncio.create_task(self._listener.serve([bound]))
        heard = asyncio.create_task(self._listener.listening.wait())
        await asyncio.wait([self._task, heard], return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        if self._task.done():
            await self._stack.aclose()
            self._task.result()
        return self.url

    async def stop(self) -> None:
        """Stop listening, let requests end, let go of the database."""
        self.app.state.backend.draining = True
        if self._listener is not None and self._task is not None:
            self._listener.should_exit = True
            await self._task
            self._listener = self._task = None
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

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            http=BoundedHttp,
            ws="none",
            lifespan="off",  # start and stop hold it, so that its errors reach the caller
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(self._shutdown_seconds)),
        )


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


class _Listener(uvicorn.Server):
    """Uvicorn's server that says when it listens, and leaves signals to the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(host: str, port: int) -> socket.socket:
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
        raise AddressUnavailable(host, port, error.strerror or str(error)) from None
    bound.setblocking(False)
    return bound


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop
