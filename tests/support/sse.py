"""A reader of server-sent events on a socket of its own, cheap enough for five hundred."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Sent:
    """One event as it came."""

    id: str | None
    type: str
    data: Any


@dataclass
class Reader:
    """Reads a stream, and remembers the last id; `open` again to come back."""

    url: str
    path: str
    last_id: str | None = None
    shown: dict[str, str] = field(default_factory=dict)  # headers of the request
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""  # of a reply that is no stream
    beats: int = 0
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, *, limit: int = 2**16) -> Reader:
        """Ask, and read the head of the reply."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=limit)
        self._streams = reader, writer
        asked = f"GET {self.path} HTTP/1.1\r\nHost: tasker\r\nAccept: text/event-stream\r\n"
        if self.last_id is not None:
            asked += f"Last-Event-ID: {self.last_id}\r\n"
        asked += "".join(f"{name}: {value}\r\n" for name, value in self.shown.items())
        writer.write((asked + "\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if self.headers.get("transfer-encoding") != "chunked":
            self.body = await reader.readexactly(int(self.headers.get("content-length", 0)))
            self.close()
        return self

    async def events(self) -> AsyncIterator[Sent]:
        """Give the events until the stream ends."""
        text = ""
        async for chunk in self._chunks():
            text += chunk
            *blocks, text = text.split("\n\n")
            for block in blocks:
                sent = self._read(block)
                if sent is not None:
                    yield sent

    async def take(self, count: int) -> list[Sent]:
        """Give the next events."""
        found: list[Sent] = []
        async with asyncio.timeout(20):
            async for sent in self.events():
                found.append(sent)
                if len(found) == count:
                    break
        return found

    async def rest(self) -> list[Sent]:
        """Give all that comes until the stream ends."""
        async with asyncio.timeout(20):
            found = [sent async for sent in self.events()]
        self.close()
        return found

    def close(self) -> None:
        """Leave in the middle, without a word."""
        if self._streams is not None:
            self._streams[1].transport.abort()

    def _read(self, block: str) -> Sent | None:
        sent = Sent(None, "message", None)
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name == "id":
                sent.id = self.last_id = value
            elif name == "event":
                sent.type = value
            elif name == "data":
                sent.data = json.loads(value)
            elif line.startswith(":"):
                self.beats += 1
        return None if sent.data is None else sent

    async def _chunks(self) -> AsyncIterator[str]:
        assert self._streams is not None
        reader = self._streams[0]
        while size := int(await reader.readline(), 16):
            chunk = await reader.readexactly(size)
            await reader.readexactly(2)
            yield chunk.decode()
