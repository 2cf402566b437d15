"""`tasker-ctl dlq`: against a server that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tasker_core.cli.dlq import _entry_view
from tasker_core.cli.options import Options
from tasker_core.cli.output import Output

NOBODY = "019aaaaa-0000-7000-8000-000000000000"
ENTRY_FIELDS = {
    "dlq_entry_uuid", "task_uuid", "original_state", "dlq_reason", "dlq_timestamp",
    "resolution_status", "resolution_timestamp", "resolution_notes", "resolved_by",
    "task_snapshot", "metadata", "created_at", "updated_at", "task_state",
}  # fmt: skip


@pytest.fixture
def dlq(ctl: Callable[..., Any], service: Any) -> Callable[..., Any]:
    """Run `tasker-ctl dlq …` against the service."""
    return lambda *args, **more: ctl("--url", service.url, "dlq", *args, **more)


@pytest.fixture
def entry(task, dlq) -> dict[str, Any]:
    """A dead letter of a task that is done."""
    made = task("create", "demo/hello", "--set", "name=Ada", "--wait", "--json")
    uuid = json.loads(made.stdout)["task_uuid"]
    added = dlq("add", uuid, "-r", "odd", "-b", "ann", "--metadata", '{"ticket": 7}', "--json")
    assert added.exit_code == 0, added.output
    return json.loads(added.stdout)


def test_a_dead_letter_from_its_beginning_to_its_end(entry, dlq):
    """Added, shown, listed, resolved once, reopened."""
    assert set(entry) == ENTRY_FIELDS
    assert entry["metadata"] == {"ticket": 7, "entered_by": "ann", "reason": "odd"}
    shown = dlq("get", entry["task_uuid"]).stdout
    assert "demo/hello 1.0.0" in shown
    assert "ticket" in shown
    assert "greet   complete     1/3" in shown
    page = json.loads(dlq("list", "-s", "PENDING", "--reason", "manual_dlq", "--json").stdout)
    assert entry in page["items"]
    assert page["total"] == len(page["items"])
    assert (page["limit"], page["offset"]) == (50, 0)
    assert entry["dlq_entry_uuid"] in dlq("list").stdout

    by_entry, by_task = (
        json.loads(dlq("get", entry[which], "--json").stdout)
        for which in ("dlq_entry_uuid", "task_uuid")
    )
    assert by_entry == by_task == entry

    words = ("update", entry["task_uuid"])
    done = dlq(*words, "-s", "manually_resolved", "-n", "fixed")
    assert "the dead letter is manually_resolved" in done.stderr
    assert "cli-operator" in done.stdout
    again = dlq(*words, "-s", "cancelled")
    assert again.exit_code == 1
    assert "reopen it first" in again.stderr
    opened = json.loads(dlq(*words, "--reopen", "-n", "again", "--json").stdout)
    assert (opened["resolution_status"], opened["resolution_notes"]) == ("pending", "again")
    assert dlq(*words, "-s", "cancelled", "-b", "bob").exit_code == 0


def test_the_views_of_many(entry, task, dlq):
    """Counted, by urgency, and who does not move."""
    counted = json.loads(dlq("stats", "--json").stdout)
    assert [one["dlq_reason"] for one in counted["items"]] == ["manual_dlq"]
    assert "manual_dlq" in dlq("stats").stdout
    urgent = json.loads(dlq("queue", "-l", 1, "--json").stdout)
    assert (urgent["total"], urgent["limit"]) == (1, 1)
    assert "demo/hello" in dlq("queue").stdout
    gate = ("--set", "mood=closed", "--set", "gate=/nowhere")
    made = task("create", "demo/hello", "--set", "name=Ada", *gate, "--json")
    shown = dlq("staleness", "-l", 1).stdout
    assert json.loads(made.stdout)["task_uuid"] in shown
    assert "healthy" in shown
    assert json.loads(dlq("staleness", "--json").stdout)["limit"] == 20


def test_a_repaired_task_is_marked_with_how_to_close_it(task, dlq):
    """Behind the others."""
    made = task(
        "create", "demo/hello", "--set", "name=Ada", "--set", "mood=bad", "--wait", "--json"
    )
    uuid = json.loads(made.stdout)["task_uuid"]
    dlq("add", uuid, "-r", "odd")
    assert task("resolve", uuid, "-r", "fine", "--yes").exit_code == 0
    shown = dlq("queue")
    (line,) = (line for line in shown.stdout.splitlines() if uuid in line)
    assert line.split()[-3:-1] == ["resolved_manually", "yes"]
    entry = line.split()[1]
    assert f"tasker-ctl dlq update {entry} --status manually_resolved" in shown.stderr
    assert f"dlq update {entry}" in dlq("get", uuid).stderr


def test_failed_ranges_are_a_table():
    """As `failure_strategy: isolate` puts them aside."""
    cursor = {"batch_id": "002", "start_cursor": 100, "end_cursor": 200, "batch_size": 100}
    failed = {"step": "read_002", "cursor": cursor, "checkpoint": 140}
    entry = dict.fromkeys(ENTRY_FIELDS) | {
        "task_snapshot": {},
        "metadata": {"failed_ranges": [failed], "ticket": 7},
    }
    console = Output(Options()).console()
    with console.capture() as captured:
        console.print(_entry_view(entry))
    lines = [line.split() for line in captured.get().splitlines()]
    assert ["read_002", "100", "200", "100", "140"] in lines
    assert ["ticket", "7"] in lines
    assert "failed_ranges" not in captured.get()


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (("get", NOBODY), 4, "NOT_FOUND"),
        (("add", NOBODY, "-r", "odd"), 4, "NOT_FOUND"),
        (("update", NOBODY, "--reopen"), 4, "NOT_FOUND"),
        (("update", NOBODY), 2, "usage_error"),
        (("update", NOBODY, "-s", "resolved"), 2, "usage_error"),
        (("list", "-s", "pendin"), 2, "usage_error"),
        (("list", "--reason", "bored"), 2, "usage_error"),
        (("get", "x"), 2, "usage_error"),
        (("add", NOBODY), 2, "usage_error"),
    ],
)
def test_what_cannot_be_done_is_told(dlq, words, exit_code, code):
    """With the exit code for it."""
    refused = dlq(*words, "--json")
    assert refused.exit_code == exit_code
    assert json.loads(refused.stdout)["error"]["code"] == code
