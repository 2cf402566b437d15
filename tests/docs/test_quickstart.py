"""The quickstart, done as it is written: every file saved, every command run, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.processes import until
from support.reader import Reader, blocks

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.leave()


def test_the_quickstart_works(reader):
    """All files and commands of the page do what it says, down to the application at its end."""
    page = blocks(PAGE)
    for number, block in enumerate(page):
        reader.do(block)
        shown = page[number + 1].text if page[number + 1 :] else ""
        if block.language == "bash" and not re.search(r"^error:|blocked_by", shown, re.M):
            assert reader.exit_code == 0, reader.said

    url = f"http://127.0.0.1:{reader.application}/sign-ups"
    answer = httpx.post(url, params={"email": "joan@example.com"}, trust_env=False)
    assert answer.status_code == 202
    task_url = f"{reader.environment['TASKER_URL']}/v1/tasks/{answer.json()['task_uuid']}"
    until(lambda: httpx.get(task_url, trust_env=False).json()["status"] == "complete")


def test_the_quickstart_is_read_to_its_end():
    """Every kind of block that the page has is one that the test above knows."""
    assert {block.language for block in blocks(PAGE)} == {"bash", "python", "yaml", "text"}
    assert sum(block.language == "bash" for block in blocks(PAGE)) >= 10
