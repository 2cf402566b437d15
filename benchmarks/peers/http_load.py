"""Send requests one after the other on some connections, and count the answers.

A bare client: one that parsed what it need not would be slower than the servers.
"""

from __future__ import annotations

import asyncio
import time

CONNECTIONS = 32


async def requests_per_second(
    port: int, path: str, body: str, first: int, seconds: float
) -> tuple[float, int]:
    """Post bodies with rising numbers for some seconds.

    Returns:
        The requests a second, and how many there were.

    Raises:
        AssertionError: An answer was not 201.
    """
    number = first
    ends = time.perf_counter() + seconds

    async def one_connection() -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < ends:
            content = body.replace("NUMBER", str(number)).encode()
            number += 1
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            assert b" 201 " in head.split(b"\r\n", 1)[0], (head, answer)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return (number - first) / (time.perf_counter() - began), number - first
