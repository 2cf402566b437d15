"""Handlers that call HTTP APIs: requests, answers, connections."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from unittest.mock import MagicMock

import httpx
import pytest

from tasker_core.handlers.api import ApiHandler, APIMixin, ApiResponse, connections
from tasker_core.handlers.api.connections import _proxies, aclose_connections, close_connections
from tasker_core.handlers.api.mixin import MAX_STORED_BODY
from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.result import StepHandlerResult, result_from_exception


class Users(ApiHandler):
    handler_name = "users"
    base_url = "https://api.example.com/v1"
    default_timeout = 7.0
    default_headers: ClassVar[dict[str, str]] = {"x-team": "shop"}

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success()


def answering(respond: Callable[[httpx.Request], httpx.Response]) -> Users:
    """Make a handler whose client asks `respond`."""
    handler = Users()
    transport = httpx.MockTransport(respond)
    handler._client = httpx.Client(
        base_url=handler.base_url, headers=handler.default_headers, transport=transport
    )
    handler._async_client = httpx.AsyncClient(
        base_url=handler.base_url, headers=handler.default_headers, transport=transport
    )
    return handler


def answer(status: int, **content: Any) -> ApiResponse:
    return ApiResponse(httpx.Response(status, **content))


def echo(request: httpx.Request) -> httpx.Response:
    return httpx.Response(
        200,
        json={
            "method": request.method,
            "url": str(request.url),
            "team": request.headers.get("x-team"),
            "extra": request.headers.get("x-extra"),
            "body": request.content.decode(),
        },
    )


# --- requests -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_bodies_are_sent_as_json_or_as_a_form(method: str):
    """`json` and `data` are what httpx makes of them; headers are sent besides the default."""
    send = getattr(answering(echo), method)

    as_json = send("/users", json={"a": 1}, headers={"x-extra": "yes"})
    as_form = send("/users", data={"a": "1"})

    assert as_json["method"] == method.upper()
    assert json.loads(as_json["body"]) == {"a": 1}
    assert (as_json["team"], as_json["extra"]) == ("shop", "yes")
    assert as_form["body"] == "a=1"


@pytest.mark.parametrize("method", ["get", "delete"])
def test_queries_are_sent(method: str):
    """`params` become the query, for both methods that have no body."""
    response = getattr(answering(echo), method)(
        "/users", params={"id": 3}, headers={"x-extra": "y"}
    )

    assert response["url"] == "https://api.example.com/v1/users?id=3"
    assert (response["method"], response["extra"]) == (method.upper(), "y")


def test_any_method_can_be_sent():
    """`request` takes the method's name and whatever httpx takes."""
    response = answering(echo).request("OPTIONS", "/users", content=b"raw")

    assert (response["method"], response["body"]) == ("OPTIONS", "raw")


async def test_async_verbs_send_the_same():
    """Each verb has an async twin."""
    handler = answering(echo)
    answers = [
        await handler.aget("/u", params={"id": 1}),
        await handler.apost("/u", json={"a": 1}),
        await handler.aput("/u", data={"a": "1"}),
        await handler.apatch("/u", json={}),
        await handler.adelete("/u", params={"id": 2}),
        await handler.arequest("OPTIONS", "/u"),
    ]

    assert [a["method"] for a in answers] == ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    assert answers[0]["url"].endswith("/u?id=1")
    assert answers[1]["body"] == '{"a":1}'
    assert answers[4]["url"].endswith("/u?id=2")


def test_redirects_are_not_followed():
    """A 302 is an answer like any other."""
    handler = answering(lambda _: httpx.Response(302, headers={"location": "/elsewhere?sig=1"}))

    response = handler.get("/users")
    failure = handler.api_failure(response)

    assert response.status_code == 302
    assert (failure.error_type, failure.retryable) == ("http_error", False)
    assert failure.metadata["headers"]["location"] == "/elsewhere"


def test_transport_errors_pass_through_and_are_retried():
    """What httpx raises is the author's to convert; left alone, the step is tried again."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError) as raised:
        answering(refuse).get("/users")

    assert result_from_exception(raised.value).retryable


# --- the mixin ------------------------------------------------------------------------


def test_both_orders_of_the_bases_work():
    """The mixin may stand before or after `StepHandler`."""

    class Before(APIMixin, StepHandler):
        def call(self, context: StepContext) -> StepHandlerResult:
            return self.success()

    class After(StepHandler, APIMixin):
        def call(self, context: StepContext) -> StepHandlerResult:
            return self.success()

    for handler in (Before(), After(), Users()):
        assert handler.capabilities == ["process", "http", "api"]
        assert handler.api_capabilities == ["http", "api"]


def test_a_subclass_may_have_a_constructor_of_its_own():
    """Without `super().__init__()`, client, close and garbage collection still work."""

    class Own(ApiHandler):
        def __init__(self) -> None:
            self.own = 1

        def call(self, context: StepContext) -> StepHandlerResult:
            return self.success()

    handler = Own()
    assert handler._client is None
    handler.close()
    assert isinstance(handler.client, httpx.Client)
    del handler
    gc.collect()


def test_closing_is_idempotent_and_the_next_request_opens_anew():
    """`close` closes the client that was made or injected, once."""
    handler = answering(echo)
    injected = handler.client
    handler.close()
    handler.close()

    assert injected.is_closed
    assert handler._client is None
    assert not handler.client.is_closed


async def test_async_closing_closes_both_clients():
    """`aclose` may be called twice, too."""
    handler = answering(echo)
    sync_client, async_client = handler.client, handler.async_client
    await handler.aclose()
    await handler.aclose()

    assert (sync_client.is_closed, async_client.is_closed) == (True, True)


def test_the_client_is_what_the_class_says():
    """Base address, time-out and headers come from the class attributes."""
    client = Users().client

    assert str(client.base_url) == "https://api.example.com/v1/"
    assert client.timeout == httpx.Timeout(7.0)
    assert client.headers["x-team"] == "shop"
    assert client.follow_redirects is False


# --- answers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "text", "body"),
    [
        ("application/json; charset=utf-8", '{"a": 1}', {"a": 1}),
        ("application/problem+json", '{"a": 1}', {"a": 1}),
        ("application/json", "not json", "not json"),
        ("text/plain", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_bodies_are_read_by_their_content_type(content_type: str, text: str, body: Any):
    """JSON becomes values, everything else and broken JSON text."""
    response = answer(200, content=text.encode(), headers={"content-type": content_type})

    assert response.body == body
    assert response.text == text


def test_answers_can_be_looked_into():
    """`response["key"]`, `json()` and `text` do what one expects."""
    response = answer(200, json={"a": [1, 2]})

    assert response["a"] == [1, 2]
    assert response.json() == {"a": [1, 2]}
    assert answer(200, json=[7])[0] == 7
    assert answer(200, text="[1]").json() == [1]
    with pytest.raises(TypeError, match=r"body is str.*status 200"):
        answer(200, text="plain")["a"]
    with pytest.raises(KeyError):
        response["b"]


def test_a_given_body_wins():
    """Tests may say what the body is."""
    assert ApiResponse(httpx.Response(200, json={"a": 1}), body={"b": 2}).body == {"b": 2}


@pytest.mark.parametrize("status", [200, 204, 299, 302, 404, 499, 500, 599])
def test_a_status_is_one_thing(status: int):
    """Success, the client's fault, the server's fault, or something else."""
    response = answer(status)

    assert response.ok is (status < 300)
    assert response.is_client_error is (400 <= status < 500)
    assert response.is_server_error is (status >= 500)


def test_stored_answers_have_no_secrets():
    """`to_dict` and the metadata leave out what must not be stored; `headers` has it all."""
    secrets = {
        "Set-Cookie": "sid=s3cret",
        "Authorization": "Bearer s3cret",
        "Proxy-Authorization": "s3cret",
        "X-Auth-Token": "s3cret",
        "X-Api-Key": "s3cret",
        "X-Amz-Security-Token": "s3cret",
        "WWW-Authenticate": "s3cret",
    }
    response = answer(500, headers={**secrets, "X-Request-Id": "r1"}, json={"error": "down"})
    handler = Users()
    stored = [
        response.to_dict(),
        handler.api_success(response).metadata,
        handler.api_failure(response).metadata,
    ]

    assert response.headers["set-cookie"] == "sid=s3cret"
    for document in stored:
        assert "s3cret" not in repr(document)
        assert document["headers"]["x-request-id"] == "r1"


# --- results --------------------------------------------------------------------------


def test_a_body_becomes_the_result():
    """JSON objects as they are, anything else under `data`; metadata only if wanted."""
    handler = Users()
    with_facts = handler.api_success(answer(200, json={"id": 1}))

    assert with_facts.result == {"id": 1}
    assert with_facts.metadata["status_code"] == 200
    assert handler.api_success(answer(200, json=[1])).result == {"data": [1]}
    assert handler.api_success(answer(204)).result == {"data": ""}
    bare = handler.api_success(answer(200, json={"id": 1}), include_response=False)
    assert bare.metadata == {}


def test_a_result_may_be_given_instead():
    """With an answer or without one."""
    handler = Users()

    assert handler.api_success(result={"a": 1}).result == {"a": 1}
    mixed = handler.api_success(answer(201, json={"b": 2}), result={"a": 1})
    assert (mixed.result, mixed.metadata["status_code"]) == ({"a": 1}, 201)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "no such user"}, "HTTP 404: no such user"),
        ({"error": {"message": "nested"}}, "HTTP 404: nested"),
        ({"detail": "what", "msg": "other"}, "HTTP 404: what"),
        ({"error": 7, "msg": "last"}, "HTTP 404: last"),
        ({"other": "x"}, "HTTP 404: Not Found"),
        ("text", "HTTP 404: Not Found"),
    ],
)
def test_a_failure_says_what_the_answer_says(body: Any, message: str):
    """The first usable detail, else the status's own words."""
    assert Users().api_failure(answer(404, json=body)).error_message == message


def test_a_failure_keeps_the_answer():
    """Status, headers, rest and body; the message may be given."""
    response = answer(429, json={"error": "slow"}, headers={"retry-after": "7"})

    failure = Users().api_failure(response, "too many calls")

    assert (failure.error_message, failure.error_type) == ("too many calls", "rate_limited")
    assert failure.metadata["response_body"] == {"error": "slow"}
    assert failure.retry_after_seconds == 7.0
    assert "response_body" not in Users().api_failure(answer(500)).metadata


def test_long_bodies_are_cut():
    """A failed answer of a megabyte does not go into the database."""
    text = Users().api_failure(answer(500, text="x" * 1_000_000))
    document = Users().api_failure(answer(500, json={"x": "y" * 1_000_000}))

    for failure in (text, document):
        assert len(failure.metadata["response_body"]) < MAX_STORED_BODY + 10


def test_any_text_can_be_stored():
    """A body with a NUL character does not cost the other facts."""
    failure = Users().api_failure(answer(500, text="a\x00b"))

    assert failure.metadata["response_body"] == "a\\x00b"


def test_stand_ins_for_answers_are_understood():
    """A mock with the documented attributes is as good as an answer."""
    response = MagicMock(status_code=503, body={"error": "down"}, headers={}, retry_after=None)

    failure = Users().api_failure(response)

    assert (failure.error_message, failure.retryable) == ("HTTP 503: down", True)
    assert Users().api_success(MagicMock(status_code=200, body={"a": 1}, headers={})).result == {
        "a": 1
    }


@pytest.mark.parametrize(
    ("context", "tail"), [(None, ": slow"), ("fetching users", " while fetching users: slow")]
)
def test_no_answer_is_a_result_too(context: str | None, tail: str):
    """Connection errors and time-outs are retried, and say what was going on."""
    error = httpx.ReadTimeout("slow")

    connection = Users().connection_error(error, context)
    timeout = Users().timeout_error(error, context)

    assert connection.error_message == "Connection error" + tail
    assert timeout.error_message == "Request timeout" + tail
    assert (connection.error_type, timeout.error_type) == ("connection_error", "timeout")
    assert connection.retryable
    assert timeout.retryable
    assert timeout.metadata == {"exception_type": "ReadTimeout"}


# --- real connections -----------------------------------------------------------------


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[Any]] = set()
    cookies: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        self.cookies.append(self.headers.get("cookie"))
        body = b'{"ok": true}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "sid=1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a small HTTP server; its counters begin at zero."""
    monkeypatch.setenv("NO_PROXY", "*")
    close_connections()
    _Server.connections.clear()
    _Server.cookies.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    close_connections()
    server.shutdown()
    thread.join()
    server.server_close()


def test_handlers_share_connections_but_not_cookies(address: str):
    """Each attempt has a new handler; they use one connection, and no cookie leaks over."""
    for _ in range(3):
        handler = Users()
        handler.base_url = address
        assert handler.get("/a")["ok"] is True
        handler.get("/b")
        handler.close()

    assert len(_Server.connections) == 1
    assert _Server.cookies == [None, "sid=1"] * 3


async def test_async_handlers_share_the_loops_connections(address: str):
    """Likewise in async code; what belongs to the loop is closed with it."""
    for _ in range(3):
        handler = Users()
        handler.base_url = address
        assert (await handler.aget("/a"))["ok"] is True
        await handler.aclose()
    await aclose_connections()
    await aclose_connections()

    assert len(_Server.connections) == 1


def test_every_loop_has_connections_of_its_own(address: str):
    """A handler that outlives its loop makes a client for the next one."""
    handler = Users()
    handler.base_url = address

    async def fetch() -> bool:
        response = await handler.aget("/a")
        await aclose_connections()
        return bool(response["ok"])

    assert asyncio.run(fetch())
    assert asyncio.run(fetch())


@pytest.mark.parametrize(
    ("variables", "patterns"),
    [
        ({}, {}),
        ({"HTTP_PROXY": "proxy:1"}, {"http://": "http://proxy:1"}),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "*"}, {}),
        (
            {"HTTPS_PROXY": "http://p", "NO_PROXY": "localhost, .corp, 10.0.0.1, ::1"},
            {
                "https://": "http://p",
                "all://localhost": None,
                "all://*.corp": None,
                "all://10.0.0.1": None,
                "all://[::1]": None,
            },
        ),
    ],
)
def test_proxies_are_read_from_the_environment(
    variables: dict[str, str], patterns: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """As httpx reads them for its own clients."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert _proxies() == patterns


def test_a_forked_child_opens_connections_of_its_own():
    """The sockets that it finds are its parent's."""
    Users().client.close()
    parents = connections._of_threads
    connections._forget()

    assert connections._of_threads is None
    assert str(Users().client.base_url) == "https://api.example.com/v1/"
    assert connections._of_threads is not parents
    close_connections()
    for pool in parents.all() if parents else ():
        pool.inner.close()
