"""Ask the app in this process, as a request over HTTP would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import grpc
import orjson
from starlette.types import ASGIApp, Message, Scope

from tasker_core.engine.ids import new_uuid
from tasker_core.server.rpc.status import Refused

# What of a call's metadata the app is shown.
SHOWN = frozenset(
    {"authorization", "x-api-key", "idempotency-key", "x-request-id", "traceparent", "tracestate"}
)
MARK = "tasker.rpc"  # in the scope of such a request

Codes = Mapping[int, grpc.StatusCode]
Query = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the app has answered."""

    status: int
    headers: Mapping[str, str]
    document: Any


@dataclass(slots=True)
class Api:
    """The app, as one caller sees it.

    Args:
        app: The app.
        method: The call's name, for the records.
        metadata: What came with the call.
        peer: Where it came from, as gRPC says it: `ipv4:127.0.0.1:43210`.
        server: Where this server listens.
    """

    app: ASGIApp
    method: str
    metadata: Sequence[tuple[str, str | bytes]]
    peer: str
    server: tuple[str, int]
    request_id: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not any(name == "x-request-id" for name, _ in self.metadata):
            self.request_id = str(new_uuid())

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        codes: Codes | None = None,
    ) -> Reply:
        """Ask, and wait for the whole reply.

        Args:
            query: Without what is None.
            body: Goes as JSON.
            codes: How statuses of HTTP are told that here mean something of their own.

        Raises:
            Refused: The app has answered with a problem.
        """
        status, headers, content = 500, dict[str, str](), bytearray()
        body_bytes = b"" if body is None else json.dumps(body).encode()
        has_asked = False

        async def receive() -> Message:
            nonlocal has_asked
            if has_asked:
                await asyncio.Future()  # nobody leaves: a call that is cancelled cancels this
            has_asked = True
            return {"type": "http.request", "body": body_bytes, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], _headers(message)
            else:
                content.extend(message.get("body", b""))

        await self.app(self._scope(method, path, query, has_body=body is not None), receive, send)
        self._note(headers)
        return self._checked(Reply(status, headers, _document(content)), codes)

    async def follow(self, path: str, *, query: Query) -> AsyncGenerator[dict[str, Any]]:
        """Ask for a stream of events, and give each; at most one waits to be taken.

        Raises:
            Refused: There is no such stream.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue(1)

        async def receive() -> Message:
            await asyncio.Future()  # as above
            raise AssertionError

        async def serve() -> None:
            await self.app(self._scope("GET", path, query), receive, messages.put)
            await messages.put(None)

        serving = asyncio.create_task(serve())
        try:
            start = await _next(messages, serving)
            assert start is not None
            status, headers = start["status"], _headers(start)
            self._note(headers)
            content = b""
            while (message := await _next(messages, serving)) is not None:
                content += message.get("body", b"")
                if status == 200:
                    *frames, content = content.split(b"\n\n")
                    for frame in frames:
                        if (event := _event(frame)) is not None:
                            yield event
            self._checked(Reply(status, headers, None if status == 200 else _document(content)))
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    def _scope(
        self, method: str, path: str, query: Query | None, *, has_body: bool = False
    ) -> Scope:
        given = {name: _word(value) for name, value in (query or {}).items() if value is not None}
        headers = [(b"host", b"localhost")]
        if has_body:
            headers.append((b"content-type", b"application/json"))
        for name, value in self.metadata:
            if name in SHOWN and not (name == "x-request-id" and self.request_id):
                told = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
                headers.append((name.encode(), told))
        if self.request_id:  # all that one call asks for has one id
            headers.append((b"x-request-id", self.request_id.encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "2",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(given, doseq=True).encode(),
            "root_path": "",
            "headers": headers,
            "client": client_of(self.peer),
            "server": self.server,
            "state": {},
            MARK: self.method,
        }

    def _note(self, headers: Mapping[str, str]) -> None:
        self.request_id = headers.get("x-request-id", self.request_id)

    @staticmethod
    def _checked(reply: Reply, codes: Codes | None = None) -> Reply:
        if 200 <= reply.status < 300:
            return reply
        raise Refused(reply.status, reply.headers, reply.document, codes or {})


def part(value: object) -> str:
    """Write one part of a path, so that it stays one.

    >>> part("a/b"), part("")
    ('a%2Fb', '-')
    """
    return str(value or "-").replace("/", "%2F")


def client_of(peer: str) -> tuple[str, int] | None:
    """Read an address as gRPC says it; None: it is no address of a network.

    >>> client_of("ipv4:127.0.0.1:43210"), client_of("ipv6:%5B::1%5D:43210")
    (('127.0.0.1', 43210), ('::1', 43210))
    """
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)


# --- helpers --------------------------------------------------------------------------


async def _next(
    messages: asyncio.Queue[Message | None], serving: asyncio.Task[None]
) -> Message | None:
    """Take the next message, or raise what has ended the app."""
    taking = asyncio.ensure_future(messages.get())
    try:
        await asyncio.wait([taking, serving], return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            return taking.result()
        if not messages.empty():
            return messages.get_nowait()
        serving.result()
        return None
    finally:
        taking.cancel()


def _headers(message: Message) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}


def _document(content: bytes | bytearray) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def _event(frame: bytes) -> dict[str, Any] | None:
    for line in frame.splitlines():
        if line.startswith(b"data: "):
            found: dict[str, Any] = orjson.loads(line[6:])
            return found
    return None  # a heartbeat


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else value
