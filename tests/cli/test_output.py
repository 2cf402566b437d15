"""Data to stdout, everything else to stderr."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import yaml

from tasker_core.cli.failures import ExitCode, Failure
from tasker_core.cli.options import Format, Options
from tasker_core.cli.output import Output, table, to_json
from tasker_core.observe.visible import visible

UUID_TEXT = "019aaaaa-0000-7000-8000-000000000000"
VALUE = {"id": UUID(UUID_TEXT), "at": datetime(2026, 1, 2, tzinfo=UTC), "n": None}
PLAIN = {"id": UUID_TEXT, "at": "2026-01-02T00:00:00Z", "n": None}


def test_one_document_in_the_format_that_was_asked_for(capsys):
    """JSON and YAML say the same."""
    Output(Options(format=Format.JSON)).data(VALUE, lambda: "")
    assert json.loads(capsys.readouterr().out) == PLAIN
    Output(Options(format=Format.YAML)).data(VALUE, lambda: "")
    assert yaml.safe_load(capsys.readouterr().out) == PLAIN


def test_a_piped_table_is_not_cut_short(capsys):
    """No colours, no dots, no blanks at the end; markup and control characters stay data."""
    long = "x" * 500
    Output(Options()).data({}, lambda: table(("A", "B"), [(long, "[red]\x1b[0m"), ("y", None)]))
    assert capsys.readouterr().out == f"A{'':502}B\n{long}   [red]\\x1b[0m\ny{'':502}-\n"


def test_a_stream_is_one_object_a_line(capsys):
    """Each is a document of its own."""
    out = Output(Options(format=Format.JSON))
    out.event({"a": 1}, "")
    out.event({"a": 2}, "")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"a": 1},
        {"a": 2},
    ]


def test_notes_are_silent_with_quiet_and_warnings_are_not(capsys):
    """Both go to stderr."""
    out = Output(Options(quiet=True))
    out.note("a hint")
    out.warn("a warning")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "a warning\n")


def test_a_failure_goes_where_it_is_read(capsys):
    """To a person on stderr, to a program on stdout."""
    failure = Failure(ExitCode.NOT_FOUND, "unknown", "not there", "look here", {"id": 1})
    Output(Options()).fail(failure)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: not there\nhint: look here\n")
    Output(Options(format=Format.JSON)).fail(failure)
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out) == {
        "error": {
            "code": "unknown",
            "message": "not there",
            "details": {"id": 1},
            "hint": "look here",
        }
    }


def test_text_stays_readable():
    """Letters of any script stay; what commands a terminal is written out."""
    assert visible("Ærø ✓ \x07\n") == "Ærø ✓ \\x07\\n"
    assert to_json({"ä": "✓"}) == '{"ä": "✓"}'
