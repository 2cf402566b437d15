"""Bring the schema `tasker` of a database to the version of this program.

Tables change by numbered files, each applied once, its checksum remembered.
Functions and views have no history: an upgrade drops them all, changes the tables,
and creates them anew from the SQL files of the engine, in one transaction. So a
migration never meets a function that expects the table as it was, and never
creates one.

The engine's files are created in the order of their names; a file that needs others
first says so in its first line: `-- needs: clock.sql finish.sql`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from tasker_core.errors import MigrationChanged, SchemaInUse, SchemaOutOfDate, SchemaTooNew

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tasker_core.db.connect import Connection

MIGRATIONS = resources.files("tasker_core") / "db" / "migrations"
FUNCTIONS = resources.files("tasker_core") / "engine"

_LOCK = 0x7461736B6572  # "tasker"; one upgrade at a time in a database

_BOOKS = """
create table if not exists tasker.schema_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
);
create table if not exists tasker.schema_functions (
    only_row bool primary key default true check (only_row),
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
);
"""

# What an extension brought is not ours.
_OURS = """
with ours as (
    select 'pg_class'::regclass as class, c.oid, 'view' as kind, c.oid::regclass::text as name
    from pg_class as c
    where c.relnamespace = to_regnamespace('tasker') and c.relkind = 'v'
    union all
    select 'pg_proc'::regclass, p.oid, 'routine', p.oid::regprocedure::text
    from pg_proc as p
    where p.pronamespace = to_regnamespace('tasker')
      and not exists (
          select from pg_depend as d
          where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
      )
)
"""

# Views and functions may need each other both ways: cascade goes through them.
_DROPS = f"""
{_OURS}
select string_agg(format('drop %s if exists %s cascade;', kind, name), ' ' order by kind desc, name)
from ours
"""

# What cascade would take beside them. Triggers on our tables come back with the functions.
_DEPENDENTS = f"""
{_OURS}, part as (
    select class, oid from ours
    union all
    select 'pg_type'::regclass, t.oid from ours join pg_type as t on t.typrelid = ours.oid
    union all
    select 'pg_rewrite'::regclass, r.oid from ours join pg_rewrite as r on r.ev_class = ours.oid
    union all
    select 'pg_trigger'::regclass, t.oid
    from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
    where c.relnamespace = to_regnamespace('tasker')
)
select distinct pg_describe_object(d.classid, d.objid, d.objsubid)
from pg_depend as d
join part on d.refclassid = part.class and d.refobjid = part.oid
where d.deptype = 'n'
  and not exists (select from part where part.class = d.classid and part.oid = d.objid)
order by 1
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return _checksum(self.sql)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What a database has, beside what this program needs."""

    found: int  # 0: no schema
    wanted: int
    pending: tuple[str, ...]  # names of the migrations still to apply
    functions_current: bool

    @property
    def current(self) -> bool:
        """Whether the program can work with the database as it is."""
        return self.found == self.wanted and not self.pending and self.functions_current


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did."""

    before: int  # 0: there was no schema
    after: int
    applied: tuple[str, ...]
    functions_replaced: bool


# --- what a caller asks for -----------------------------------------------------------


async def status(
    conn: Connection, *, migrations: Traversable = MIGRATIONS, functions: Traversable = FUNCTIONS
) -> SchemaStatus:
    """Compare the database with this program; changes nothing.

    Raises:
        MigrationChanged: A file is not the one that was applied.
    """
    known = read_migrations(migrations)
    applied, checksum = await _read_books(conn)
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationChanged(migration.name)
    return SchemaStatus(
        found=max(applied, default=0),
        wanted=max((migration.version for migration in known), default=0),
        pending=tuple(m.name for m in known if m.version not in applied),
        functions_current=checksum == _checksum_of_functions(read_functions(functions)),
    )


async def check(
    conn: Connection, *, migrations: Traversable = MIGRATIONS, functions: Traversable = FUNCTIONS
) -> None:
    """Refuse to start on a schema that is not this program's.

    Raises:
        SchemaOutOfDate: It is older, or has the functions of another build.
        SchemaTooNew: It is newer.
        MigrationChanged: A file is not the one that was applied.
    """
    now = await status(conn, migrations=migrations, functions=functions)
    _refuse_newer(now)
    if not now.current:
        raise SchemaOutOfDate(now.found, now.wanted)


async def upgrade(
    conn: Connection, *, migrations: Traversable = MIGRATIONS, functions: Traversable = FUNCTIONS
) -> Upgrade:
    """Apply what is missing, all or nothing; touches nothing if nothing is missing.

    Several processes may call it at once: one works, the others wait and find it done.

    Raises:
        SchemaTooNew: The database is newer; it is left as it is.
        MigrationChanged: A file is not the one that was applied.
        SchemaInUse: Views, defaults or the like of the user's need our functions or views.
    """
    async with _alone(conn):
        before = await status(conn, migrations=migrations, functions=functions)
        _refuse_newer(before)
        if before.current:
            return Upgrade(before.found, before.found, (), functions_replaced=False)
        await _open_books(conn)
        await _drop_functions(conn)
        for migration in read_migrations(migrations):
            if migration.name in before.pending:
                await _apply(conn, migration)
        await _create_functions(conn, read_functions(functions))
        return Upgrade(before.found, before.wanted, before.pending, functions_replaced=True)


# --- the files ------------------------------------------------------------------------


def read_migrations(directory: Traversable) -> list[Migration]:
    """Read `0001_name.sql`, `0002_name.sql` … in the order of their numbers.

    Raises:
        ValueError: A file has no number, or two have the same.
    """
    found: dict[int, Migration] = {}
    for file in _sql_files(directory):
        number = re.match(r"\d+(?=_)", file.name)
        if number is None:
            raise ValueError(f"migration {file.name} must be named like 0001_tables.sql")
        migration = Migration(int(number[0]), file.name.removesuffix(".sql"), _read(file))
        if migration.version in found:
            raise ValueError(f"two migrations have the number {migration.version}")
        found[migration.version] = migration
    return [found[version] for version in sorted(found)]


def read_functions(directory: Traversable) -> dict[str, str]:
    """Read the engine's SQL files by name, each after the files that it needs.

    Raises:
        ValueError: A file needs one that is not there, or two need each other.
    """
    texts = {file.name: _read(file) for file in _sql_files(directory)}
    return {name: texts[name] for name in _in_order(texts)}


def _in_order(texts: Mapping[str, str]) -> list[str]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, text in texts.items():
        needs = re.match(r"-- needs:(.*)", text)
        needed = needs[1].split() if needs else []
        for other in needed:
            if other not in texts:
                raise ValueError(f"{name} needs {other}, which is not there")
        sorter.add(name, *needed)
    sorter.prepare()
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return ordered


def _sql_files(directory: Traversable) -> Iterator[Traversable]:
    files = (file for file in directory.iterdir() if file.name.endswith(".sql"))
    yield from sorted(files, key=lambda file: file.name)


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8").replace("\r\n", "\n")


def _checksum(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _checksum_of_functions(texts: Mapping[str, str]) -> str:
    return _checksum(*(part for item in texts.items() for part in item))


# --- the database ---------------------------------------------------------------------


@asynccontextmanager
async def _alone(conn: Connection) -> AsyncIterator[None]:
    # What others committed while this one waited for the lock must be seen.
    inside = conn.is_in_transaction()  # then the caller has chosen already
    async with conn.transaction(isolation=None if inside else "read_committed"):
        await conn.execute("select pg_advisory_xact_lock($1)", _LOCK)
        yield


async def _read_books(conn: Connection) -> tuple[dict[int, str], str | None]:
    """Give the checksums of the applied migrations by version, and the functions'."""
    if await conn.fetchval("select to_regclass('tasker.schema_migrations')") is None:
        return {}, None
    rows = await conn.fetch("select version, checksum from tasker.schema_migrations")
    functions = await conn.fetchval("select checksum from tasker.schema_functions")
    return {row["version"]: row["checksum"] for row in rows}, functions


async def _open_books(conn: Connection) -> None:
    # Asked first: "if not exists" wants the right to create even when it exists.
    if await conn.fetchval("select to_regnamespace('tasker')") is None:
        await conn.execute("create schema tasker")
    await conn.execute("set local client_min_messages = warning")
    await conn.execute(_BOOKS)


async def _drop_functions(conn: Connection) -> None:
    dependents = await conn.fetch(_DEPENDENTS)
    if dependents:
        raise SchemaInUse([row[0] for row in dependents])
    drops: str | None = await conn.fetchval(_DROPS)
    if drops is not None:
        await conn.execute(drops)


async def _apply(conn: Connection, migration: Migration) -> None:
    await conn.execute(migration.sql)
    await conn.execute(
        "insert into tasker.schema_migrations (version, name, checksum) values ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )


async def _create_functions(conn: Connection, texts: Mapping[str, str]) -> None:
    for text in texts.values():
        await conn.execute(text)
    await conn.execute(
        """
        insert into tasker.schema_functions (checksum) values ($1)
        on conflict (only_row) do update
        set checksum = excluded.checksum, applied_at = excluded.applied_at
        """,
        _checksum_of_functions(texts),
    )


def _refuse_newer(now: SchemaStatus) -> None:
    if now.found > now.wanted:
        raise SchemaTooNew(now.found, now.wanted)
