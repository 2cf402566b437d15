"""The guide about tests of workflows: every file saved as it says, and its tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tasker_core.testing import mocks

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "test-a-workflow.md"


def test_the_tests_of_the_page_pass(tmp_path, tasker_database):
    """Each block is saved under the name above it; pytest in that directory is content."""
    page = PAGE.read_text("utf-8")
    blocks = re.findall(r"Save this as `([\w./]+)`:\n\n```\w+\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == len(re.findall(r"^```(?:python|yaml|ini)$", page, re.M))
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *["-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"],
        ],
        cwd=tmp_path,
        env={**os.environ, "TASKER_TEST_DATABASE_URL": tasker_database.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(text.count("\ndef test_") + text.startswith("def test_") for _, text in blocks)
    assert f"{tests} passed" in done.stdout


def test_the_page_names_every_simulated_outcome():
    """REAL, TIMES_OUT and WORKER_LOST stand in the table."""
    page = PAGE.read_text("utf-8")

    assert all(f"| `{one.name}` |" in page for one in mocks.Simulated)
