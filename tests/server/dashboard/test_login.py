"""The cookie: how it comes and goes, what it is good for, and what it is not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from support.credentials import bearer, token
from support.flows import CHAIN, begin_one, state, template
from tasker_core.engine.api_keys import create_api_key, revoke_api_key
from tasker_core.server.dashboard.login import COOKIE, local
from tasker_core.server.gate import FAILURES_PER_MINUTE

ALL = ("tasks:*", "steps:*", "dlq:*", "system:*", "templates:read")
ELSEWHERE = [
    "//evil.example",
    "https://evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "evil",
    "/a\nb",
    "",
]
HERE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def key(conn: Any) -> str:
    """An operator's key."""
    made, _ = await create_api_key(conn, "ada", permissions=ALL, actor="root")
    return made


@pytest.fixture
def stranger(guarded: httpx.AsyncClient) -> httpx.AsyncClient:
    """A browser on a page of a server that asks who calls."""
    guarded.headers.update(HERE)
    return guarded


async def log_in(client: httpx.AsyncClient, shown: str, **more: str) -> httpx.Response:
    return await client.post("/login", data={"credential": shown, **more})


async def test_a_stranger_is_led_to_the_login_and_back(
    stranger: httpx.AsyncClient, key: str
) -> None:
    """To the very page; programs, and parts of a page, are told in their own way."""
    led = await stranger.get("/tasks?tag=a%20b")
    assert led.status_code == 303
    assert led.headers["location"] == "/login?next=%2Ftasks%3Ftag%3Da%2Bb"
    asked = await stranger.get(led.headers["location"])
    assert 'name="next" value="/tasks?tag=a+b"' in asked.text
    assert 'href="/workers"' not in asked.text
    entered = await log_in(stranger, key, next="/tasks?tag=a+b")
    assert (entered.status_code, entered.headers["location"]) == (303, "/tasks?tag=a+b")
    shown = await stranger.get(entered.headers["location"])
    assert (shown.status_code, "Log out" in shown.text, ">ada<" in shown.text) == (200, True, True)

    stranger.cookies.clear()
    part = await stranger.get("/tasks", headers={"HX-Request": "true", "Accept": "*/*"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=%2Ftasks")
    program = await stranger.get("/tasks", headers={"Accept": "*/*"})
    assert (program.status_code, program.json()["code"]) == (401, "AUTHENTICATION_FAILED")


async def test_the_cookie_is_shut_to_programs_and_other_sites(
    stranger: httpx.AsyncClient, key: str
) -> None:
    """HttpOnly, SameSite=Strict, and Secure where the way is; it ends with the browser."""
    for scheme, more in [("http", set()), ("https", {"Secure"})]:
        reply = await stranger.post(f"{scheme}://tasker/login", data={"credential": key})
        attributes = reply.headers["set-cookie"].split("; ")[1:]
        assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=strict"} | more


async def test_a_token_does_as_well(stranger: httpx.AsyncClient) -> None:
    """With what it says."""
    await log_in(stranger, token("tasks:list", sub="eve"))
    text = (await stranger.get("/")).text
    assert (">eve<" in text, 'href="/tasks"' in text, 'href="/workers"' in text) == (
        True,
        True,
        False,
    )
    assert (await stranger.get("/workers")).status_code == 403


async def test_the_cookie_counts_for_pages_alone(
    stranger: httpx.AsyncClient, conn: Any, key: str
) -> None:
    """The API wants a header as ever; and a header goes before the cookie."""
    task = await begin_one(conn, template(CHAIN))
    await log_in(stranger, key)
    assert (await stranger.get(f"/tasks/{task}")).status_code == 200
    for path in (f"/v1/tasks/{task}", f"/v1/tasks/{task}/events", "/v1/whoami"):
        assert (await stranger.get(path)).status_code == 401
    assert (await stranger.delete(f"/v1/tasks/{task}")).status_code == 401
    weak = {**HERE, **bearer("dlq:read")}
    assert (await stranger.get(f"/tasks/{task}", headers=weak)).status_code == 403


async def test_no_other_site_can_press_a_button(
    stranger: httpx.AsyncClient, conn: Any, key: str
) -> None:
    """Even if a browser sent the cookie along; nor can it log somebody in or out."""
    task: UUID = await begin_one(conn, template(CHAIN))
    await log_in(stranger, key)
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    ):
        for path in (f"/tasks/{task}/cancel", "/logout", "/login"):
            form = {"reason": "r", "credential": key}
            reply = await stranger.post(path, data=form, headers=headers)
            assert (reply.status_code, "set-cookie" in reply.headers) == (403, False)
    assert await state(conn, task) == "steps_in_process"
    assert (await stranger.post(f"/tasks/{task}/cancel", data={"reason": "r"})).status_code == 303
    assert await state(conn, task) == "cancelled"


async def test_logging_out_takes_the_cookie_away(stranger: httpx.AsyncClient, key: str) -> None:
    """And so does a credential that holds no more."""
    await log_in(stranger, key)
    assert COOKIE in stranger.cookies
    assert (await stranger.post("/logout")).headers["location"] == "/login"
    assert COOKIE not in stranger.cookies
    assert (await stranger.get("/")).status_code == 303
    led = await stranger.get("/workers", headers={"Cookie": f"{COOKIE}=tk_000000000000_x"})
    assert led.headers["location"].startswith("/login")
    assert 'tasker_dashboard=""' in led.headers["set-cookie"]


async def test_what_is_not_valid_is_told_and_guessing_is_slowed_down(
    stranger: httpx.AsyncClient, conn: Any, key: str
) -> None:
    """No cookie is set; after as many as anywhere, none is looked at."""
    gone, made = await create_api_key(conn, "b", permissions=ALL, actor="root")
    await revoke_api_key(conn, made.key_id, actor="root")
    for shown, told in [
        (gone, "revoked"),
        ("nonsense", "not known"),
        ("a.b.c", "not a token"),
        ("", "not known"),
        ("é.\x00.é", "not a token"),
        ("\x00\u202e", "not known"),
        ("x" * 4000, "3,800 characters"),
    ]:
        reply = await log_in(stranger, shown)
        assert (reply.status_code, "set-cookie" in reply.headers) == (401, False), shown
        assert told in reply.text
        assert len(shown) < 3 or shown not in reply.text
    with capture_logs() as logs:
        for number in range(FAILURES_PER_MINUTE):
            await log_in(stranger, f"guess {number}")
        reply = await log_in(stranger, key)
    assert (reply.status_code, "retry-after" in reply.headers) == (429, True)
    assert "guess" not in str([one for one in logs if one.get("event") == "refused"])


async def test_the_way_back_leads_nowhere_else(stranger: httpx.AsyncClient, key: str) -> None:
    """Only to a path of this server."""
    for target in ELSEWHERE:
        assert local(target) == ""
        assert (await log_in(stranger, key, next=target)).headers["location"] == "/", target


async def test_where_nobody_is_asked_there_is_no_login(api: httpx.AsyncClient) -> None:
    """It leads to the overview."""
    assert (await api.get("/login")).headers["location"] == "/"
