"""A real socket: heads that do not end, bodies that are too large, connections that say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tasker_core.server import protocol
from tasker_core.server.app import create_app
from tasker_core.server.run import Server
from tasker_core.settings import Settings


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    """A server that listens."""
    async with Server(create_app(settings), port=0) as server:
        yield server


async def send(server: Server, *pieces: bytes) -> bytes:
    """Send these, and give all that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "piece", [b"x" * 8192, b"a: b\r\n" * 1000], ids=["one that does not end", "very many"]
)
async def test_a_head_that_does_not_end_is_cut_off(server: Server, piece: bytes) -> None:
    """A header of any length, or any number of them: 431, long before memory is short."""
    reply = await send(server, b"GET /health HTTP/1.1\r\nHost: a\r\nX: ", *[piece] * 40)

    assert reply == b"" or b" 431 " in reply.splitlines()[0]


async def test_a_target_that_does_not_end_is_cut_off(server: Server) -> None:
    """Likewise."""
    reply = await send(server, b"GET /", *[b"x" * 8192] * 40)

    assert reply == b"" or b" 431 " in reply.splitlines()[0]


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_that_falls_silent_is_closed(
    server: Server, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first request, and in the middle of a head."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)

    assert await send(server, begun) == b""


async def test_a_chunked_body_is_bounded_too(server: Server, settings: Settings) -> None:
    """No length is announced, and 413 comes as soon as there is too much."""
    head = (
        b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    count = settings.max_context_bytes // 0x4000 + 10
    reply = await send(server, head, *[chunk] * count)

    assert b" 413 " in reply.splitlines()[0]
    assert b"PAYLOAD_TOO_LARGE" in reply


async def test_two_lengths_are_refused(server: Server) -> None:
    """What one reader takes for a body and another for a request is neither."""
    for head in (
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    ):
        reply = await send(
            server,
            b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n{}GET / HTTP/1.1\r\n\r\n",
        )
        assert b" 400 " in reply.splitlines()[0]


async def test_a_line_break_in_a_header_is_refused(server: Server) -> None:
    """As the parser has it: nothing reaches the app."""
    reply = await send(server, b"GET /health HTTP/1.1\r\nHost: a\r\nX: a\rEvil: b\r\n\r\n")

    assert b" 400 " in reply.splitlines()[0]
