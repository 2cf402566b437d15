"""Every error → its status, its code and its words.

The words of our own errors are for the caller; what a driver or a bug says goes to the
log, where the request's id finds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import asyncpg
import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tasker_core import errors
from tasker_core.wire.problems import MEDIA_TYPE, ErrorMember, FieldError, Problem

# The nearest class of an error counts.
_BY_CLASS: dict[type[BaseException], tuple[int, str]] = {
    errors.UnknownTask: (404, "NOT_FOUND"),
    errors.UnknownStep: (404, "NOT_FOUND"),
    errors.UnknownTemplate: (404, "NOT_FOUND"),
    errors.UnknownDlqEntry: (404, "NOT_FOUND"),
    errors.DuplicateTask: (409, "CONFLICT"),
    errors.TransitionRefused: (409, "CONFLICT"),
    errors.DlqEntryPending: (409, "CONFLICT"),
    errors.TemplateChanged: (409, "CONFLICT"),
    errors.InvalidRequest: (422, "VALIDATION_ERROR"),
    errors.InvalidContext: (422, "VALIDATION_ERROR"),
    errors.InvalidTemplate: (422, "VALIDATION_ERROR"),
    errors.NotStorable: (422, "VALIDATION_ERROR"),
    errors.InvalidExpansion: (422, "VALIDATION_ERROR"),
    errors.RequestError: (400, "BAD_REQUEST"),  # a missing idempotency key, and the like
    errors.DatabaseUnreachable: (503, "SERVICE_UNAVAILABLE"),
    errors.EmbeddedDatabaseError: (503, "SERVICE_UNAVAILABLE"),
    errors.SchemaOutOfDate: (503, "SERVICE_UNAVAILABLE"),
    errors.SchemaTooNew: (503, "SERVICE_UNAVAILABLE"),
    asyncpg.PostgresError: (500, "DATABASE_ERROR"),
    asyncpg.DataError: (500, "DATABASE_ERROR"),
    Exception: (500, "INTERNAL_ERROR"),
}

_BY_STATUS = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TIMEOUT",
    410: "GONE",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    503: "SERVICE_UNAVAILABLE",
}

RETRY_SECONDS = 2
LONGEST_KEY = 255  # of a header Idempotency-Key

_log = structlog.get_logger("tasker.server")


class Refusal(Exception):
    """A request that cannot be served for what it is in HTTP, not for what it asks."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        wrong: Sequence[FieldError] = (),
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.status, self.code, self.detail, self.wrong = status, code, detail, tuple(wrong)
        self.retry_after, self.headers, self.more = retry_after, dict(headers or {}), more
        super().__init__(detail)


_REPEATABLE = frozenset({"tag"})
_OURS = (Refusal, errors.TaskerError, asyncpg.PostgresError, asyncpg.DataError)


class ProblemRoute(APIRoute):
    """A route whose errors are problems, in whatever app it stands."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer for what the route raises, and for what it was asked with."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                _check_repeated(request)
                return await handler(request)
            except RequestValidationError as error:
                return await _answer_invalid(request, error)
            except _OURS as error:
                return problem_of(request, error)

        return answer


class LeanRoute(ProblemRoute):
    """A route that reads its request itself: its endpoint is called with nothing else.

    So it is in our own app. In somebody else's the route may have been made to depend on
    more, and FastAPI does for it what it does for others; and anywhere, when the headers
    are not as they are described.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Call the endpoint straight away where that comes to the same."""
        checked = super().get_route_handler()
        endpoint = self.endpoint

        async def answer(request: Request) -> Response:
            is_ours = getattr(request.app.state, "is_ours", False)
            if not is_ours or request.scope["query_string"] or not _has_plain_key(request):
                return await checked(request)
            try:
                reply: Response = await endpoint(request)
            except _OURS as error:
                return problem_of(request, error)
            return reply

        return answer


def install(app: FastAPI) -> None:
    """Let what no route of ours has raised be answered here, too."""
    app.add_exception_handler(HTTPException, _answer_http)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    wrong: Sequence[FieldError] = (),
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Build the reply: application/problem+json, with the older member `error`."""
    document = Problem(
        type=f"urn:tasker:problem:{code.lower().replace('_', '-')}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=getattr(request.state, "request_id", None),
        timestamp=datetime.now(UTC),
        errors=list(wrong),
        retry_after_seconds=retry_after,
        error=ErrorMember(code=code, message=detail, retry_after_seconds=retry_after),
        **more,
    ).document()
    extra = dict(headers or {})
    if retry_after is not None:
        extra["Retry-After"] = str(retry_after)
    return Response(orjson.dumps(document), status, extra, MEDIA_TYPE)


def problem_of(request: Request, error: Exception) -> Response:
    """Build the reply to any error."""
    if isinstance(error, Refusal):
        return problem(
            request,
            error.status,
            error.code,
            error.detail,
            wrong=error.wrong,
            retry_after=error.retry_after,
            headers=error.headers,
            **error.more,
        )
    status, code = _kind_of(error)
    if status == 503:
        _log.warning("unavailable", path=request.url.path, error=str(error))
        detail = "the database cannot be used at the moment; try again"
        return problem(request, status, code, detail, retry_after=RETRY_SECONDS)
    if status == 500:
        _log.error("request_failed", path=request.url.path, exc_info=error)
        detail = "the server failed; its log says why, under this request's id"
        return problem(request, status, code, detail)
    return problem(
        request, status, code, str(error), wrong=list(_wrong_fields(error)), **_facts(error)
    )


def facts_of(error: errors.TaskerError) -> tuple[int, str, list[FieldError]]:
    """Say of an error its status, its code, and what in the request is wrong."""
    status, code = _kind_of(error)
    return status, code, list(_wrong_fields(error))


def fields_of(found: Iterable[Mapping[str, Any]], skip: int = 0) -> list[FieldError]:
    """Turn what pydantic found into pointers; `skip` words of each path are not the caller's."""
    return [
        FieldError(
            pointer=_pointer(one["loc"][skip:]),
            message=str(one["msg"]).removeprefix("Value error, "),
            kind=str(one["type"]),
        )
        for one in found
    ]


# --- helpers --------------------------------------------------------------------------


def _has_plain_key(request: Request) -> bool:
    """Whether there is at most one idempotency key, of a length that may be."""
    keys = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    return not keys or (len(keys) == 1 and 1 <= len(keys[0]) <= LONGEST_KEY)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """Answer for what FastAPI checks: ids in the path, and the query."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["loc"][0] == "path" for one in found) and _literal(request):
        return await _answer_http(request, HTTPException(405))
    for one in found:
        if one["loc"][0] == "path" and one["type"].startswith("uuid"):
            detail = f"{one['loc'][-1]} is {one['input']!r}, but must be a UUID"
            return problem(request, 400, "INVALID_UUID", detail)
    wrong = fields_of(found, skip=1)
    detail = "; ".join(f"{one.pointer[1:]}: {one.message}" for one in wrong)
    return problem(request, 400, "BAD_REQUEST", f"the address is wrong: {detail}", wrong=wrong)


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer for what Starlette finds: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "BAD_REQUEST")
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is no {request.url.path}"
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
        detail = f"{request.url.path} does not know {request.method}; it knows {headers['Allow']}"
    return problem(request, error.status_code, code, detail, headers=headers)


def _allowed(request: Request) -> list[str]:
    """List the methods of this path; one path may be several routes."""
    matching = [
        route
        for route in request.app.state.api_routes
        if route.matches(request.scope)[0] is not Match.NONE
    ]
    return sorted({method for route in _literal(request) or matching for method in route.methods})


def _literal(request: Request) -> list[Any]:
    """Find the routes of this very path: /v1/tasks/bulk looks like a task, but is none."""
    routes = getattr(request.app.state, "api_routes", [])
    return [route for route in routes if route.path == request.scope["path"]]


def _check_repeated(request: Request) -> None:
    """Refuse a parameter that is there twice: which of them would count?"""
    names = Counter(name for name, _ in request.query_params.multi_items())
    twice = [name for name, count in names.items() if count > 1 and name not in _REPEATABLE]
    if twice:
        wrong = [FieldError(pointer=f"/{name}", message="twice", kind="once") for name in twice]
        detail = f"the address is wrong: {', '.join(twice)}: is there more than once"
        raise Refusal(400, "BAD_REQUEST", detail, wrong)


def _kind_of(error: Exception) -> tuple[int, str]:
    return next(_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS)


def _wrong_fields(error: Exception) -> Iterable[FieldError]:
    if isinstance(error, errors.InvalidContext):
        for one in error.violations:
            yield FieldError(pointer="/context" + one.pointer, message=one.message, kind=one.rule)
    elif isinstance(error, errors.InvalidTemplate):
        for finding in error.findings:
            yield FieldError(pointer=finding.path, message=finding.message, kind=finding.code)
    elif isinstance(error, errors.NotStorable):
        yield FieldError(pointer=error.pointer, message=error.reason, kind="storable")
    elif isinstance(error, errors.InvalidRequest):
        yield FieldError(pointer=f"/{error.field}", message=f"must be {error.must}", kind="bounds")


def _facts(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.TransitionRefused):
        return {"current_state": error.state}
    if isinstance(error, errors.DlqEntryPending):
        return {"dlq_entry_uuid": error.dlq_entry_uuid}
    return {}


def _pointer(path: Iterable[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
