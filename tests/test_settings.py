"""File and environment become one checked object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasker_core.errors import InvalidSettings
from tasker_core.settings import Settings, safe_url, variable


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path, monkeypatch):
    """Begin each test in an empty directory, with no variable of ours set."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("TASKER_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def problems(**given: object) -> list[str]:
    """Give what is wrong with the settings as they are."""
    with pytest.raises(InvalidSettings) as caught:
        Settings(**given)
    return list(caught.value.problems)


def test_defaults():
    """With nothing set, everything has a value that works on a laptop."""
    settings = Settings()

    assert settings.database_url is None
    assert settings.home == Path(".tasker")
    assert settings.environment == "development"
    assert (settings.server_host, settings.server_port) == ("127.0.0.1", 8080)
    assert settings.worker_concurrency == 20
    assert settings.handler_timeout_seconds is None
    assert settings.namespaces is None


def test_later_sources_win(monkeypatch):
    """Arguments beat the environment, which beats the file, which beats the defaults."""
    Path("tasker.toml").write_text(
        "server_port = 1\nworker_concurrency = 1\nlease_seconds = 1\n", encoding="utf-8"
    )
    monkeypatch.setenv("TASKER_SERVER_PORT", "2")
    monkeypatch.setenv("TASKER_WORKER_CONCURRENCY", "2")

    settings = Settings(server_port=3)

    assert settings.server_port == 3
    assert settings.worker_concurrency == 2
    assert settings.lease_seconds == 1
    assert settings.poll_seconds == 5


def test_the_file_may_lie_elsewhere(tmp_path, monkeypatch):
    """TASKER_CONFIG names it, and then it must be there."""
    monkeypatch.setenv("TASKER_CONFIG", str(tmp_path / "other.toml"))
    assert "other.toml" in problems()[0]

    (tmp_path / "other.toml").write_text('namespaces = ["shop"]', encoding="utf-8")
    assert Settings().namespaces == ("shop",)


def test_the_plain_variable_and_ours(monkeypatch):
    """DATABASE_URL is what hosters set; the more particular name overrules it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://one/db")
    assert Settings().database_url == "postgresql://one/db"

    monkeypatch.setenv("TASKER_DATABASE_URL", "postgresql://two/db")
    assert Settings().database_url == "postgresql://two/db"


def test_lists_in_variables_have_commas(monkeypatch):
    """Spaces around them do not count."""
    monkeypatch.setenv("TASKER_NAMESPACES", "shop, billing")

    assert Settings().namespaces == ("shop", "billing")


def test_an_empty_variable_is_unset(monkeypatch):
    """Compose files set variables to nothing."""
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("TASKER_SERVER_PORT", "")

    assert Settings() == Settings(database_url=None, server_port=8080)


def test_an_unknown_key_in_the_file():
    """A slip of the pen is answered with what was probably meant."""
    Path("tasker.toml").write_text("worker_concurency = 5", encoding="utf-8")

    assert problems() == [
        "there is no setting worker_concurency (from tasker.toml); did you mean worker_concurrency?"
    ]


def test_an_unknown_variable(monkeypatch):
    """So is one in a variable's name."""
    monkeypatch.setenv("TASKER_LEASE_SECOND", "5")

    assert problems() == [
        "there is no variable TASKER_LEASE_SECOND; did you mean TASKER_LEASE_SECONDS?"
    ]


def test_variables_that_others_read(monkeypatch):
    """The client's variables are not ours to judge."""
    monkeypatch.setenv("TASKER_API_KEY", "key")
    monkeypatch.setenv("TASKER_CLIENT_PROFILE", "staging")

    Settings()


def test_a_wrong_value_names_its_source(monkeypatch):
    """Each problem has the key, the value, where it came from, and what it must be."""
    Path("tasker.toml").write_text("server_port = 70000", encoding="utf-8")
    monkeypatch.setenv("TASKER_WORKER_CONCURRENCY", "many")

    assert problems(poll_seconds=0) == [
        "server_port is 70000 (from tasker.toml), but must be less than or equal to 65535",
        "worker_concurrency is 'many' (from TASKER_WORKER_CONCURRENCY), but must be a valid "
        "integer, unable to parse string as an integer",
        "poll_seconds is 0 (from Settings(poll_seconds=…)), but must be greater than 0",
    ]


def test_a_database_of_another_kind():
    """Only PostgreSQL; and the password is not shown."""
    [problem] = problems(database_url="mysql://me:secret@db/app")

    assert "mysql://me:***@db/app" in problem
    assert "postgresql://" in problem


def test_a_database_url_that_no_parser_understands():
    """It is refused like any other wrong value."""
    [problem] = problems(database_url="postgresql://me:secret@[db/app")

    assert "secret" not in problem


def test_a_file_that_is_not_toml():
    """The line is named."""
    Path("tasker.toml").write_text("a = 1\nb = = 2\n", encoding="utf-8")

    assert "line 2" in problems()[0]


def test_the_password_is_not_in_the_repr():
    """A log of the settings gives nothing away."""
    assert "secret" not in repr(Settings(database_url="postgresql://me:secret@db/app"))


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://me@db/app", "postgresql://me@db/app"),
        ("postgresql://me:p@ss:word@db:5432/app", "postgresql://me:***@db:5432/app"),
        (
            "postgresql://db/app?user=me&password=x&a=b",
            "postgresql://db/app?user=me&password=***&a=b",
        ),
        ("postgresql://me@/app?host=/run/pg", "postgresql://me@/app?host=/run/pg"),
        ("postgresql://me:a/b#c?d@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me:secret@[db/app", "postgresql://me:***@[db/app"),
        ("host=db password=secret", "host=db password=***"),
    ],
)
def test_safe_urls(url, safe):
    """Only the password is taken out."""
    assert safe_url(url) == safe


def test_every_setting_is_described():
    """The reference page and the help are made from these descriptions."""
    assert all(field.description for field in Settings.model_fields.values())


def test_variable_names_are_distinct():
    """No two settings share a variable."""
    names = [variable(field) for field in Settings.model_fields]

    assert len(set(names)) == len(names)
