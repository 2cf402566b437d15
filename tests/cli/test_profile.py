"""`tasker-ctl profile`: what there is, what it comes to, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FILE = """
[profile.default.orchestration]
base_url = "http://here:1"
timeout_ms = 5000

[profile.live]
description = "what counts"
orchestration.auth.method = {type = "ApiKey", value = {key_env = "LIVE_KEY"}}

[profile.old.orchestration.auth.method]
type = "BearerToken"
value = "the-secret"
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, and none of the user's own."""
    path = tmp_path / ".config" / "tasker.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    return path


def test_list_and_show_without_secrets(ctl, file: Path):
    """What the default says counts for each; a secret is only said to be there."""
    listed = ctl("profile", "list", "--json", env={"TASKER_CLIENT_PROFILE": "live"})
    found = {one["name"]: one for one in json.loads(listed.stdout)["items"]}
    shown = ctl("profile", "show", "live", "--json")

    assert json.loads(listed.stdout)["file"] == str(file)
    assert {name: one["in_use"] for name, one in found.items()} == {
        "default": False,
        "live": True,
        "old": False,
    }
    assert found["old"]["credential"] == "token, in the file"
    assert "the-secret" not in listed.stdout + ctl("profile", "list").stdout
    told = json.loads(shown.stdout)
    assert (told["base_url"], told["timeout_ms"]) == ("http://here:1", 5000)
    assert told["credential"] == "API key, from LIVE_KEY"


def test_validate_tells_each_that_cannot_be_used(ctl, file: Path):
    """A variable that is not set, too; the exit code is for scripts."""
    done = ctl("profile", "validate", "--json")
    told = {one["name"]: one for one in json.loads(done.stdout)["items"]}
    mended = ctl("profile", "validate", env={"LIVE_KEY": "x"})

    assert (done.exit_code, mended.exit_code) == (3, 0)
    assert {name: one["valid"] for name, one in told.items()} == {
        "default": True,
        "live": False,
        "old": True,
    }
    assert "LIVE_KEY, which is not set" in told["live"]["problem"]


def test_what_is_not_there(ctl, file: Path):
    """A profile, or the file; and a file that is none is told, not traced."""
    nobody = ctl("profile", "show", "nobody")
    file.write_text("[profile")
    broken = ctl("profile", "list")
    file.unlink()
    none = ctl("profile", "list", "--json")

    assert (nobody.exit_code, broken.exit_code, none.exit_code) == (4, 2, 0)
    assert "there are: default, live, old" in nobody.stderr
    assert str(file) in broken.stderr.replace("\n", "")
    assert json.loads(none.stdout)["items"] == []
