"""`tasker-ctl config`: the settings, where each comes from, and what each is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest

from tasker_core.settings import Settings

Run = Callable[..., object]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the test's own."""
    monkeypatch.chdir(tmp_path)


def test_every_setting_with_where_it_comes_from(ctl, tmp_path: Path):
    """File, variable, or default; a password is never shown."""
    (tmp_path / "tasker.toml").write_text("worker_concurrency = 7\nlease_seconds = 9\n")
    env = {
        "TASKER_LEASE_SECONDS": "11",
        "DATABASE_URL": "postgresql://me:secret@db/shop",
        "TASKER_EVENTS_URL": "amqp://me:secret@broker/",
    }
    done = ctl("config", "show", "--json", env=env)
    told = json.loads(done.stdout)
    shown = ctl("config", "show", "--changed", env=env)

    assert list(told) == list(Settings.model_fields)
    assert told["worker_concurrency"] == {"value": 7, "source": "tasker.toml"}
    assert told["lease_seconds"] == {"value": 11, "source": "TASKER_LEASE_SECONDS"}
    assert told["server_port"] == {"value": 8080, "source": "default"}
    assert told["database_url"]["value"] == "postgresql://me:***@db/shop"
    assert told["database_url"]["source"] == "DATABASE_URL"
    assert "secret" not in done.output + shown.output
    assert "server_port" not in shown.stdout
    assert "lease_seconds" in shown.stdout


def test_one_setting_explained(ctl):
    """By its name or its variable; a slip of the pen is answered with the nearest."""
    for name in ("max_enqueued_steps", "TASKER_MAX_ENQUEUED_STEPS"):
        told = json.loads(ctl("config", "explain", name, "--json").stdout)
        assert told["setting"] == "max_enqueued_steps"
        assert told["bounds"] == "integer, at least 1, at most 100000"
        assert (told["default"], told["value"], told["source"]) == ("unset", None, "default")
        assert "takes no more tasks" in told["description"]
    unknown = ctl("config", "explain", "worker_conurrency")

    assert unknown.exit_code == 4
    assert "did you mean worker_concurrency?" in unknown.stderr


def test_what_is_wrong_is_told_whole(ctl, tmp_path: Path):
    """Every problem with its place, exit code 3; a file that is right is 0."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("worker_conurrency = 7\nserver_port = 99999\n")
    right = tmp_path / "right.toml"
    right.write_text("server_port = 80\n")
    refused = ctl("config", "validate", "--config", wrong, env={"TASKER_CONFIG": ""})
    missing = ctl("config", "validate", "-c", tmp_path / "none", env={"TASKER_CONFIG": ""})
    taken = ctl("config", "validate", "-c", right, "--json", env={"TASKER_CONFIG": ""})

    assert (refused.exit_code, missing.exit_code, taken.exit_code) == (3, 3, 0)
    assert "did you mean worker_concurrency?" in refused.stderr
    assert "server_port is 99999 (from" in refused.stderr
    assert json.loads(taken.stdout) == {"valid": True, "given": ["server_port"]}


def test_the_schema_takes_what_the_settings_take(ctl):
    """A JSON Schema that knows every name, and refuses others."""
    schema = json.loads(ctl("config", "schema").stdout)
    check = jsonschema_rs.validator_for(schema)

    assert schema["properties"].keys() == Settings.model_fields.keys()
    assert check.is_valid({"worker_concurrency": 7, "namespaces": ["shop"], "worker_port": 0})
    assert not check.is_valid({"worker_conurrency": 7})
    assert not check.is_valid({"server_port": 99_999})
