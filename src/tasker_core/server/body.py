"""Bytes → a checked request."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from tasker_core.server.backend import backend_of
from tasker_core.server.problems import Refusal, fields_of

T = TypeVar("T")

SLACK_BYTES = 64 * 1024  # for everything in a request that is not the context


async def read_request(
    request: Request, shape: TypeAdapter[T], *, tagged: bool = False, optional: bool = False
) -> T:
    """Read the body of a request as this shape.

    Args:
        request: The request.
        shape: What it must be.
        tagged: The shape is a union with a tag, which is no part of a pointer.
        optional: No body at all counts as an empty object.

    Raises:
        Refusal: It is not JSON, too large, or of another shape.
    """
    content = await read_bytes(request)
    if optional and not content:
        return shape.validate_python({})
    _check_content_type(request)
    try:
        # not orjson: it rounds integers of more than 64 bits, which must be refused instead
        document = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        if "recursion limit" in str(error):
            raise Refusal(422, "VALIDATION_ERROR", "the body is nested too deep") from None
        raise Refusal(400, "JSON_ERROR", f"the body is not JSON: {error}") from None
    try:
        return shape.validate_python(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = fields_of(found, skip=1 if tagged and found[0]["loc"] else 0)
        told = "; ".join(f"{one.pointer or 'the body'}: {one.message}" for one in wrong)
        raise Refusal(422, "VALIDATION_ERROR", f"the request is wrong: {told}", wrong) from None


def body_limit(request: Request) -> int:
    """Say how many bytes a body may have."""
    return backend_of(request).settings.max_context_bytes + SLACK_BYTES


async def read_bytes(request: Request) -> bytes:
    """Read the body of a request, whatever it is.

    Raises:
        Refusal: It is too large.
    """
    limit = body_limit(request)
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise _too_large(limit)
    return bytes(content)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("Content-Type", "")
    media_type = given.split(";", 1)[0].strip().lower()
    if media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        return
    shown = f"is {given}" if given else "is missing"
    raise Refusal(
        415, "UNSUPPORTED_MEDIA_TYPE", f"Content-Type {shown}, but must be application/json"
    )


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "PAYLOAD_TOO_LARGE", f"the body may have {limit:,} bytes at most")
