"""The verbs of a handler that calls an HTTP API, and how its answers become results."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tasker_core.handlers.api.response import ApiResponse
from tasker_core.handlers.api.status import classify_status, retry_after_seconds, safe_headers
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.result import ErrorType, StepHandlerResult
from tasker_core.payload import storable_text

if TYPE_CHECKING:
    import httpx

MAX_STORED_BODY = 16_000  # characters of a failed answer that are kept

_DETAILS = ("error", "message", "detail", "error_message", "msg", "title")


class APIMixin:
    """Makes a `StepHandler` call an HTTP API; in either order of the bases.

    The verbs give an `ApiResponse` whatever the status; redirects are not followed.
    What httpx raises when no answer comes (`httpx.ConnectError`,
    `httpx.TimeoutException`) passes through: turn it into a result with
    `connection_error` and `timeout_error`, or leave it, which retries the step.
    In `async def call` use `aget`, `apost` and so on: the others would hold up every
    other handler.

    Connections are shared by all handlers of the process; cookies stay with one
    instance.

    >>> class FetchUser(APIMixin, StepHandler):
    ...     handler_name = "fetch_user"
    ...     base_url = "https://api.example.com"
    ...     def call(self, context):
    ...         response = self.get("/users", params={"id": context.get_input("user_id")})
    ...         return self.api_success(response) if response.ok else self.api_failure(response)
    """

    base_url: str = ""  # put before every path
    default_timeout: float = 30.0  # seconds, for each phase: connect, write, read
    default_headers: Mapping[str, str] = {}  # sent with every request
    api_capabilities: ClassVar[list[str]] = ["http", "api"]

    # Class attributes, so that a subclass may have an __init__ of its own.
    _client: httpx.Client | None = None
    _async_client: httpx.AsyncClient | None = None
    _async_loop: asyncio.AbstractEventLoop | None = None

    # --- the clients ------------------------------------------------------------------

    @property
    def client(self) -> httpx.Client:
        """httpx's client, made at first use; a test sets `_client` to one of its own."""
        if self._client is None:
            from tasker_core.handlers.api.connections import new_client

            self._client = new_client(self.base_url, self.default_timeout, self.default_headers)
        return self._client

    @property
    def async_client(self) -> httpx.AsyncClient:
        """The same for `async def call`; a test sets `_async_client`."""
        client, made_for = self._async_client, self._async_loop
        if client is None or (made_for is not None and made_for is not asyncio.get_running_loop()):
            from tasker_core.handlers.api.connections import new_async_client

            client = new_async_client(self.base_url, self.default_timeout, self.default_headers)
            self._async_client, self._async_loop = client, asyncio.get_running_loop()
        return client

    def close(self) -> None:
        """Close the client, if one was made; the next request makes a new one.

        May be called any number of times. Connections stay open for other handlers.
        """
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the async client and the other, if they were made."""
        client, self._async_client, self._async_loop = self._async_client, None, None
        if client is not None:
            await client.aclose()
        self.close()

    def __del__(self) -> None:
        # Only what this instance holds itself: a client on the class is everybody's.
        if self.__dict__.get("_client") is not None:
            with contextlib.suppress(Exception):
                self.close()

    # --- requests ---------------------------------------------------------------------

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a GET.

        Args:
            path: Relative to `base_url`, or a whole address.
            params: The query.
            headers: Sent besides `default_headers`.
            options: Whatever httpx takes besides: `timeout`, `auth`, `cookies` …

        Raises:
            httpx.TransportError: No answer came.
        """
        return ApiResponse(self.client.get(path, params=params, headers=headers, **options))

    def post(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a POST: `json` as JSON, or `data` as a form; the rest as for `get`."""
        return ApiResponse(self.client.post(path, json=json, data=data, headers=headers, **options))

    def put(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a PUT, as `post` does."""
        return ApiResponse(self.client.put(path, json=json, data=data, headers=headers, **options))

    def patch(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a PATCH, as `post` does."""
        return ApiResponse(
            self.client.patch(path, json=json, data=data, headers=headers, **options)
        )

    def delete(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a DELETE; the arguments are those of `get`, in another order."""
        if params is not None:
            options["params"] = params
        return ApiResponse(self.client.delete(path, headers=headers, **options))

    def request(self, method: str, path: str, **options: Any) -> ApiResponse:
        """Send any method, with whatever httpx takes: `params`, `json`, `content`, `files` …"""
        return ApiResponse(self.client.request(method, path, **options))

    async def aget(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a GET from async code, as `get` does."""
        return await self.arequest("GET", path, params=params, headers=headers, **options)

    async def apost(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a POST from async code, as `post` does."""
        return await self.arequest("POST", path, json=json, data=data, headers=headers, **options)

    async def aput(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a PUT from async code, as `post` does."""
        return await self.arequest("PUT", path, json=json, data=data, headers=headers, **options)

    async def apatch(
        self,
        path: str,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a PATCH from async code, as `post` does."""
        return await self.arequest("PATCH", path, json=json, data=data, headers=headers, **options)

    async def adelete(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ApiResponse:
        """Send a DELETE from async code, as `delete` does."""
        return await self.arequest("DELETE", path, params=params, headers=headers, **options)

    async def arequest(self, method: str, path: str, **options: Any) -> ApiResponse:
        """Send any method from async code, as `request` does."""
        return ApiResponse(await self.async_client.request(method, path, **options))

    # --- results ----------------------------------------------------------------------

    def api_success(
        self,
        response: ApiResponse | None = None,
        result: Mapping[str, Any] | None = None,
        include_response: bool = True,
    ) -> StepHandlerResult:
        """Say that the step is done; does not look at the status.

        Args:
            response: Its body is the result: a JSON object as it is, anything else as
                `{"data": body}`. May be left out if there is a `result`.
            result: Taken instead of the body.
            include_response: Keep status and headers with the attempt, as metadata
                `{"status_code": int, "headers": {}}`; headers that may carry a secret
                are left out.
        """
        if result is None and response is not None:
            body = response.body
            result = body if isinstance(body, dict) else {"data": body}
        metadata = _facts(response) if response is not None and include_response else None
        return StepHandlerResult.success(result, metadata)

    def api_failure(self, response: ApiResponse, message: str | None = None) -> StepHandlerResult:
        """Say that the attempt failed, by the answer's status.

        ====================================  ======================================  =========
        status                                error_type                              retryable
        ====================================  ======================================  =========
        400 401 403                           bad_request unauthorized forbidden      no
        404 405 409                           not_found method_not_allowed conflict   no
        410 422                               gone unprocessable_entity               no
        408 429                               request_timeout rate_limited            yes
        425                                   client_error                            yes
        other 4xx                             client_error                            no
        500 502                               internal_server_error bad_gateway       yes
        503 504                               service_unavailable gateway_timeout     yes
        501 505                               server_error                            no
        other 5xx                             server_error                            yes
        anything else                         http_error                              no
        ====================================  ======================================  =========

        `Retry-After`, seconds or a date, sets when the step is tried again. The metadata
        are `{"status_code": int, "headers": {}, "retry_after_seconds": float,
        "response_body": …}`, the last two if there are any; a body of more than 16,000
        characters is cut.

        Args:
            message: What went wrong; None reads it from the body.
        """
        metadata = _facts(response)
        rest = retry_after_seconds(response.headers)
        if rest is not None:
            metadata["retry_after_seconds"] = rest
        if response.body:
            metadata["response_body"] = _stored_body(response)
        return StepHandlerResult.failure(
            message or self._format_error_message(response),
            self._classify_error(response),
            classify_status(response.status_code).retryable,
            metadata,
        )

    def connection_error(
        self, error: BaseException, context: str | None = None
    ) -> StepHandlerResult:
        """Say that the API could not be reached, which is worth another try.

        Args:
            context: What the handler was about to do: `"fetching the user"`.
        """
        return _no_answer("Connection error", "connection_error", error, context)

    def timeout_error(self, error: BaseException, context: str | None = None) -> StepHandlerResult:
        """Say that the API took too long, which is worth another try; as `connection_error`."""
        return _no_answer("Request timeout", ErrorType.TIMEOUT, error, context)

    def _classify_error(self, response: ApiResponse) -> str:
        """Give the error type of an answer."""
        return classify_status(response.status_code).error_type

    def _format_error_message(self, response: ApiResponse) -> str:
        """Say what an answer complains about, in its own words if it has any."""
        detail = _detail(response.body) or classify_status(response.status_code).phrase
        return f"HTTP {response.status_code}: {detail}"


class ApiHandler(APIMixin, StepHandler):
    """A `StepHandler` that calls an HTTP API."""


def _facts(response: ApiResponse) -> dict[str, Any]:
    return {"status_code": response.status_code, "headers": safe_headers(dict(response.headers))}


def _detail(body: Any) -> str | None:
    if not isinstance(body, Mapping):
        return None
    for key in _DETAILS:
        value = body.get(key)
        if isinstance(value, Mapping):
            value = value.get("message")
        if isinstance(value, str) and value:
            return value
    return None


def _stored_body(response: ApiResponse) -> Any:
    """Keep the body of a failed answer, or its beginning: some send whole web pages."""
    body = response.body
    if not isinstance(body, str):
        raw = getattr(response, "raw_response", None)
        size = len(raw.content) if raw is not None and isinstance(raw.content, bytes) else 0
        if size <= MAX_STORED_BODY:
            return body
        body = response.text
    body = storable_text(body)
    return body if len(body) <= MAX_STORED_BODY else body[:MAX_STORED_BODY] + " …"


def _no_answer(
    what: str, error_type: str, error: BaseException, context: str | None
) -> StepHandlerResult:
    during = f" while {context}" if context else ""
    return StepHandlerResult.failure(
        f"{what}{during}: {error}",
        error_type,
        retryable=True,
        metadata={"exception_type": type(error).__name__},
    )
