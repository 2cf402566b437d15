"""`tasker-ctl events`."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from cli.running import LongRunning
from support.events import publishing, telling
from support.flows import Worker, begin, done
from tasker_core.engine.relay import next_events, refuse_event


@pytest.fixture
def failed(clean_database: str) -> list[str]:
    """Ids of two events that were put aside; a third one waits."""

    async def prepare() -> list[str]:
        conn = await asyncpg.connect(clean_database)
        worker = Worker(conn)
        await begin(conn, publishing(), 3)
        ends = [telling(done(claim, {}), "success") for claim in await worker.claim()]
        await worker.finish(*ends)
        events = await next_events(conn, limit=2)
        for event in events:
            await refuse_event(conn, event, "too large", max_tries=1)
        await conn.close()
        return [str(event.event_uuid) for event in events]

    return asyncio.run(prepare())


def test_what_failed_is_listed_retried_and_dropped(ctl_process, failed, clean_database):
    """By id, or all of it; the state tells what waits and that nobody relays it."""

    def ask(*words):
        answer = ctl_process("--json", "events", *words, "--database-url", clean_database)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout), answer.stderr

    state, said = ask("status")
    assert (state["waiting"], state["failed"], state["is_relayed"]) == (1, 2, False)
    assert "tasker-ctl events relay" in said

    listed, _ = ask("list")
    assert sorted(event["event_uuid"] for event in listed["events"]) == sorted(failed)
    assert {event["error"] for event in listed["events"]} == {"too large"}

    assert ask("retry", failed[0])[0] == {"retried": 1}
    again, said = ask("retry", failed[0])
    assert again == {"retried": 0}
    assert "1 of these are not among the failed" in said
    assert ask("drop", "--all", "--yes")[0] == {"dropped": 1}
    assert ask("list")[0] == {"events": []}
    assert ask("status")[0]["waiting"] == 2


@pytest.mark.parametrize("words", [("retry",), ("drop", "--yes"), ("retry", "--all", "1" * 32)])
def test_it_has_to_be_said_which_ones(ctl, words):
    """Ids or all: one of both."""
    refused = ctl("events", *words)

    assert refused.exit_code == 2
    assert "--all" in refused.stderr


def test_a_relay_needs_a_broker(ctl_process):
    """Nothing to send to; and something that is none."""
    nowhere = ctl_process("events", "relay")
    wrong = ctl_process("--json", "events", "relay", "--broker", "amqp:/me:secret@host")

    assert nowhere.returncode == 2
    assert "TASKER_EVENTS_URL" in nowhere.stderr
    assert wrong.returncode == 3
    assert "events_url" in wrong.stdout


def test_a_relay_runs_until_a_signal_comes(clean_database, tmp_path):
    """Whether or not its broker is there; the password is not told."""
    with LongRunning(
        tmp_path,
        "events",
        "relay",
        "--broker",
        "amqp://me:secret@127.0.0.1:1/",
        "--database-url",
        clean_database,
    ) as relay:
        assert relay.ready["broker"] == "amqp://me:***@127.0.0.1:1/"
        assert relay.ready["topic"] == "{namespace}.domain_events"
