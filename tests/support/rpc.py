"""A client of gRPC that knows nothing but the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2, status_pb2

from tasker_core.server.rpc import messages

Metadata = Mapping[str, str]


class RpcClient:
    """Calls a server; documents in, documents out, as protobuf writes JSON."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None = None, **more: Any
    ) -> None:
        options = [("grpc.enable_retries", 0), *more.items()]
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(address, options)
        else:
            self.channel = grpc.aio.secure_channel(address, credentials, options)

    async def call(
        self, name: str, metadata: Metadata | None = None, /, **document: Any
    ) -> dict[str, Any]:
        """Call `TaskService/GetTask`; raise AioRpcError for any status but OK."""
        method = _method(name)
        ask = self.channel.unary_unary(f"/{messages.PACKAGE}.{name}")
        reply = await ask(
            ParseDict(document, messages.request_of(method)()).SerializeToString(),
            metadata=tuple((metadata or {}).items()),
            timeout=20,
        )
        return _shown(messages.response_of(method).FromString(reply))

    def stream(self, name: str, metadata: Metadata | None = None, /, **document: Any) -> Any:
        """Begin a stream; iterate with `told`, or cancel it."""
        ask = self.channel.unary_stream(f"/{messages.PACKAGE}.{name}")
        return ask(
            ParseDict(document, messages.request_of(_method(name))()).SerializeToString(),
            metadata=tuple((metadata or {}).items()),
            timeout=20,
        )

    async def __aenter__(self) -> RpcClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.channel.close()


async def told(stream: Any) -> AsyncIterator[dict[str, Any]]:
    """Give the updates of a stream of StreamTaskStatus, until it ends."""
    shape = messages.message("StreamTaskStatusResponse")
    async for content in stream:
        yield _shown(shape.FromString(content))


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """Give the error that a call ends with."""
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"it was not refused: {reply}")


def trailer(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Give what came behind a refusal."""
    return dict(error.trailing_metadata() or ())


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Unpack the details of a refusal, by the name of their kind."""
    status = status_pb2.Status.FromString(trailer(error)["grpc-status-details-bin"])
    found = {}
    for one in status.details:
        name = one.type_url.rpartition(".")[2]
        part = getattr(error_details_pb2, name)()
        one.Unpack(part)
        found[name] = _shown(part)
    return found


def _method(name: str) -> Any:
    service, _, method = name.partition("/")
    found = messages.pool().FindServiceByName(f"{messages.PACKAGE}.{service}")
    return found.methods_by_name[method]


def _shown(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)
