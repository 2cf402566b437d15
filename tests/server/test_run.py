"""Listen: a server in this event loop, or a process that is a server."""

from __future__ import annotations

import asyncio
import signal
import sys

import httpx
import pytest

from support.postgres import create_database, drop_database
from support.processes import Script
from tasker_core.errors import SchemaOutOfDate, UnprotectedServer
from tasker_core.server.app import create_app
from tasker_core.server.run import AddressUnavailable, Server
from tasker_core.settings import Settings

PROGRAM = """
import sys
from tasker_core.server.run import serve
from tasker_core.settings import Settings

serve(
    Settings(database_url=sys.argv[1], server_port=0),
    on_ready=lambda server: print(server.url, flush=True),
)
print("stopped", flush=True)
"""


async def test_a_server_lives_beside_others_in_one_loop(settings: Settings) -> None:
    """Port 0 takes a free one; after stop nobody listens there."""
    server = Server(create_app(settings), port=0)
    url = await server.start()
    async with httpx.AsyncClient(base_url=url) as client:
        replies = await asyncio.gather(*(client.get("/v1/tasks") for _ in range(20)))
        await server.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")

    assert url == f"http://127.0.0.1:{server.port}"
    assert {reply.status_code for reply in replies} == {200}
    assert "server" not in replies[0].headers


async def test_a_taken_port_is_told(settings: Settings) -> None:
    """The second server says which address, and leaves nothing open."""
    async with Server(create_app(settings), port=0) as first:
        with pytest.raises(AddressUnavailable, match=f"127.0.0.1:{first.port}"):
            await Server(create_app(settings), port=first.port).start()


async def test_a_start_that_fails_raises_its_own_error(database_url: str) -> None:
    """Not just a log line and an exit."""
    url = await create_database(database_url)
    try:
        with pytest.raises(SchemaOutOfDate):
            await Server(create_app(Settings(database_url=url)), port=0).start()
    finally:
        await drop_database(url)


async def test_stop_without_start_is_no_error(settings: Settings) -> None:
    """So a caller may stop whatever it has."""
    await Server(create_app(settings), port=0).stop()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_until_it_is_told_to_stop(
    clean_database: str, kind: signal.Signals
) -> None:
    """It answers, and ends with status 0."""
    with Script(PROGRAM, clean_database) as script:
        url = script.line()
        reply = httpx.get(f"{url}/health/ready")
        script.process.send_signal(kind)

        assert reply.json()["status"] == "ready"
        assert script.line() == "stopped"
        assert script.process.wait(timeout=20) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
async def test_a_server_that_asks_nobody_listens_on_this_machine_only(
    settings: Settings, host: str
) -> None:
    """The message says how to change it; with callers asked, or on one's word, it listens."""
    with pytest.raises(UnprotectedServer, match="TASKER_AUTH=true"):
        await Server(create_app(settings), host=host, port=0).start()
    for given in ({"auth": True}, {"allow_unprotected": True}):
        async with Server(
            create_app(settings.model_copy(update=given)), host=host, port=0
        ) as server:
            assert server.port
