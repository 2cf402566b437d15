"""Serve one call: read its message, ask, answer, count.

Messages are read and written here and not by gRPC, so that one that cannot be read is the
caller's mistake, told as such.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, EncodeError
from grpc import StatusCode
from starlette.types import ASGIApp

from tasker_core.server.metrics import Requests
from tasker_core.server.rpc import messages, others, steps, tasks
from tasker_core.server.rpc.api import Api
from tasker_core.server.rpc.convert import fill, read
from tasker_core.server.rpc.status import Refused, refused

Given = Mapping[str, Any]
Context = Any  # grpc.aio.ServicerContext

_UNARY: Mapping[str, Mapping[str, Callable[[Api, Given], Awaitable[Given]]]] = {
    "TaskService": tasks.UNARY,
    "StepService": steps.UNARY,
    "TemplateService": others.TEMPLATES,
    "AnalyticsService": others.ANALYTICS,
    "DlqService": others.DLQ,
    "ConfigService": others.CONFIG,
    "HealthService": others.HEALTH,
}
_STREAMS: Mapping[str, Mapping[str, Callable[[Api, Given], AsyncGenerator[Given]]]] = {
    "TaskService": tasks.STREAMS
}
_QUIET = ("HealthService",)  # asked all the time: logged with -vv only

_log = structlog.get_logger("tasker.server")


class Calls:
    """Serves the calls of one server.

    Args:
        app: What is asked.
        requests: Where the app counts.
        server: Where this server listens.
    """

    def __init__(self, app: ASGIApp, requests: Requests, server: tuple[str, int]) -> None:
        self.app, self.server = app, server
        self._requests = requests

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Give a handler for each service."""
        return [
            grpc.method_handlers_generic_handler(
                service.full_name, {one.name: self._handler(one) for one in service.methods}
            )
            for service in messages.services()
        ]

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        service = method.containing_service.name
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, _STREAMS[service][method.name])
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, _UNARY[service][method.name])
        )

    def _unary(
        self, method: MethodDescriptor, answer: Callable[[Api, Given], Awaitable[Given]]
    ) -> Any:
        async def serve(content: bytes, context: Context) -> bytes:
            call = _Call(self, method, context)
            try:
                reply = await answer(call.api, call.read(content))
                told = call.write(reply)
                call.succeed()
            except Exception as error:
                await call.abort(error)
            finally:
                call.note()
            return told

        return serve

    def _stream(
        self, method: MethodDescriptor, answer: Callable[[Api, Given], AsyncGenerator[Given]]
    ) -> Any:
        async def serve(content: bytes, context: Context) -> AsyncIterator[bytes]:
            call = _Call(self, method, context)
            try:
                async with aclosing(answer(call.api, call.read(content))) as replies:
                    async for reply in replies:
                        yield call.write(reply)
                call.succeed()
            except Exception as error:
                await call.abort(error)
            finally:
                call.note()

        return serve

    def note(self, method: str, code: StatusCode, seconds: float, request_id: str | None) -> None:
        """Count a call that has ended, and write its line to the log."""
        self._requests.calls.labels(method, code.name).inc()
        self._requests.call_seconds.labels(method).observe(seconds)
        if not structlog.is_configured():
            return
        log = _log.debug if any(name in method for name in _QUIET) else _log.info
        ms = round(1000 * seconds, 3)
        log("call", method=method, code=code.name, duration_ms=ms, request_id=request_id)


class _Call:
    """One call, from its message to its status."""

    def __init__(self, calls: Calls, method: MethodDescriptor, context: Context) -> None:
        self._calls, self._method, self._context = calls, method, context
        self._name = f"{method.containing_service.full_name}/{method.name}"
        self._begun = time.perf_counter()
        self._code = StatusCode.CANCELLED  # unless it comes to something
        metadata = context.invocation_metadata() or ()
        self.api = Api(calls.app, self._name, tuple(metadata), context.peer(), calls.server)

    def read(self, content: bytes) -> Given:
        try:
            return read(messages.request_of(self._method).FromString(content))
        except (DecodeError, ValueError) as error:
            raise refused(400, "BAD_REQUEST", f"the request cannot be read: {error}") from None

    def write(self, document: Given) -> bytes:
        try:
            filled = fill(messages.response_of(self._method)(), document)
            content: bytes = filled.SerializeToString()
        except (EncodeError, OverflowError, ValueError) as error:
            detail = f"the answer does not fit into the protocol: {error}; ask for it over HTTP"
            raise refused(500, "INTERNAL_ERROR", detail) from error
        return content

    def succeed(self) -> None:
        self._code = StatusCode.OK
        self._context.set_trailing_metadata(self.request_id())

    async def abort(self, error: Exception) -> NoReturn:
        if not isinstance(error, Refused):
            _log.error("call_failed", method=self._name, exc_info=error)
            detail = "the server failed; its log says why, under this request's id"
            error = refused(500, "INTERNAL_ERROR", detail)
        self._code = error.code
        await self._context.abort(error.code, error.message, error.trailer() + self.request_id())
        raise AssertionError("abort raises")

    def request_id(self) -> tuple[tuple[str, str], ...]:
        return () if self.api.request_id is None else (("x-request-id", self.api.request_id),)

    def note(self) -> None:
        seconds = time.perf_counter() - self._begun
        self._calls.note(self._name, self._code, seconds, self.api.request_id)
