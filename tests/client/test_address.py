"""Which server, and with which credentials."""

from __future__ import annotations

import pytest

from tasker_core.client import TaskerClient
from tasker_core.client.address import auth_headers, resolve_url


def test_without_anything_it_is_this_machine() -> None:
    """Port 8080, as the server has it."""
    assert resolve_url(None) == "http://localhost:8080"
    assert auth_headers(None, None) == {}


def test_what_is_given_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the names in the environment have their order."""
    monkeypatch.setenv("ORCHESTRATION_URL", "http://third")
    third = resolve_url(None)
    monkeypatch.setenv("TASKER_ORCHESTRATION_URL", "http://second")
    second = resolve_url(None)
    monkeypatch.setenv("TASKER_URL", "https://first:1/")
    first = resolve_url(None)

    assert (third, second, first) == ("http://third", "http://second", "https://first:1")
    assert resolve_url("http://given/tasker/") == "http://given/tasker"


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "/v1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """At once, not with the first call."""
    with pytest.raises(ValueError, match="base_url"):
        TaskerClient(base_url=url)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """So one knows where to look."""
    monkeypatch.setenv("ORCHESTRATION_URL", "nowhere")
    with pytest.raises(ValueError, match="ORCHESTRATION_URL"):
        TaskerClient()


def test_a_token_beats_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given or found; what is given beats what is found."""
    monkeypatch.setenv("TASKER_API_KEY", "key")
    assert auth_headers(None, None) == {"X-API-Key": "key"}
    monkeypatch.setenv("TASKER_API_KEY_HEADER", "X-Key")
    assert auth_headers(None, None) == {"X-Key": "key"}
    monkeypatch.setenv("TASKER_AUTH_TOKEN", "token")
    assert auth_headers(None, None) == {"Authorization": "Bearer token"}
    assert auth_headers("mine", None) == {"X-Key": "mine"}
    assert auth_headers("mine", "own") == {"Authorization": "Bearer own"}
