"""All files, or none."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest

from cli.scaffold.conftest import files
from tasker_core.cli.scaffold.package import PlannedFile
from tasker_core.cli.scaffold.write import Change, plan_changes, write


def planned(*names: str) -> list[PlannedFile]:
    return [PlannedFile(PurePosixPath(name), f"text of {name}\n") for name in names]


def test_files_and_directories_are_made(here):
    """As the user's umask says, and with nothing left over."""
    write(plan_changes(planned("a/b/c.py", "d.py"), here / "new", force=False))
    assert files(here) == ["new/a/b/c.py", "new/d.py"]
    path = here / "new" / "d.py"
    assert path.read_text() == "text of new/d.py\n".replace("new/", "")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_is_replaced_keeps_its_permissions(here):
    """Only its text changes."""
    (here / "x").write_text("before")
    (here / "x").chmod(0o755)
    write(plan_changes(planned("x"), here, force=True))
    assert (here / "x").stat().st_mode & 0o777 == 0o755


def test_if_one_cannot_be_written_none_is(here):
    """Nor is any directory left that was made for them."""
    good, bad = (Change(here / name, "created", "new", None) for name in ("a/x", "b/" + "y" * 300))
    with pytest.raises(OSError, match="too long"):
        write([good, bad])
    assert list(here.iterdir()) == []


def test_if_one_cannot_be_moved_the_others_are_put_back(here):
    """New ones are taken away, replaced ones have their old text."""
    (here / "old").write_text("before")
    (here / "taken").mkdir()
    changes = [
        Change(here / name, "created", "new", None) for name in ("new", "old", "deep/new", "taken")
    ]
    with pytest.raises(OSError, match="directory"):
        write(changes)
    assert files(here) == ["old"]
    assert (here / "old").read_text() == "before"
    assert not (here / "deep").exists()
