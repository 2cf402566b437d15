"""The schema's way from one version to the next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tasker_core.db import migrate
from tasker_core.db.migrate import SchemaStatus, Upgrade
from tasker_core.errors import (
    MigrationChanged,
    SchemaInUse,
    SchemaOutOfDate,
    SchemaTooNew,
)

FIRST = "create table tasker.things (id int primary key, name text);"
SECOND = "alter table tasker.things add column size int;"
NAMES = """
create function tasker.names() returns setof text
language sql as $$ select name from tasker.things $$;
"""


class Build:
    """The SQL files of one build of the program."""

    def __init__(self, directory: Path) -> None:
        self.migrations = directory / "migrations"
        self.functions = directory / "engine"
        self.migrations.mkdir()
        self.functions.mkdir()
        (self.migrations / "0001_things.sql").write_text(FIRST)
        (self.functions / "names.sql").write_text(NAMES)

    def add_migration(self, name: str, sql: str) -> None:
        (self.migrations / name).write_text(sql)

    def add_functions(self, name: str, sql: str) -> None:
        (self.functions / name).write_text(sql)

    async def upgrade(self, conn) -> Upgrade:
        return await migrate.upgrade(conn, migrations=self.migrations, functions=self.functions)

    async def status(self, conn) -> SchemaStatus:
        return await migrate.status(conn, migrations=self.migrations, functions=self.functions)

    async def check(self, conn) -> None:
        await migrate.check(conn, migrations=self.migrations, functions=self.functions)


@pytest.fixture
def build(tmp_path):
    """Give a build with one table and one function."""
    return Build(tmp_path)


# --- upgrade --------------------------------------------------------------------------


async def test_an_empty_database_gets_everything(conn, build):
    """Tables and functions are there, and the books say so."""
    assert await build.status(conn) == SchemaStatus(0, 1, ("0001_things",), False)

    assert await build.upgrade(conn) == Upgrade(0, 1, ("0001_things",), functions_replaced=True)

    assert await conn.fetch("select * from tasker.names()") == []
    assert await build.status(conn) == SchemaStatus(1, 1, (), True)
    await build.check(conn)


async def test_a_second_upgrade_touches_nothing(conn, build):
    """What is current stays: the function is still the same object."""
    await build.upgrade(conn)
    before = await conn.fetchval("select 'tasker.names()'::regprocedure::oid")

    assert await build.upgrade(conn) == Upgrade(1, 1, (), functions_replaced=False)

    assert await conn.fetchval("select 'tasker.names()'::regprocedure::oid") == before


async def test_only_what_is_missing_is_applied(conn, build):
    """The first migration is not run again when the second comes."""
    await build.upgrade(conn)
    await conn.execute("insert into tasker.things values (1, 'kept')")
    build.add_migration("0002_size.sql", SECOND)

    assert await build.upgrade(conn) == Upgrade(1, 2, ("0002_size",), functions_replaced=True)

    assert await conn.fetchval("select name from tasker.things where size is null") == "kept"


async def test_functions_are_replaced_by_those_of_the_build(conn, build):
    """One that the build no longer has is gone; one with another result type is new."""
    build.add_functions("old.sql", "create function tasker.old() returns int return 1;")
    await build.upgrade(conn)
    (build.functions / "old.sql").unlink()
    build.add_functions("names.sql", NAMES.replace("setof text", "text"))

    await build.upgrade(conn)

    assert await conn.fetchval("select to_regproc('tasker.old')") is None
    assert not await conn.fetchval(
        "select proretset from pg_proc where oid = 'tasker.names'::regproc"
    )


async def test_views_and_functions_that_need_each_other_are_replaced(conn, build):
    """A view may call a function and a function may return a view's rows."""
    build.add_functions(
        "a_view.sql",
        "-- needs: names.sql\ncreate view tasker.named as select * from tasker.names() as name;",
    )
    build.add_functions(
        "b_rows.sql",
        "-- needs: a_view.sql\n"
        "create function tasker.rows() returns setof tasker.named\n"
        "language sql as $$ select * from tasker.named $$;",
    )
    await build.upgrade(conn)
    build.add_migration("0002_size.sql", SECOND)

    await build.upgrade(conn)

    assert await conn.fetch("select * from tasker.rows()") == []


async def test_a_failed_upgrade_leaves_everything_as_it_was(conn, build):
    """A mistake in the last file takes back the first migration too."""
    await build.upgrade(conn)
    build.add_migration("0002_size.sql", SECOND)
    build.add_functions("wrong.sql", "create function tasker.wrong() returns nonsense return 1;")

    with pytest.raises(asyncpg.UndefinedObjectError):
        await build.upgrade(conn)

    assert await conn.fetch("select * from tasker.names()") == []
    assert (await build.status(conn)).found == 1


async def test_upgrades_at_once_are_one_upgrade(database, build):
    """Several processes that start together do the work once, and all find it done."""
    build.add_migration("0002_size.sql", SECOND)
    conns = [await database.connect("test") for _ in range(4)]

    upgrades = await asyncio.gather(*(build.upgrade(conn) for conn in conns))

    assert sorted(u.before for u in upgrades) == [0, 2, 2, 2]
    assert {u.after for u in upgrades} == {2}
    for conn in conns:
        await conn.close()


async def test_an_upgrade_with_nothing_to_do_waits_for_nobody(database, conn, build):
    """A transaction that reads the tables does not hold it up."""
    await build.upgrade(conn)
    reader = await database.connect("test")
    async with reader.transaction():
        await reader.fetch("select * from tasker.names()")
        await conn.execute("set lock_timeout = '1ms'")

        assert not (await build.upgrade(conn)).functions_replaced
    await reader.close()


async def test_an_upgrade_inside_the_callers_transaction_goes_back_with_it(conn, build):
    """Whoever begins the transaction decides."""
    transaction = conn.transaction()
    await transaction.start()
    await build.upgrade(conn)
    await transaction.rollback()

    assert (await build.status(conn)).found == 0


@pytest.mark.parametrize(
    ("dependent", "named"),
    [
        ("create view public.mine as select * from tasker.names()", "view mine"),
        ("create table public.t (x text default tasker.first())", "default value"),
        ("create table public.t (x int check (tasker.first() is null))", "constraint"),
        ("create view public.mine as select * from tasker.named", "view mine"),
    ],
)
async def test_what_the_user_built_upon_us_is_not_dropped(conn, build, dependent, named):
    """The upgrade is refused with the names of what it would have taken along."""
    build.add_functions(
        "more.sql",
        "create view tasker.named as select name from tasker.things;"
        "create function tasker.first() returns text language sql as"
        " $$ select min(name) from tasker.things $$;",
    )
    await build.upgrade(conn)
    await conn.execute(dependent)
    build.add_migration("0002_size.sql", SECOND)

    with pytest.raises(SchemaInUse, match=named):
        await build.upgrade(conn)

    assert (await build.status(conn)).found == 1


async def test_triggers_come_back_with_their_functions(conn, build):
    """An engine file may hang a function on a table of ours."""
    build.add_functions(
        "trigger.sql",
        "create function tasker.note() returns trigger language plpgsql as"
        " $$ begin new.name := 'noted'; return new; end $$;"
        "create trigger note before insert on tasker.things"
        " for each row execute function tasker.note();",
    )
    await build.upgrade(conn)
    build.add_migration("0002_size.sql", SECOND)

    await build.upgrade(conn)

    assert await conn.fetchval("insert into tasker.things values (1) returning name") == "noted"


# --- check ----------------------------------------------------------------------------


async def test_a_database_without_a_schema(conn, build):
    """The advice is the command that creates it."""
    with pytest.raises(SchemaOutOfDate, match=r"no tasker schema.*tasker-ctl db upgrade"):
        await build.check(conn)


async def test_an_older_schema(conn, build):
    """Both versions are named."""
    await build.upgrade(conn)
    build.add_migration("0002_size.sql", SECOND)

    with pytest.raises(SchemaOutOfDate, match="version 1, this program needs version 2"):
        await build.check(conn)


async def test_the_functions_of_another_build(conn, build):
    """The same tables with other functions are out of date as well."""
    await build.upgrade(conn)
    build.add_functions("names.sql", NAMES + "-- changed")

    with pytest.raises(SchemaOutOfDate, match="functions of another build"):
        await build.check(conn)
    await build.upgrade(conn)
    await build.check(conn)


async def test_a_newer_schema(conn, build):
    """An older program neither starts on it nor takes it back."""
    build.add_migration("0002_size.sql", SECOND)
    await build.upgrade(conn)
    (build.migrations / "0002_size.sql").unlink()

    with pytest.raises(SchemaTooNew, match=r"version 2.*up to 1"):
        await build.check(conn)
    with pytest.raises(SchemaTooNew):
        await build.upgrade(conn)

    assert await conn.fetch("select size from tasker.things") == []


async def test_a_changed_migration(conn, build):
    """A file that was applied may not be another one now."""
    await build.upgrade(conn)
    build.add_migration("0001_things.sql", FIRST + "-- changed")

    with pytest.raises(MigrationChanged, match="0001_things"):
        await build.check(conn)
    with pytest.raises(MigrationChanged):
        await build.upgrade(conn)


async def test_line_endings_do_not_matter(conn, build):
    """A checkout with other line endings is the same build."""
    build.add_migration("0001_things.sql", FIRST + "\n")
    await build.upgrade(conn)
    for file in (build.migrations / "0001_things.sql", build.functions / "names.sql"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    await build.check(conn)


# --- the files ------------------------------------------------------------------------


def test_files_come_in_the_order_of_their_names_and_needs(tmp_path):
    """A file stands after those that it needs, and else where its name puts it."""
    texts = {"a.sql": "-- needs: c.sql d.sql", "b.sql": "", "c.sql": "-- needs: d.sql", "d.sql": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    assert list(migrate.read_functions(tmp_path)) == ["b.sql", "d.sql", "c.sql", "a.sql"]


def test_a_needed_file_that_is_not_there(tmp_path):
    """The message names both."""
    (tmp_path / "a.sql").write_text("-- needs: b.sql")

    with pytest.raises(ValueError, match=r"a\.sql needs b\.sql"):
        migrate.read_functions(tmp_path)


def test_files_that_need_each_other(tmp_path):
    """A ring has no order."""
    (tmp_path / "a.sql").write_text("-- needs: b.sql")
    (tmp_path / "b.sql").write_text("-- needs: a.sql")

    with pytest.raises(ValueError, match="cycle"):
        migrate.read_functions(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["0001_a.sql", "1_b.sql"], "number 1"), (["0001_a.sql", "b.sql"], r"b\.sql")],
)
def test_migrations_are_numbered(tmp_path, names, message):
    """A number given twice is refused, and so is a name without one."""
    for name in names:
        (tmp_path / name).write_text("")

    with pytest.raises(ValueError, match=message):
        migrate.read_migrations(tmp_path)


def test_no_migration_of_ours_makes_what_an_upgrade_drops():
    """Functions and views belong beside the engine: the next upgrade would drop them."""
    for migration in migrate.read_migrations(migrate.MIGRATIONS):
        words = " ".join(migration.sql.lower().split())
        for made in ("function", "procedure", "view", "aggregate"):
            assert f"create {made}" not in words
            assert f"create or replace {made}" not in words
