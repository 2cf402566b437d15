"""Profiles: which server, and with which credentials, under one name in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasker_core.client import TaskerClient
from tasker_core.client.profile import InvalidProfile, Profile, read_profile

FILE = """
[cli]
default-language = "python"

[profile.default]
description = "this machine"

[profile.default.orchestration]
base_url = "http://here:1"
timeout_ms = 5

[profile.default.orchestration.auth.method]
type = "BearerToken"
value = "the-default"

[profile.staging]
worker.base_url = "https://workers"
namespaces = ["shop"]
transport = "http"
orchestration.base_url = "https://staging"

[profile.slow.orchestration]
max_retries = 9

[profile.live.orchestration.auth.method]
type = "ApiKey"
value = {key_env = "LIVE_KEY", header_name = "X-Key"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in the directory above."""
    (tmp_path / ".config").mkdir()
    path = tmp_path / ".config" / "tasker.toml"
    path.write_text(FILE)
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    return path


def test_a_profile_counts_when_it_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To stand in a directory changes nothing; the default says what the others leave out."""
    assert read_profile() == Profile()
    assert read_profile("slow") == Profile(
        "http://here:1", token="the-default", timeout_ms=5, max_retries=9
    )
    staging = read_profile("staging")
    assert (staging.base_url, staging.token) == ("https://staging", None)  # it is not for it
    monkeypatch.setenv("TASKER_CLIENT_PROFILE", "live")
    monkeypatch.setenv("LIVE_KEY", "secret")
    live = read_profile()
    assert (live.token, live.api_key, live.api_key_header) == (None, "secret", "X-Key")
    assert read_profile("default").base_url == "http://here:1"


def test_the_users_own_file_comes_last(file: Path, tmp_path: Path) -> None:
    """Where there is none in the directories above."""
    (tmp_path / "own" / "tasker").mkdir(parents=True)
    file.rename(tmp_path / "own" / "tasker" / "client.toml")

    assert read_profile("staging").base_url == "https://staging"


def test_what_is_given_and_the_environment_beat_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each for itself: an address, a credential."""
    client = TaskerClient(profile="slow")
    assert (client.base_url, client._auth) == (
        "http://here:1",
        {"Authorization": "Bearer the-default"},
    )
    monkeypatch.setenv("TASKER_API_KEY", "key")
    assert TaskerClient(profile="slow")._auth == {"X-API-Key": "key"}
    monkeypatch.setenv("TASKER_URL", "http://elsewhere")
    assert TaskerClient(profile="staging").base_url == "http://elsewhere"
    assert TaskerClient(base_url="http://given", profile="staging").base_url == "http://given"


def test_patience_comes_from_the_profile_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given first, then the variable, then the profile, then a default."""

    def patience(**given: Any) -> tuple[float, int]:
        client = TaskerClient(base_url="http://here:1", **given)
        return client.timeout, client.max_retries

    assert patience() == (30, 3)
    assert patience(profile="slow") == (0.005, 9)
    monkeypatch.setenv("TASKER_ORCHESTRATION_TIMEOUT_MS", "1500")
    assert patience(profile="slow", max_retries=0) == (1.5, 0)
    assert patience(profile="slow", timeout=2) == (2, 9)
    monkeypatch.setenv("TASKER_ORCHESTRATION_TIMEOUT_MS", "soon")
    with pytest.raises(ValueError, match="TASKER_ORCHESTRATION_TIMEOUT_MS must be"):
        patience()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nobody", FILE, "it has: default, live, slow, staging"),
        ("live", FILE, "LIVE_KEY, which is not set"),
        ("a", "[profile.a]\norchestation = {}", "no orchestation; there are"),
        ("a", "[profile.a.orchestration]\nurl = 'x'", "no orchestration.url"),
        ("a", "[profile.a]\ntransport = 'grpc'", "must be rest"),
        ("a", "[profile.a]\norchestration = 3", "must be a table"),
        ("a", "[profile.a.orchestration.auth.method]\ntype = 'Basic'", "BearerToken or ApiKey"),
        (
            "a",
            "[profile.a.orchestration.auth.method]\ntype = 'ApiKey'\nvalue = {}",
            "key or key_env",
        ),
        ("a", "[profile.a.orchestration]\nbase_url = 'here'", "begin with http"),
        ("a", "[profile.a.orchestration]\ntimeout_ms = 0", "whole number from 1 to"),
        ("a", "[profile.a.orchestration]\nmax_retries = true", "whole number from 0 to"),
        ("a", "[profile.a.worker]\nurl = 'x'", "no worker.url"),
        ("a", "profile = 3", "must be tables"),
        ("a", "[profile.a", "cannot read"),
    ],
)
def test_what_makes_no_sense_is_told_with_the_file(
    file: Path, name: str, content: str, told: str
) -> None:
    """A slip of the pen is not a default."""
    file.write_text(content)
    with pytest.raises(InvalidProfile, match=told) as caught:
        read_profile(name)

    assert str(file) in str(caught.value)
    assert "the-default" not in str(caught.value)


def test_a_profile_without_a_file_is_told(file: Path) -> None:
    """With where it would be."""
    file.unlink()
    with pytest.raises(InvalidProfile, match=r"tasker\.toml"):
        read_profile("a")
