"""What long-running commands log."""

from __future__ import annotations

import pytest
import structlog

from tasker_core.cli.logs import configure
from tasker_core.cli.options import Format, Options


@pytest.mark.parametrize("format", list(Format))
def test_data_makes_no_lines_and_commands_no_terminal(
    capsys: pytest.CaptureFixture[str], format: Format
) -> None:
    """Whatever stands in a path, a name or an error; a traceback keeps its own lines only."""
    configure(Options(format=format, color=False))
    log = structlog.get_logger()
    hostile = "/a\r\nforged\x1b[2J\u2028\u202eforged"
    log.warning("unavailable", path=hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("request_failed", path=hostile)
    lines = capsys.readouterr().err.split("\n")

    assert len([line for line in lines if "unavailable" in line]) == 1
    assert lines[1].count("request_failed") == 1
    assert not [c for line in lines for c in line if not c.isprintable()]
