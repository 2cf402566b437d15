"""Every page, with what it may meet: all states, hostile words, filters, errors, another path."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from support.flows import CHAIN, DIAMOND, Worker, begin, begin_one, template
from support.replies import refused
from tasker_core.engine.dlq import add_entry
from tasker_core.fastapi import Tasker
from tasker_core.server.app import create_app
from tasker_core.server.dashboard.files import FILES
from tasker_core.settings import Settings

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}&amp;"
BELOW = "/deep/v1/down"


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def links(self) -> Iterator[str]:
        """Every address that the page names."""
        for tag, attributes in self.found:
            for name in ("href", "src", "action", "hx-get", "data-events"):
                value = attributes.get(name)
                if value and not value.startswith("#") and tag != "body":
                    yield value


def holds_policy(reply: httpx.Response) -> None:
    """No script but files of ours, nothing inline, nothing from elsewhere."""
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag, attributes in Tags(reply.text).found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag not in ("style", "img") or attributes.get("src", "").endswith(_icon()), (
            attributes
        )
        if tag == "script":
            assert re.fullmatch(r"\S*/static/[\w.]+\?v=\w+", attributes["src"] or "")


def _icon() -> str:
    from tasker_core.server.dashboard.files import addresses

    return addresses()["icon.svg"]


async def crawl(client: httpx.AsyncClient, start: str, base: str = "") -> dict[str, httpx.Response]:
    """Follow every link from a page on; streams and forms are not followed."""
    seen: dict[str, httpx.Response] = {}
    todo = [start]
    while todo:
        address = todo.pop()
        if address in seen or address.endswith("/events") or f"{base}/events?" in address:
            continue
        assert address.startswith(f"{base}/"), address
        seen[address] = reply = await client.get(address)
        assert reply.status_code == 200, (address, reply.text[:500])
        if reply.headers["content-type"].startswith("text/html"):
            holds_policy(reply)
            forms = {a["action"] for t, a in Tags(reply.text).found if t == "form"}
            todo += set(Tags(reply.text).links()) - forms
    return seen


async def test_every_page_shows_tasks_of_every_state(
    browser: httpx.AsyncClient, tasks: dict[str, UUID]
) -> None:
    """From the overview on, every link leads to a page that says what there is."""
    found = await crawl(browser, "/")
    for state, task in tasks.items():
        assert f"t_{state}" in found[f"/tasks/{task}"].text
    for path in ("/tasks", "/dlq", "/templates", "/workers", "/templates/shop/t_complete/1.0.0"):
        assert path in found
    assert sum("/steps/" in path for path in found) >= len(tasks)
    assert sum(path.startswith("/static/") for path in found) == len(FILES)
    overview = found["/"].text
    assert all(word in overview for word in ("Needs a person", "t_blocked_by_failures", "starved"))
    blocked = found[f"/tasks/{tasks['blocked_by_failures']}"].text
    assert "failed for good" in blocked
    assert "Retry…" in blocked
    assert "<svg" in blocked
    assert "timeline" in blocked


async def test_hostile_words_stay_words(
    browser: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """In every field that somebody fills, and on every page that shows it."""
    flow = template(CHAIN, callables={"a": "<script>alert(1)</script>"}, description=HOSTILE)
    words = dict.fromkeys(("initiator", "source_system", "reason"), HOSTILE)
    task = await begin_one(
        conn, flow, context={HOSTILE: [HOSTILE]}, tags=[HOSTILE], **words, priority=1
    )
    await worker.succeed(await worker.claim_one(), result={HOSTILE: HOSTILE})
    from support.flows import failed

    await worker.finish(failed(await worker.claim_one(), retryable=False, message=HOSTILE))
    entry = await add_entry(conn, task, actor=HOSTILE, reason=HOSTILE, metadata={HOSTILE: HOSTILE})
    form = {"resolution_notes": HOSTILE, "resolution_status": "cancelled", "actor": HOSTILE}
    assert (await browser.post(f"/dlq/{entry}", data=form)).status_code == 303

    for address, reply in (await crawl(browser, "/")).items():
        if reply.headers["content-type"].startswith("text/html"):
            assert "<script>alert" not in reply.text, address
            assert "<img src=x" not in reply.text, address
    for name in ("namespace", "name", "tag", "context", "correlation_id", "status", "cursor"):
        reply = await browser.get("/tasks", params={name: HOSTILE})
        assert reply.status_code in (200, 422)
        holds_policy(reply)


async def test_a_filter_is_the_address_and_pages_follow_each_other(
    browser: httpx.AsyncClient, conn: Any
) -> None:
    """Empty fields say nothing, a path of the context finds, the next page keeps the filter."""
    await begin(conn, template(), 70, tags=["web"], context={"order": {"id": 7}})
    await begin(conn, template(name="other"), tags=["web", "late"])
    every = "status=&namespace=&name=&tag=web&context=&version=&correlation_id=&created_after="
    first = await browser.get(f"/tasks?{every}")
    (following,) = [a["href"] for _, a in Tags(first.text).found if a.get("rel") == "next"]
    assert following is not None
    second = await browser.get(following)

    def listed(reply: httpx.Response) -> list[str]:
        return re.findall(r'<a href="/tasks/([0-9a-f-]{36})">', reply.text)

    assert (len(listed(first)), len(listed(second))) == (50, 21)
    assert not set(listed(first)) & set(listed(second))
    assert 'value="web"' in second.text
    assert "hx-get" in first.text
    assert "hx-get" not in second.text  # an older page does not move
    assert len(listed(await browser.get("/tasks?tag=web,late"))) == 1
    assert len(listed(await browser.get("/tasks?context=order.id%20%3D%207&name=other"))) == 0
    assert len(listed(await browser.get("/tasks?context=order.id=7"))) == 50


async def test_a_wrong_filter_is_told_beside_its_field(browser: httpx.AsyncClient) -> None:
    """And nothing is looked for."""
    for query, told in [
        ("status=nope", "no state of a task"),
        ("correlation_id=7", "valid UUID"),
        ("context=%7B", "is not JSON"),
        ("created_after=yesterday", "valid datetime"),
        ("cursor=abc", "cursor is not one"),
    ]:
        reply = await browser.get(f"/tasks?{query}")
        assert (reply.status_code, told in reply.text) == (422, True), query


async def test_errors_are_pages_for_browsers_and_problems_for_programs(
    api: httpx.AsyncClient, tasks: dict[str, UUID]
) -> None:
    """What there is not, and what makes no sense."""
    unknown = "01a20be2-6b91-7818-bec8-e18f00400000"
    page = {"Accept": "text/html"}
    for path, status in [
        (f"/tasks/{unknown}", 404),
        (f"/tasks/{tasks['complete']}/steps/{unknown}", 404),
        (f"/dlq/{unknown}", 404),
        ("/templates/shop/nothing/1.0.0", 404),
        ("/tasks/x", 400),
    ]:
        reply = await api.get(path, headers=page)
        assert (reply.status_code, reply.headers["content-type"]) == (
            status,
            "text/html; charset=utf-8",
        )
        holds_policy(reply)
        refused(await api.get(path), status, {404: "NOT_FOUND", 400: "INVALID_UUID"}[status])


async def test_a_large_task_is_shown_in_bounds(
    browser: httpx.AsyncClient, conn: Any, worker: Worker
) -> None:
    """Steps that are alike are one box; the others are told by their number."""
    graph = {"root": [], **{f"leaf_{n}": ["root"] for n in range(600)}}
    task = await begin_one(conn, template(graph))
    await worker.succeed(await worker.claim_one())
    text = (await browser.get(f"/tasks/{task}")).text
    assert text.count('class="box') == 2
    assert "600 steps, 0 complete" in text
    assert "The first 500 of 601 steps" in text


async def test_files_are_kept_by_the_browser_while_they_are_named_by_content(
    browser: httpx.AsyncClient,
) -> None:
    """Another version has another address."""
    page = (await browser.get("/")).text
    (address,) = re.findall(r'href="(/static/dashboard.css[^"]+)"', page)
    assert "immutable" in (await browser.get(address)).headers["cache-control"]
    assert (await browser.get("/static/dashboard.css")).headers["cache-control"] == "no-cache"
    assert (await browser.get("/static/../app.py")).status_code == 404
    assert (await browser.get("/")).headers["cache-control"] == "no-store"


async def test_the_pages_can_be_left_out(settings: Settings) -> None:
    """Then `/` leads to the description of the API, as there is nothing else to see."""
    app = create_app(settings.model_copy(update={"dashboard": False}))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tasker") as client:
        assert (await client.get("/")).headers["location"] == "/api-docs/ui"
        for path in ("/tasks", "/login", "/static/dashboard.css"):
            refused(await client.get(path), 404, "NOT_FOUND")


# --- below an application's own path ------------------------------------------------------


@pytest.fixture
async def embedded(clean_database: str) -> AsyncIterator[httpx.AsyncClient]:
    """An application that has the pages below a path of its own, for whom its cookie names."""

    def who(request: Request) -> str:
        if "user" not in request.cookies:
            raise HTTPException(401, "who are you?")
        return request.cookies["user"]

    tasker = Tasker(config={"database_url": clean_database, "sweep_seconds": 3600})
    app = FastAPI(lifespan=tasker.lifespan)
    app.include_router(tasker.router(authenticate=who, dashboard=True), prefix=BELOW)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        client.headers["Accept"] = "text/html"
        yield client


async def test_pages_stand_below_an_applications_own_path(
    embedded: httpx.AsyncClient, conn: Any
) -> None:
    """Every link stays below it, and its own authentication decides who comes in, and who acts."""
    task = await begin_one(conn, template(DIAMOND))
    assert (await embedded.get(f"{BELOW}/")).json() == {"detail": "who are you?"}
    embedded.cookies["user"] = "ada"
    found = await crawl(embedded, f"{BELOW}/", BELOW)
    assert f"{BELOW}/tasks/{task}" in found
    assert not [path for path in found if "/login" in path]
    assert (await embedded.get(f"{BELOW}/tasks/x")).status_code == 400

    cancel, form = f"{BELOW}/tasks/{task}/cancel", {"reason": "r", "actor": "mallory"}
    assert (await embedded.post(cancel, data=form)).status_code == 403
    evil = {"Origin": "http://evil.example"}
    assert (await embedded.post(cancel, data=form, headers=evil)).status_code == 403
    done = await embedded.post(cancel, data=form, headers={"Origin": "http://app"})
    assert (done.status_code, done.headers["location"]) == (303, f"{BELOW}/tasks/{task}")
    assert "by <b>ada</b>" in (await embedded.get(done.headers["location"])).text


async def test_the_guides_application_has_the_pages(
    clean_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in docs/guides/use-the-dashboard.md, for those whom its cookie names."""
    monkeypatch.setenv("TASKER_DATABASE_URL", clean_database)
    guide = Path(__file__).parents[3] / "docs" / "guides" / "use-the-dashboard.md"
    (code,) = re.findall(
        r"^```python\n(.*?)^```", guide.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    found: dict[str, Any] = {}
    exec(compile(code, str(guide), "exec"), found)
    transport = httpx.ASGITransport(found["app"])
    async with (
        found["app"].router.lifespan_context(found["app"]),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        assert (await client.get("/tasker/")).status_code == 401
        client.cookies["session"] = "ada"
        page = await client.get("/tasker/")
        assert (page.status_code, ">ada<" in page.text) == (200, True)
        assert (await client.get("/tasker/v1/tasks")).status_code == 200
