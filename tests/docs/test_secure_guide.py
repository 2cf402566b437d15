"""The guide to a secure server, done as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.reader import Reader, blocks

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "secure-the-server.md"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.leave()


def test_the_guide_works(reader: Reader) -> None:
    """Keys, a server for other machines, calls that are let in, and calls that are not."""
    page = [
        block
        for block in blocks(PAGE)
        if block.language != "console" and "[profile." not in block.text
    ]
    for block in page:
        reader.do(block)
        assert reader.exit_code == 0, reader.said
    assert {block.language for block in page} == {"bash", "toml", "text"}
