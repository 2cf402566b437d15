"""`tasker-ctl dev`, `server run`, `worker run`: they begin, change, and end."""

from __future__ import annotations

import json
import signal

import pytest

from cli.running import HANDLERS, LongRunning, write_application
from support.processes import until


@pytest.fixture
def start(tmp_path, empty_database):
    """Start a long-running command in the directory of the application."""

    def start(*args):
        return LongRunning(tmp_path, *args, "--database-url", empty_database)

    return start


@pytest.fixture
def greeting(ctl):
    """Create a task, wait for it, and give what it greets with."""

    def greeting(url):
        line = ("task", "create", "demo/hello", "--set", "name=Ada", "--wait", "--json")
        ended = ctl("--url", url, *line)
        assert ended.exit_code == 0, ended.output
        uuid = json.loads(ended.stdout)["task_uuid"]
        step = json.loads(ctl("--url", url, "task", "step", uuid, "greet", "--json").stdout)
        return step["results"]["result"]["text"]

    return greeting


def test_changed_handlers_take_effect_and_broken_ones_do_not(application, start, greeting):
    """The worker goes on all the while; what is wrong is told once, with its place."""
    code = application / "handlers.py"
    with start("dev", "--port", 0) as dev:
        assert (dev.ready["handlers"], dev.ready["templates"]) == (2, 1)
        assert greeting(dev.ready["url"]) == "hello Ada"
        assert dev.ready["dashboard"] == dev.ready["url"] + "/"
        code.write_text(HANDLERS.replace('"hello"', '"good morning"'))
        until(lambda: "reloaded 2 handlers" in dev.stderr)
        assert greeting(dev.ready["url"]) == "good morning Ada"
        code.write_text(HANDLERS.replace('"hello"', '"hello'))
        until(lambda: "not reloaded" in dev.stderr)
        assert "SyntaxError" in dev.stderr
        assert 'WORD = "hello\n' in dev.stderr
        assert greeting(dev.ready["url"]) == "good morning Ada"
        code.write_text(HANDLERS)
        until(lambda: dev.stderr.count("reloaded 2 handlers") == 2)
        assert greeting(dev.ready["url"]) == "hello Ada"


def test_changed_templates_take_effect_and_broken_ones_do_not(application, start, ctl, greeting):
    """A version in use is registered anew; a broken file is told with its line."""
    file = application / "templates" / "hello.yaml"
    text = file.read_text()
    with start("dev", "--port", 0) as dev:
        greeting(dev.ready["url"])
        file.write_text(text.replace("dependencies: [greet]", "dependencies: [gret]"))
        until(lambda: "MISSING_DEP_REF" in dev.stderr)
        assert "templates/hello.yaml:15:" in dev.stderr
        assert "did you mean greet?" in dev.stderr
        assert greeting(dev.ready["url"]) == "hello Ada"
        more = "  - name: extra\n    handler: {callable: nobody}\n"
        file.write_text(text + more)
        until(lambda: "registered demo/hello 1.0.0" in dev.stderr)
        until(lambda: "no handler for demo: nobody" in dev.stderr)
        file.write_text(text.replace("namespace_name", "extra: 1\nnamespace_name"))
        until(lambda: "templates/hello.yaml:3:1: warning UNKNOWN_KEY" in dev.stderr)
        file.write_text(text.replace("dependencies: [greet]", "dependancies: [greet]") + more)
        until(lambda: "did you mean dependencies?" in dev.stderr)
        made = ctl(
            "--url", dev.ready["url"], "task", "create", "demo/hello", "--set", "name=Ada", "--json"
        )
        assert json.loads(made.stdout)["total_steps"] == 3


def test_a_handler_that_is_missing_is_told_once_and_when_it_is_there(application, start):
    """What an earlier template named is not told again, unless a step waits for it."""
    code, file = application / "handlers.py", application / "templates" / "hello.yaml"
    text = file.read_text()
    file.write_text(text.replace("callable: judge", "callable: jury"))
    with start("dev", "--port", 0) as dev:
        until(lambda: "no handler for demo: jury; its steps wait" in dev.stderr)
        jury = HANDLERS.replace('"judge"', '"jury"')
        until(lambda: code.write_text(jury) and "reloaded" in dev.stderr)  # once it watches
        until(lambda: "there is a handler for demo: jury now; its steps go on" in dev.stderr)
        assert dev.stderr.count("no handler for demo: jury") == 1
    file.write_text(text)
    code.write_text(HANDLERS)
    with start("dev", "--port", 0) as dev:
        other = text.replace("callable: judge", "callable: nobody")
        until(lambda: file.write_text(other) and "demo: nobody" in dev.stderr)
        assert "jury" not in dev.stderr


EVENTS = """
from tasker_core.domain_events import (
    BasePublisher, BaseSubscriber, PublisherRegistry, SubscriberRegistry
)

class Greetings(BasePublisher):
    publisher_name = "greetings"

PublisherRegistry.instance().register(Greetings())
"""
SUBSCRIBER = """
class {name}(BaseSubscriber):
    durable = True

    @classmethod
    def subscribes_to(cls):
        return ["{event}"]

    def handle(self, event):
        with open("told", "a") as told:
            told.write("{name} " + event["event_name"] + "\\n")

SubscriberRegistry.instance().register({name})
"""


def test_a_durable_subscriber_that_is_added_gets_its_events(application, start, greeting):
    """Beside one that was there before; a later change hands no event to the same one twice."""
    code, template = application / "handlers.py", application / "templates" / "hello.yaml"
    other = SUBSCRIBER.format(name="Other", event="other.*")
    code.write_text(HANDLERS + EVENTS + other)
    event = "{name: hello.said, description: d, schema: {type: object}, publisher: greetings}"
    greet = "handler: {callable: greet}\n"
    template.write_text(
        template.read_text().replace(greet, f"{greet}    publishes_events: [{event}]\n")
    )
    told = application / "told"
    with start("dev", "--port", 0) as dev:
        greeting(dev.ready["url"])
        added = HANDLERS + EVENTS + other + SUBSCRIBER.format(name="Added", event="hello.said")
        code.write_text(added)
        until(lambda: "reloaded 2 handlers" in dev.stderr)
        greeting(dev.ready["url"])
        until(lambda: told.exists() and told.read_text() == "Added hello.said\n")
        code.write_text(added + "\n")
        until(lambda: dev.stderr.count("reloaded 2 handlers") == 2)
        greeting(dev.ready["url"])
        until(lambda: told.read_text().count("\n") == 2)
        assert told.read_text() == 2 * "Added hello.said\n"
        assert "publisher" not in dev.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_in_good_order(application, start, number, exit_code):
    """Ctrl-C is an interruption, SIGTERM the ordinary end."""
    with start("dev", "--port", 0) as dev:
        assert dev.ready["event"] == "ready"
        assert dev.end(number) == exit_code
        assert "Traceback" not in dev.stderr


def test_server_and_worker_are_two_processes(application, start, greeting):
    """Each says in one line that it is ready."""
    words = ("--port", 0, "--grpc-port", 0, "--upgrade", "--templates", "templates")
    with start("server", "run", *words) as server:
        assert server.ready["url"].startswith("http://127.0.0.1:")
        assert server.ready["grpc"].startswith("127.0.0.1:")
        with start("worker", "run", "--handlers", "handlers", "--concurrency", 2) as worker:
            assert worker.ready["handlers"] == 2
            assert greeting(server.ready["url"]) == "hello Ada"
            assert worker.end() == 0
        assert server.end() == 0


def test_a_database_of_your_own_is_not_upgraded_unasked(ctl_process, application, empty_database):
    """Server and worker refuse an old schema, and say what to do."""
    for words in (("server", "run", "--port", 0), ("worker", "run", "--handlers", "handlers")):
        refused = ctl_process(*words, DATABASE_URL=empty_database)
        assert refused.returncode == 1
        assert "tasker-ctl db upgrade" in refused.stderr
        assert refused.stdout == ""


def test_a_broken_template_keeps_a_server_from_starting(ctl_process, application, empty_database):
    """As an error of validation."""
    (application / "templates" / "bad.yaml").write_text("name: bad\n")
    for words in (
        ("server", "run", "--port", 0),
        ("worker", "run", "--handlers", "handlers"),
    ):
        refused = ctl_process(
            *words, "--upgrade", "--templates", "templates", "--json", DATABASE_URL=empty_database
        )
        assert refused.returncode == 3
        error = json.loads(refused.stdout)["error"]
        assert error["code"] == "invalid_template"
        assert error["details"]["findings"]


def test_a_package_that_is_not_there_keeps_a_worker_from_starting(ctl_process):
    """And so does one that cannot be imported; its own lines are shown, not ours."""
    refused = ctl_process("worker", "run", "--handlers", "nowhere")
    assert refused.returncode == 1
    assert "No module named 'nowhere'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_in_use_is_told(ctl_process, application, start, empty_database):
    """With the option that chooses another."""
    with start("dev", "--port", 0) as dev:
        port = dev.ready["url"].rpartition(":")[2]
        refused = ctl_process("dev", "--port", port, DATABASE_URL=empty_database)
        assert refused.returncode == 1
        assert f"127.0.0.1:{port}" in refused.stderr
        assert "--port" in refused.stderr


def test_other_commands_of_the_directory_find_it(ctl_process, application, start):
    """Whatever its port; not a file that was left behind, and not against what is said."""
    line = ("task", "list", "--json")
    told = application / ".tasker" / "dev.url"
    with start("dev", "--port", 0) as dev:
        url = dev.ready["url"]
        assert told.read_text() == url
        assert ctl_process(*line).returncode == 0
        unknown = ctl_process("task", "get", "01900000-0000-7000-8000-000000000000")
        assert f"asked {url}" in unknown.stderr
        assert "TASKER_URL" in unknown.stderr
        assert ctl_process(*line, TASKER_URL="http://127.0.0.1:1").returncode == 6
        assert dev.end() == 0
    assert not told.exists()
    told.write_text("http://127.0.0.1:1")
    refused = ctl_process("task", "list", "--json")
    assert "127.0.0.1:1:" not in refused.stdout


def test_dev_starts_with_nothing_here(tmp_path, start):
    """It says what is missing, and runs."""
    with start("dev", "--port", 0) as dev:
        assert (dev.ready["handlers"], dev.ready["templates"]) == (0, 0)
        until(lambda: "--templates DIR" in dev.stderr)
        assert "--handlers PKG" in dev.stderr


def test_an_application_in_a_package_is_found(tmp_path, start):
    """`app.handlers` and `config/tasks`, without a word."""
    (tmp_path / "app").mkdir()
    write_application(tmp_path / "app")
    (tmp_path / "config").mkdir()
    (tmp_path / "app" / "templates").rename(tmp_path / "config" / "tasks")
    with start("dev", "--port", 0) as dev:
        assert (dev.ready["handlers"], dev.ready["templates"]) == (2, 1)
