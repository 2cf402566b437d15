"""What came back from an HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker_core.handlers.api.status import (
    classify_status,
    retry_after_seconds,
    safe_headers,
    whole_retry_after,
)

if TYPE_CHECKING:
    import httpx


class ApiResponse:
    """An answer, its body read by its content type.

    JSON (`application/json`, anything `+json`) becomes Python values, everything else
    text; so does JSON that cannot be read. `response["key"]` looks into the body.

    Args:
        response: httpx's own response; kept as `raw_response`.
        body: Taken instead of the response's own body, if given.

    Attributes:
        status_code: The HTTP status.
        headers: Names in lower case, secrets and all: do not store them.
        body: A JSON value or text.
        raw_response: For whatever is missing here: `content`, `elapsed`, `url`.
    """

    def __init__(self, response: httpx.Response, body: Any = None) -> None:
        self.raw_response = response
        self.status_code: int = response.status_code
        self.headers: dict[str, str] = {k.lower(): v for k, v in dict(response.headers).items()}
        self.body: Any = self._read() if body is None else body

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status_code < 300

    @property
    def is_client_error(self) -> bool:
        """Whether the status is 400 to 499."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """Whether the status is 500 to 599."""
        return 500 <= self.status_code < 600

    @property
    def is_retryable(self) -> bool:
        """Whether trying again may help: 408, 425, 429, and every 5xx but 501 and 505."""
        return classify_status(self.status_code).retryable

    @property
    def retry_after(self) -> int | None:
        """Seconds that the server asks for, whole; 60 if it names a date; None if it does not."""
        return whole_retry_after(self.headers)

    @property
    def retry_after_seconds(self) -> float | None:
        """Seconds that the server asks for, dates reckoned out; None if it does not ask."""
        return retry_after_seconds(self.headers)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.raw_response.text

    def json(self) -> Any:
        """Give the body as JSON, whatever its content type.

        Raises:
            ValueError: It is not JSON.
        """
        return self.raw_response.json() if isinstance(self.body, str) else self.body

    def to_dict(self) -> dict[str, Any]:
        """Give `{"status_code": int, "headers": {}, "body": …}`; headers without secrets."""
        return {
            "status_code": self.status_code,
            "headers": safe_headers(self.headers),
            "body": self.body,
        }

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(self.body, dict | list):
            raise TypeError(
                f"the answer's body is {type(self.body).__name__}, not a JSON object or list "
                f"(status {self.status_code}, content type {self.headers.get('content-type')!r})"
            )
        return self.body[key]

    def __repr__(self) -> str:
        return f"ApiResponse(status_code={self.status_code})"

    def _read(self) -> Any:
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json" or content_type.endswith("+json"):
            try:
                return self.raw_response.json()
            except ValueError:
                pass
        return self.raw_response.text
