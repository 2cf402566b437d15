"""The options of every command may stand anywhere."""

from __future__ import annotations

import pytest

from tasker_core.cli.options import Format, glance, split


@pytest.mark.parametrize(
    ("line", "common", "rest"),
    [
        ("task get X --json", "--json", "task get X"),
        ("--url U task -q list", "--url U -q", "task list"),
        ("task list --format=yaml -n shop", "--format=yaml", "task list -n shop"),
        ("task get X --url", "--url", "task get X"),
        ("task get -- --json", "", "task get -- --json"),
        ("dev -vv --port 1", "-vv", "dev --port 1"),
    ],
)
def test_they_are_taken_out_of_the_line(line, common, rest):
    """With their values, in their order, up to `--`."""
    assert split(line.split()) == (common.split(), rest.split())


def test_a_command_keeps_its_own():
    """`task watch --timeout` is how long to watch, not how long a request may take."""
    assert split(["watch", "X", "--timeout", "5"], own={"--timeout"}) == (
        [],
        ["watch", "X", "--timeout", "5"],
    )


@pytest.mark.parametrize(
    ("line", "format", "verbose"),
    [
        ("tsk --json", Format.JSON, 0),
        ("--format yaml tsk -vv", Format.YAML, 2),
        ("--format=json tsk", Format.JSON, 0),
        ("--format xml tsk --verbose", Format.TABLE, 1),
    ],
)
def test_a_line_that_makes_no_sense_still_says_how_to_report_it(line, format, verbose):
    """The format and the verbosity are found in a line that cannot be parsed."""
    found = glance(line.split())
    assert (found.format, found.verbose) == (format, verbose)
