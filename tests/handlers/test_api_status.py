"""What an HTTP status and its headers mean for the step."""

from __future__ import annotations

import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.handlers.api import ApiResponse
from tasker_core.handlers.api.status import (
    classify_status,
    retry_after_seconds,
    safe_headers,
    whole_retry_after,
    without_query,
)
from tasker_core.handlers.result import result_from_exception

TABLE = {
    400: ("bad_request", False),
    401: ("unauthorized", False),
    403: ("forbidden", False),
    404: ("not_found", False),
    405: ("method_not_allowed", False),
    408: ("request_timeout", True),
    409: ("conflict", False),
    410: ("gone", False),
    418: ("client_error", False),
    422: ("unprocessable_entity", False),
    425: ("client_error", True),
    429: ("rate_limited", True),
    500: ("internal_server_error", True),
    501: ("server_error", False),
    502: ("bad_gateway", True),
    503: ("service_unavailable", True),
    504: ("gateway_timeout", True),
    505: ("server_error", False),
    507: ("server_error", True),
    599: ("server_error", True),
    302: ("http_error", False),
}


@pytest.mark.parametrize("status", TABLE)
def test_each_status_has_a_type_and_a_verdict(status: int):
    """Answers, results and httpx's own exception agree."""
    expected = TABLE[status]
    failure = classify_status(status)

    assert (failure.error_type, failure.retryable) == expected
    assert ApiResponse(httpx.Response(status)).is_retryable is expected[1]


@pytest.mark.parametrize("status", [404, 429, 503])
def test_raise_for_status_is_read_by_the_status(status: int):
    """`raw_response.raise_for_status()` fails as `api_failure` does, and keeps no query."""
    request = httpx.Request("GET", "https://user:pw@api.example.com/users?api_key=s3cret")
    response = httpx.Response(status, request=request, headers={"retry-after": "9"})
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()

    result = result_from_exception(raised.value)

    assert (result.error_type, result.retryable) == TABLE[status]
    assert (result.retry_after_seconds, result.metadata["status_code"]) == (9.0, status)
    assert "s3cret" not in repr(result)
    assert "pw@" not in repr(result)
    assert "api.example.com/users" in (result.error_message or "")


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "whole", "exact"),
    [
        ({}, None, None),
        ({"retry-after": "120"}, 120, 120.0),
        ({"retry-after": "-5"}, 0, 0.0),
        ({"retry-after": "1.5"}, 60, 1.5),
        ({"retry-after": "soon"}, 60, 60.0),
        ({"retry-after": "inf"}, 60, 60.0),
        ({"retry-after": ""}, 60, 60.0),
        ({"retry-after": DATE, "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 60, 30.0),
        ({"retry-after": DATE, "date": "Wed, 21 Oct 2026 08:00:00 GMT"}, 60, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 60, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], whole: int | None, exact: float | None):
    """Seconds as they are, dates against the answer's own, and a minute for the rest."""
    response = ApiResponse(httpx.Response(503, headers=headers))

    assert response.retry_after == whole_retry_after(headers) == whole
    assert response.retry_after_seconds == exact


@given(st.text())
def test_whatever_the_header_says_the_rest_is_usable(text: str):
    """Never negative, never infinite, never an error."""
    seconds = retry_after_seconds({"retry-after": text})

    assert seconds is not None
    assert math.isfinite(seconds)
    assert seconds >= 0
    assert (whole_retry_after({"retry-after": text}) or 0) >= 0


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_headers_are_only_ever_left_out(headers: dict[str, str]):
    """What stays is a part of what was there."""
    kept = safe_headers(headers)

    assert kept.keys() <= headers.keys()
    assert not any("cookie" in name.lower() for name in kept)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://a.example/x?sig=1#f", "https://a.example/x"),
        ("https://u:p@a.example/x", "https://a.example/x"),
        ("/relative?a=1", "/relative"),
        ("http://[broken", "http://[broken"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str):
    """Query, fragment, user and password are left out."""
    assert without_query(address) == shown
