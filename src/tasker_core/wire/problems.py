"""What went wrong: application/problem+json (RFC 9457), with the older member `error`."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from tasker_core.wire.common import Answer, Moment

MEDIA_TYPE = "application/problem+json"


class FieldError(Answer):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer into the body, or the query's name.")
    message: str
    kind: str = Field(description="Which rule was broken.")


class ErrorMember(Answer):
    """The error as older clients read it."""

    code: str
    message: str
    retry_after_seconds: int | None = None


class Problem(Answer):
    """Why a request was not served. `code` and `status` are the contract, words may change."""

    model_config = ConfigDict(extra="allow", title="ApiError")

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = Field(None, description="The path of the request.")
    code: str
    request_id: str | None = None
    timestamp: Moment
    errors: list[FieldError] = Field([])
    retry_after_seconds: int | None = None
    error: ErrorMember

    def document(self) -> dict[str, Any]:
        """Give the JSON object that is sent: what does not apply is left out."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
