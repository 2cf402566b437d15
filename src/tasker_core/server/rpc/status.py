"""A problem of the HTTP API → a status of gRPC, with the details that clients expect.

The message is the problem's code and its detail. `grpc-status-details-bin` has the same
for programs: ErrorInfo, and where they apply BadRequest, RetryInfo and RequestInfo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

DOMAIN = "tasker"
DETAILS = "grpc-status-details-bin"
# In bytes: a client takes 8 KiB of metadata, where each byte may be written in three.
LONGEST_DETAIL = 800
MOST_VIOLATIONS = 8
LONGEST_FACT = 150

_BY_STATUS: Mapping[int, StatusCode] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.INVALID_ARGUMENT,  # a transition that is refused
    410: StatusCode.OUT_OF_RANGE,
    413: StatusCode.RESOURCE_EXHAUSTED,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    431: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
}
_PASSED_ON = ("retry-after", "x-auth-failure-reason", "x-auth-failure-severity")
_KNOWN = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "request_id", "timestamp"}
    | {"errors", "retry_after_seconds", "error"}
)

Metadata = tuple[tuple[str, str | bytes], ...]


class Refused(Exception):
    """A call that ends with another status than OK.

    Args:
        status: Of the reply over HTTP.
        headers: Its headers.
        problem: Its document; None: it had none.
        codes: How statuses of HTTP are told that mean something of their own here.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        problem: Any,
        codes: Mapping[int, StatusCode],
    ) -> None:
        self.status, self.headers = status, headers
        self.problem: Mapping[str, Any] = problem if isinstance(problem, dict) else {}
        self.code = codes.get(status) or _BY_STATUS.get(status, StatusCode.INTERNAL)
        word = self.problem.get("code", "INTERNAL_ERROR")
        detail = self.problem.get("detail", "the server failed")
        self.message = _cut(f"{word}: {detail}", LONGEST_DETAIL)
        super().__init__(self.message)

    def trailer(self) -> Metadata:
        """Give what the client is told beside the message."""
        passed = tuple((name, self.headers[name]) for name in _PASSED_ON if name in self.headers)
        return (*passed, (DETAILS, self._details().SerializeToString()))

    def _details(self) -> status_pb2.Status:
        number: int = self.code.value[0]
        found = status_pb2.Status(code=number, message=self.message)
        info = error_details_pb2.ErrorInfo(
            reason=self.problem.get("code", "INTERNAL_ERROR"), domain=DOMAIN
        )
        for name, value in self.problem.items():
            if name not in _KNOWN and value is not None:
                info.metadata[name] = _cut(str(value), LONGEST_FACT)
        found.details.add().Pack(info)
        if wrong := self.problem.get("errors"):
            found.details.add().Pack(_bad_request(wrong))
        if (seconds := self.problem.get("retry_after_seconds")) is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromSeconds(seconds)
            found.details.add().Pack(retry)
        if request_id := self.problem.get("request_id"):
            request = error_details_pb2.RequestInfo(request_id=request_id)
            found.details.add().Pack(request)
        return found


def refused(status: int, code: str, detail: str, **more: Any) -> Refused:
    """Refuse a call for what no request over HTTP has been asked for."""
    headers = {"retry-after": str(more["retry_after_seconds"])} if more else {}
    return Refused(status, headers, {"code": code, "detail": detail, **more}, {})


def _bad_request(wrong: Sequence[Mapping[str, str]]) -> error_details_pb2.BadRequest:
    found = error_details_pb2.BadRequest()
    for one in wrong[:MOST_VIOLATIONS]:
        found.field_violations.add(
            field=_cut(one["pointer"], LONGEST_FACT),
            description=_cut(one["message"], LONGEST_FACT),
            reason=one["kind"].upper(),
        )
    return found


def _cut(text: str, longest: int) -> str:
    content = text.encode("utf-8", "replace")
    if len(content) <= longest:
        return content.decode()
    return content[: longest - 3].decode("utf-8", "ignore") + "…"
