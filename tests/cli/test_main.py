"""The command itself: help, versions, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from tasker_core.cli.main import ENTRIES, load

HEAVY = ("pydantic", "fastapi", "asyncpg", "httpx", "structlog", "tasker_core.settings")


def test_help_names_every_group_and_loads_none(ctl):
    """On stdout, with exit code 0."""
    helped = ctl("--help")
    assert helped.exit_code == 0
    assert helped.stderr == ""
    for name, entry in ENTRIES.items():
        assert name in helped.stdout
        assert entry.help.split(".")[0] in " ".join(helped.stdout.split())


def test_help_imports_nothing_heavy():
    """So that it is quick: what a command needs is imported by the command."""
    program = (
        "import sys; from tasker_core.cli.main import app\n"
        "try: app(['--help'])\n"
        f"except SystemExit: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_can_be_loaded(ctl, name):
    """And its help says the same as the list of groups."""
    assert load(name).help
    helped = ctl(name, "-h")
    assert helped.exit_code == 0
    assert ENTRIES[name].help.rstrip(".") in " ".join(helped.stdout.split())


def test_nothing_at_all_is_answered_with_the_help(ctl):
    """It is a usage error all the same."""
    answered = ctl()
    assert answered.exit_code == 2
    assert "Usage" in answered.stdout
    assert answered.stderr == ""


def test_the_version_is_that_of_the_distribution(ctl):
    """With -V or --version, before any group."""
    assert ctl("-V").stdout == ctl("--version").stdout == f"tasker-ctl {version('tasker-py')}\n"


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ("tsk list", "'task'"),
        ("template validat x", "'validate'"),
        ("task lst", "'list'"),
        ("--jsn task list", "--json"),
        ("task list --limt 3", "--limit"),
        ("task list --tiemout 3", "--timeout"),
    ],
)
def test_a_slip_of_the_pen_gets_a_suggestion(ctl, line, suggested):
    """For groups, commands and options, those of every command included."""
    answered = ctl(*line.split())
    assert answered.exit_code == 2
    assert answered.stdout == ""
    assert suggested in answered.stderr
    assert "--help" in answered.stderr


@pytest.mark.parametrize(
    "line",
    ["--format xml task list", "task get", "task get X Y", "--timeout 0 task list", "task"],
)
def test_other_mistakes_are_usage_errors(ctl, line):
    """Without a traceback."""
    answered = ctl(*line.split())
    assert answered.exit_code == 2
    assert "Traceback" not in answered.output


def test_a_program_reads_a_usage_error_as_json(ctl):
    """One document on stdout, nothing on stderr, wherever --json stands."""
    for line in ("--json tsk", "tsk --json", "task get X --format json"):
        answered = ctl(*line.split())
        assert answered.exit_code == 2
        assert answered.stderr == ""
        error = json.loads(answered.stdout)["error"]
        assert error["code"] == "usage_error"
        assert set(error) == {"code", "message", "details", "hint"}


def test_a_traceback_is_shown_only_when_asked_for(ctl):
    """With -vv."""
    line = ("--url", "http://127.0.0.1:1", "task", "list")
    assert "Traceback" not in ctl(*line).output
    assert "Traceback" in ctl(*line, "-vv").stderr


def test_completion_knows_groups_commands_and_options(ctl_process):
    """As the shell asks for it."""

    def complete(line: str) -> str:
        return ctl_process(
            _TASKER_CTL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line
        ).stdout.replace("\\", "")

    assert '"template"' in complete("tasker-ctl t")
    assert '"reset-step"' in complete("tasker-ctl task re")
    assert '"--idempotency-key"' in complete("tasker-ctl task create --id")
