"""What an operator may press: it does what the API does, and says who did it and why."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from support.credentials import bearer
from support.flows import CHAIN, Worker, begin_one, state, states, step_id, template
from tasker_core.engine.inspect import get_step, list_transitions
from tasker_core.server.permissions import ROUTES, WILDCARDS

ADA = {"reason": "the bank is back", "actor": "ada"}


@pytest.fixture
async def failed(conn: Any, worker: Worker) -> UUID:
    """A task of three steps whose first one has failed for good."""
    task = await begin_one(conn, template(CHAIN, retry={"max_attempts": 1}))
    await worker.fail(await worker.claim_one(), retryable=False)
    return task


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("cancel", "cancelled"),
        ("retry", "steps_in_process"),
        ("resolve", "resolved_manually"),
    ],
)
async def test_a_task_is_cancelled_retried_resolved(
    browser: httpx.AsyncClient, conn: Any, failed: UUID, what: str, expected: str
) -> None:
    """And the history says who and why."""
    reply = await browser.post(f"/tasks/{failed}/{what}", data=ADA)
    assert (reply.status_code, reply.headers["location"]) == (303, f"/tasks/{failed}")
    assert await state(conn, failed) == expected
    told = {(one.actor, one.reason) for one in await list_transitions(conn, failed)}
    assert ("ada", "the bank is back") in told


@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("reset_for_retry", {}, "enqueued"),
        ("resolve_manually", {}, "resolved_manually"),
        ("complete_manually", {"result": '{"id": 7}'}, "complete"),
    ],
)
async def test_a_step_is_reset_resolved_completed(
    browser: httpx.AsyncClient, conn: Any, failed: UUID, action: str, more: Any, expected: str
) -> None:
    """With a result that is JSON."""
    step = await step_id(conn, failed, "a")
    address = f"/tasks/{failed}/steps/{step}"
    reply = await browser.post(address, data={**ADA, **more, "action_type": action})
    assert (reply.status_code, reply.headers["location"]) == (303, address)
    assert (await states(conn, failed))["a"] == expected
    if more:
        assert (await get_step(conn, failed, 1)).result == {"id": 7}
    assert "ada" in (await browser.get(address)).text


async def test_what_cannot_be_done_is_told_in_the_apis_words(
    browser: httpx.AsyncClient, conn: Any, failed: UUID
) -> None:
    """A reason that is missing, a result that is no JSON, a task that has ended or is unknown."""
    step = f"/tasks/{failed}/steps/{await step_id(conn, failed, 'a')}"
    unknown = "/tasks/01a20be2-6b91-7818-bec8-e18f00400000/cancel"
    complete = {**ADA, "action_type": "complete_manually"}
    for path, form, status, told in [
        (f"/tasks/{failed}/cancel", {"reason": ""}, 422, "reason"),
        (f"/tasks/{failed}/cancel", {"reason": "x" * 501}, 422, "at most 500"),
        (step, {**complete, "result": "{"}, 422, "the result is not JSON"),
        (step, {**complete, "result": "NaN"}, 400, "not JSON"),
        (step, {**ADA, "action_type": "explode"}, 422, "action_type"),
        (step, ADA, 422, "action_type"),
        (unknown, ADA, 404, "there is no task"),
    ]:
        reply = await browser.post(path, data=form)
        assert reply.status_code == status, reply.text
        assert told in reply.text.replace("&#39;", "'")
    assert await state(conn, failed) == "blocked_by_failures"
    await browser.post(f"/tasks/{failed}/cancel", data=ADA)
    reply = await browser.post(f"/tasks/{failed}/retry", data=ADA)
    assert (reply.status_code, "cancelled" in reply.text) == (409, True)
    assert (await browser.post(step, json={})).status_code == 415


async def test_a_dead_letter_is_made_resolved_and_reopened(
    browser: httpx.AsyncClient, failed: UUID
) -> None:
    """And the task is not changed by it."""
    made = await browser.post(f"/tasks/{failed}/dlq", data=ADA)
    address = made.headers["location"]
    assert "Put aside…" not in (await browser.get(f"/tasks/{failed}")).text
    notes = {"resolution_notes": "paid by hand", "resolution_status": "", "actor": "ada"}
    assert (await browser.post(address, data=notes)).status_code == 303
    assert "still pending" in (await browser.get(address)).text
    resolved = {**notes, "resolution_status": "manually_resolved"}
    assert (await browser.post(address, data=resolved)).status_code == 303
    text = (await browser.get(address)).text
    assert ("paid by hand" in text, "by ada" in text, "Reopen" in text) == (True, True, True)
    assert (await browser.post(address, data=resolved)).status_code == 409
    assert (await browser.post(address, data={"reopen": "1"})).status_code == 303
    assert (await browser.post(address, data={"actor": "ada"})).status_code == 422


async def test_a_form_must_come_from_a_page_of_ours(api: httpx.AsyncClient, conn: Any) -> None:
    """Also where nobody is asked: a page elsewhere could send it, too."""
    task = await begin_one(conn, template(CHAIN))
    for headers in (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://tasker"},
    ):
        reply = await api.post(f"/tasks/{task}/cancel", data=ADA, headers=headers)
        assert reply.status_code == 403, headers
    assert await state(conn, task) == "steps_in_process"
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://tasker"}):
        task = await begin_one(conn, template(CHAIN))
        await api.post(f"/tasks/{task}/cancel", data=ADA, headers=headers)
        assert await state(conn, task) == "cancelled"


async def test_buttons_are_shown_to_those_who_may_press_them(
    guarded: httpx.AsyncClient, conn: Any, failed: UUID
) -> None:
    """And are refused to the others, should they press them all the same."""
    step = await step_id(conn, failed, "a")
    pages = {
        f"/tasks/{failed}": {
            "Cancel…": ("tasks:cancel", f"/tasks/{failed}/cancel"),
            "Retry…": ("steps:resolve", f"/tasks/{failed}/retry"),
            "Put aside…": ("dlq:update", f"/tasks/{failed}/dlq"),
        },
        f"/tasks/{failed}/steps/{step}": {
            "Reset…": ("steps:resolve", f"/tasks/{failed}/steps/{step}"),
        },
    }
    reading = ("tasks:read", "steps:read")
    for page, buttons in pages.items():
        for label, (needed, action) in buttons.items():
            for more in ((), (needed,)):
                headers = {**bearer(*reading, *more), "Accept": "text/html"}
                assert (label in (await guarded.get(page, headers=headers)).text) == bool(more)
            reply = await guarded.post(action, data=ADA, headers=bearer(*reading))
            assert reply.status_code == 403
    menu = (await guarded.get("/", headers={**bearer(), "Accept": "text/html"})).text
    assert [word for word in ("/tasks", "/dlq", "/templates", "/workers") if word in menu] == []
    everything = {**bearer(*WILDCARDS), "Accept": "text/html"}
    assert 'href="/workers"' in (await guarded.get("/", headers=everything)).text


async def test_each_page_hides_what_is_in_a_foreign_namespace(
    guarded: httpx.AsyncClient, conn: Any, failed: UUID
) -> None:
    """An unknown task and a foreign one are the same, also for the buttons."""
    await begin_one(conn, template(name="theirs", namespace="bank"))
    shop = {**bearer(*WILDCARDS, worker_namespaces=["shop"]), "Accept": "text/html"}
    bank = {**bearer(*WILDCARDS, worker_namespaces=["bank"]), "Accept": "text/html"}
    step = await step_id(conn, failed, "a")
    for path in (f"/tasks/{failed}", f"/tasks/{failed}/steps/{step}"):
        assert (await guarded.get(path, headers=shop)).status_code == 200
        assert (await guarded.get(path, headers=bank)).status_code == 404
    assert (await guarded.get("/templates/shop/flow/1.0.0", headers=bank)).status_code == 404
    assert (
        await guarded.post(f"/tasks/{failed}/cancel", data=ADA, headers=bank)
    ).status_code == 404
    for path in ("/", "/tasks", "/templates", "/dlq", "/workers"):
        assert "theirs" not in (text := (await guarded.get(path, headers=shop)).text)
        assert "bank" not in text, path


async def test_live_streams_stand_beside_the_pages(
    browser: httpx.AsyncClient, app: Any, failed: UUID
) -> None:
    """The same ones as the API's; here of a server that is about to stop, so that they end."""
    app.state.backend.draining = True
    for path in (f"/tasks/{failed}/events", "/events?namespace=shop&name="):
        reply = await asyncio.wait_for(
            browser.get(path, headers={"Accept": "text/event-stream"}), 5
        )
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "event: stream.end" in reply.text
    assert {"GET /events", "GET /tasks/{task_uuid}/events"} <= set(ROUTES)
