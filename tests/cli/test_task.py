"""`tasker-ctl task`: against a server and a worker that run."""

from __future__ import annotations

import json

import pytest

NOBODY = "019aaaaa-0000-7000-8000-000000000000"

TASK_FIELDS = {
    "task_uuid", "name", "namespace", "version", "status", "created_at", "updated_at",
    "completed_at", "context", "initiator", "source_system", "reason", "priority", "tags",
    "correlation_id", "parent_correlation_id", "total_steps", "pending_steps", "enqueued_steps",
    "in_progress_steps", "waiting_for_retry_steps", "completed_steps", "failed_steps",
    "cancelled_steps", "ready_steps", "execution_status", "recommended_action",
    "completion_percentage", "health_status", "steps", "results",
}  # fmt: skip
STEP_FIELDS = {
    "step_uuid", "task_uuid", "name", "created_at", "updated_at", "completed_at", "results",
    "current_state", "dependencies_satisfied", "retry_eligible", "ready_for_execution",
    "total_parents", "completed_parents", "attempts", "max_attempts", "last_failure_at",
    "next_retry_at", "last_attempted_at",
}  # fmt: skip


@pytest.fixture
def create(task):
    """Create a task of the small application, and give it as JSON."""

    def create(*args):
        made = task("create", "demo/hello", "--set", "name=Ada", "--json", *args)
        assert made.exit_code in (0, 7), made.output
        return json.loads(made.stdout)

    return create


def test_everything_that_create_takes_arrives(create, task):
    """The context comes from JSON and from --set, in this order."""
    made = create(
        "-i", '{"name": "Eva", "cart": {"total": 1}}', "--set", "cart.total=99.5",
        "--priority", 7, "--tag", "a", "--tag", "b", "-c", NOBODY, "--initiator", "nightly",
        "--source-system", "cron", "--reason", "to test",
    )  # fmt: skip
    assert set(made) == TASK_FIELDS
    assert made["context"] == {"name": "Ada", "cart": {"total": 99.5}}
    assert (made["priority"], made["tags"]) == (7, ["a", "b"])
    assert made["correlation_id"] == NOBODY
    assert (made["initiator"], made["source_system"]) == ("nightly", "cron")
    assert made["reason"] == "to test"


def test_the_context_may_come_from_stdin_or_a_file(task, tmp_path):
    """With `-` and `@FILE`; the name in one word or in options."""
    (tmp_path / "context.json").write_text('{"name": "file"}')
    words = ("create", "--name", "hello", "-n", "demo", "--version", "1.0.0", "--json")
    made = task(*words, "-i", f"@{tmp_path / 'context.json'}")
    assert json.loads(made.stdout)["context"] == {"name": "file"}
    made = task(*words, "-i", "-", input='{"name": "stdin"}')
    assert json.loads(made.stdout)["context"] == {"name": "stdin"}


def test_wait_returns_the_task_as_it_ended(create):
    """One document; the exit code is that of success."""
    made = create("--wait")
    assert made["status"] == "complete"
    assert [step["current_state"] for step in made["steps"]] == ["complete", "complete"]


def test_a_task_that_ends_badly_has_its_own_exit_code(task):
    """Why is told on stderr, and what to do; stdout has the task alone."""
    line = ("create", "demo/hello", "--set", "name=Ada", "--set", "mood=bad", "--wait")
    ended = task(*line, "--json")
    assert ended.exit_code == 7
    assert json.loads(ended.stdout)["status"] == "blocked_by_failures"
    assert "judge, 1/20 attempts: permanent_error: the mood is \\x1b[31mbad" in ended.stderr
    assert "task reset-step" in ended.stderr


def test_waiting_ends_when_its_time_is_over(task):
    """With the exit code of a time-out; the task goes on."""
    line = ("create", "demo/hello", "--set", "name=Ada", "--set", "mood=closed", "--set",
            "gate=/nowhere")  # fmt: skip
    waited = task(*line, "--wait", "--wait-timeout", 0.3)
    assert waited.exit_code == 6
    assert waited.stdout == ""
    assert "task watch" in waited.stderr


def test_create_says_what_to_do_next_unless_quiet(task):
    """Quiet, it prints the id alone, for scripts."""
    said = task("create", "demo/hello", "--set", "name=Ada")
    assert "demo/hello 1.0.0" in said.stdout
    assert "task watch" in said.stderr
    said = task("create", "demo/hello", "--set", "name=Ada", "-q")
    assert len(said.stdout.strip()) == len(NOBODY)
    assert said.stderr == ""


def test_nothing_is_to_be_explained_of_a_task_that_is_done(task):
    """An empty list to a program, a sentence to a person."""
    done = task("create", "demo/hello", "--set", "name=ada", "--wait", "--json")
    uuid = json.loads(done.stdout)["task_uuid"]

    assert json.loads(task("why", uuid, "--json").stdout) == []
    assert task("why", uuid).stdout == "every step is running or done\n"


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (("create", "demo/hello"), 1, "VALIDATION_ERROR"),
        (("create", "demo/nothing"), 4, "NOT_FOUND"),
        (("create", "demo/hello@9.9.9"), 4, "NOT_FOUND"),
        (("get", NOBODY), 4, "NOT_FOUND"),
        (("steps", NOBODY), 4, "NOT_FOUND"),
        (("watch", NOBODY), 4, "NOT_FOUND"),
        (("why", NOBODY), 4, "NOT_FOUND"),
        (("cancel",), 2, "usage_error"),
        (("reset", "--reason", "r", "--where", "failed_stepp=a"), 2, "usage_error"),
        (("resolve", NOBODY), 2, "usage_error"),
        (("create", "demo/hello", "-i", "{bad"), 2, "usage_error"),
        (("create", "demo/hello", "-i", "[]"), 2, "usage_error"),
        (("create", "demo/hello", "-i", "@nowhere.json"), 2, "usage_error"),
        (("create", "demo/hello", "--set", "x"), 2, "usage_error"),
        (("create", "demo/hello", "--priority", "1000"), 2, "usage_error"),
        (("create",), 2, "usage_error"),
        (("get", "no-uuid"), 2, "usage_error"),
        (("list", "--status", "complet"), 2, "usage_error"),
        (("list", "--limit", "0"), 2, "usage_error"),
    ],
)
def test_what_cannot_be_done_is_told_as_one_document(task, words, exit_code, code):
    """With the exit code for it, and nothing on stderr."""
    refused = task(*words, "--json")
    assert refused.exit_code == exit_code
    assert json.loads(refused.stdout)["error"]["code"] == code
    assert refused.stderr == ""


def test_a_context_that_does_not_fit_names_the_places(task):
    """On stderr, for a person."""
    refused = task("create", "demo/hello", "--set", "name=1")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert "/name" in refused.stderr


@pytest.mark.parametrize(
    "words", [("list",), ("get", NOBODY), ("create", "a/b"), ("watch", NOBODY)]
)
def test_without_a_server_the_advice_is_to_start_one(ctl, words):
    """With the exit code of a connection that failed."""
    refused = ctl("--url", "http://127.0.0.1:1", "task", *words)
    assert refused.exit_code == 6
    assert refused.stdout == ""
    assert "no server answers at http://127.0.0.1:1" in refused.stderr
    assert "tasker-ctl dev" in refused.stderr


def test_an_address_that_is_none_is_a_usage_error(ctl):
    """From the option; the variable is read, too."""
    assert ctl("--url", "ftp://x", "task", "list").exit_code == 2
    assert ctl("task", "list", env={"TASKER_URL": "http://127.0.0.1:1"}).exit_code == 6


def test_get_shows_a_task_and_its_steps(create, task):
    """As a table without colours, or as the API gives it."""
    made = create("--wait")
    shown = task("get", made["task_uuid"])
    assert shown.exit_code == 0
    assert "status        complete" in shown.stdout
    assert "2 of 2 (100.0 %)" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert json.loads(task("get", made["task_uuid"], "--json").stdout) == made


def test_list_gives_a_page(create, task):
    """Filtered, with the total; the rest is told on stderr."""
    for _ in range(3):
        create("--initiator", "lister", "--wait")
    words = ("list", "--initiator", "lister", "-n", "demo", "-s", "complete", "--limit", 2)
    page = json.loads(task(*words, "--page", 2, "--json").stdout)
    assert {key: page[key] for key in ("total", "limit", "offset")} == {
        "total": 3, "limit": 2, "offset": 2,
    }  # fmt: skip
    assert [set(item) for item in page["items"]] == [TASK_FIELDS]
    shown = task(*words)
    assert len(shown.stdout.splitlines()) == 3
    assert "2 of 3, page 1 of 2" in shown.stderr


def test_steps_are_listed_and_found_by_name(create, task):
    """A step's UUID does, too; a name that is none gets the nearest ones."""
    uuid = create("--wait")["task_uuid"]
    steps = json.loads(task("steps", uuid, "--json").stdout)
    assert steps["total"] == 2
    assert [set(item) for item in steps["items"]] == [STEP_FIELDS, STEP_FIELDS]
    by_name = json.loads(task("step", uuid, "greet", "--json").stdout)
    assert by_name == steps["items"][0]
    assert by_name["results"]["result"] == {"text": "hello Ada"}
    assert json.loads(task("step", uuid, by_name["step_uuid"], "--json").stdout) == by_name
    refused = task("step", uuid, "gret")
    assert refused.exit_code == 4
    assert "greet" in refused.stderr


def test_an_operator_steps_in(create, task):
    """Reset runs the step again; complete gives it a result; each with a reason."""
    uuid = create("--set", "mood=bad", "--wait")["task_uuid"]
    assert task("reset-step", uuid, "judge").exit_code == 2  # no reason
    reset = task("reset-step", uuid, "judge", "--reason", "again", "--json")
    assert reset.exit_code == 0, reset.output
    assert task("watch", uuid).exit_code == 7
    bad = task("complete-step", uuid, "judge", "--reason", "by hand", "--result", "{bad")
    assert bad.exit_code == 2
    done = task(
        "complete-step", uuid, "judge", "--reason", "by hand", "--result", '{"mood": "good"}',
        "--metadata", '{"ticket": 1}', "--completed-by", "ada", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["results"]["result"] == {"mood": "good"}
    assert json.loads(task("get", uuid, "--json").stdout)["status"] == "complete"
    again = task("resolve-step", uuid, "judge", "--reason", "twice", "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["error"]["code"] == "CONFLICT"


def test_resolving_lets_the_task_go_on(create, task):
    """The step has no result; what happened is told on stderr."""
    uuid = create("--set", "mood=bad", "--wait")["task_uuid"]
    done = task("resolve-step", uuid, "judge", "--reason", "not needed")
    assert done.exit_code == 0
    assert "judge: error → resolved_manually" in done.stderr
    assert task("watch", uuid).exit_code == 0


def test_cancel_ends_tasks(create, task):
    """Nobody is asked when stdin is no terminal; each task has a line."""
    uuids = [
        create("--set", "mood=closed", "--set", "gate=/nowhere")["task_uuid"] for _ in range(2)
    ]
    done = task("cancel", *uuids, "--reason", "changed my mind", "--by", "ada", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert [(one["task_uuid"], one["status"]) for one in document["items"]] == [
        (uuid, "cancelled") for uuid in uuids
    ]
    assert (document["action"], document["counts"]["done"]) == ("cancel", 2)
    assert task("watch", uuids[0]).exit_code == 7
    assert "cancel by ada: changed my mind" in task("get", uuids[0]).stdout
    again = task("cancel", *uuids)
    assert (again.exit_code, again.stderr) == (0, "2 unchanged\n")
    nobody = task("cancel", NOBODY)
    assert nobody.exit_code == 4
    assert "there is no task" in nobody.stdout


def test_failed_tasks_are_found_and_reset(create, task):
    """A dry run shows them; a task that fails again is resolved as a whole."""
    uuids = [create("--set", "mood=bad", "--wait")["task_uuid"] for _ in range(2)]
    where = ("--where", "failed_step=judge", "--where", "template=demo/hello@1.0.0")
    where += ("--where", "status=blocked_by_failures", "--where", "created_after=2020-01-01")

    shown = task("reset", *where, "--reason", "again", "--dry-run", "--json")
    assert {one["task_uuid"] for one in json.loads(shown.stdout)["items"]} >= {*uuids}
    assert json.loads(task("get", uuids[0], "--json").stdout)["status"] == "blocked_by_failures"

    would = task("reset", *where, "--reason", "again", "--dry-run")
    assert "would be reset" in would.stdout
    assert "dry run, nothing was changed: " in would.stderr

    done = task("reset", *where, "--reason", "again")
    assert done.exit_code == 0
    assert " reset" in done.stderr
    assert uuids[0] in done.stdout
    assert [task("watch", uuid).exit_code for uuid in uuids] == [7, 7]

    assert task("resolve", *uuids, "--reason", "paid by hand").exit_code == 0
    assert task("watch", uuids[0]).exit_code == 0
    late = task("reset", uuids[0], "--reason", "late")
    assert late.exit_code == 1
    assert "it is resolved_manually" in late.stdout
