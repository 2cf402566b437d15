"""What an HTTP status and its headers mean for the step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

UNREADABLE_RETRY_AFTER = 60  # seconds, when the server asks for a rest but not for how long


class Failure(NamedTuple):
    """What a failed step is called, and whether it is tried again."""

    error_type: str
    retryable: bool
    phrase: str = "HTTP Error"


_KNOWN = {
    400: Failure("bad_request", False, "Bad Request"),
    401: Failure("unauthorized", False, "Unauthorized"),
    403: Failure("forbidden", False, "Forbidden"),
    404: Failure("not_found", False, "Not Found"),
    405: Failure("method_not_allowed", False, "Method Not Allowed"),
    408: Failure("request_timeout", True, "Request Timeout"),
    409: Failure("conflict", False, "Conflict"),
    410: Failure("gone", False, "Gone"),
    422: Failure("unprocessable_entity", False, "Unprocessable Entity"),
    425: Failure("client_error", True, "Too Early"),
    429: Failure("rate_limited", True, "Too Many Requests"),
    500: Failure("internal_server_error", True, "Internal Server Error"),
    501: Failure("server_error", False, "Not Implemented"),
    502: Failure("bad_gateway", True, "Bad Gateway"),
    503: Failure("service_unavailable", True, "Service Unavailable"),
    504: Failure("gateway_timeout", True, "Gateway Timeout"),
    505: Failure("server_error", False, "HTTP Version Not Supported"),
}


def classify_status(status: int) -> Failure:
    """Say what a status that is no success means.

    Every 5xx passes by itself but 501 and 505; of the 4xx only 408, 425 and 429.

    >>> classify_status(429).retryable, classify_status(404).retryable
    (True, False)
    """
    known = _KNOWN.get(status)
    if known is not None:
        return known
    if 400 <= status < 500:
        return Failure("client_error", False)
    if 500 <= status < 600:
        return Failure("server_error", True)
    return Failure("http_error", False)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Say how long the server wants to be left alone; None if it does not say.

    A date counts from the answer's own `date` header, so that neither clock needs to
    be right; without one, from now. What cannot be read counts as a minute.

    Args:
        headers: With lower-case names.

    >>> retry_after_seconds({"retry-after": "1.5"})
    1.5
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        moment = _moment(text)
        if moment is None:
            return float(UNREADABLE_RETRY_AFTER)
        answered = _moment(headers.get("date", "")) or datetime.now(UTC)
        seconds = (moment - answered).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else float(UNREADABLE_RETRY_AFTER)


def whole_retry_after(headers: Mapping[str, str]) -> int | None:
    """Give `retry-after` if it is a whole number of seconds, and a minute for anything else."""
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = re.fullmatch(r"\s*([+-]?\d{1,18})\s*", text)
    return max(0, int(seconds[1])) if seconds else UNREADABLE_RETRY_AFTER


_SECRET = re.compile(
    r"cookie|authorization|authentication-info|authenticate|token|secret|session|signature"
    r"|password|credential|api-?key|access-?key|csrf|xsrf|(^|-)jwt($|-)",
    re.IGNORECASE,
)
_ADDRESSES = frozenset({"location", "content-location", "link", "refresh"})


def safe_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Leave out headers that may carry a secret: what is stored can be read by many.

    Left out is every name that speaks of cookies, authorization, tokens, keys and the
    like; of addresses, the query is left out.

    >>> safe_headers({"set-cookie": "sid=1", "location": "/next?token=1", "etag": "x"})
    {'location': '/next', 'etag': 'x'}
    """
    return {
        name: without_query(value) if name.lower() in _ADDRESSES else value
        for name, value in headers.items()
        if _SECRET.search(name) is None
    }


def without_query(address: str) -> str:
    """Cut an address where its query begins, and leave out its user and password."""
    address = re.split(r"[?#]", address, maxsplit=1)[0]
    try:
        host = urlsplit(address).netloc
    except ValueError:
        return address
    user, at, plain = host.rpartition("@")
    return address.replace(f"{user}@", "", 1) if at and plain else address


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
