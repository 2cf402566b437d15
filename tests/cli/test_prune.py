"""`tasker-ctl db prune`."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from support.flows import Worker, begin, template
from tasker_core.db.migrate import upgrade

STRICT = template(identity_strategy="strict")


@pytest.fixture
def old_tasks(empty_database):
    """Three tasks that ended three days ago and one that has not; gives the database."""

    async def fill() -> None:
        conn = await asyncpg.connect(empty_database)
        await upgrade(conn)
        worker = Worker(conn)
        for number in range(3):
            await begin(conn, STRICT, context={"n": number})
        await worker.succeed(*await worker.claim())
        await conn.execute("update tasker.tasks set completed_at = now() - interval '3 days'")
        ids = "overlay(task_uuid::text placing '01900000-0000' from 1)::uuid"
        for table in ("tasks", "steps", "attempts", "changes"):
            await conn.execute(f"update tasker.{table} set task_uuid = {ids}")
        await begin(conn, STRICT, context={"n": 3})
        await conn.close()

    asyncio.run(fill())
    return empty_database


def count(url: str, table: str) -> int:
    async def ask() -> int:
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetchval(f"select count(*) from tasker.{table}")
        finally:
            await conn.close()

    return asyncio.run(ask())


def test_a_dry_run_says_what_would_be_deleted(ctl_process, old_tasks):
    """It deletes nothing; then the same tasks go, and no others."""
    prune = ("db", "prune", "--older-than", "2d", "--database-url", old_tasks)

    dry = ctl_process(*prune, "--dry-run", "--json")
    told = json.loads(dry.stdout)
    age = datetime.now(UTC) - datetime.fromisoformat(told.pop("ended_before"))
    assert timedelta(days=2) < age < timedelta(days=2, minutes=2)
    assert told == {
        "older_than_days": 2.0,
        "dry_run": True,
        "keeps_identities": False,
        "tasks": 3,
    }
    assert count(old_tasks, "tasks") == 4

    refused = ctl_process(*prune)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert count(old_tasks, "tasks") == 4

    done = ctl_process(*prune, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"] == 3
    assert (count(old_tasks, "tasks"), count(old_tasks, "kept_identities")) == (1, 0)


def test_the_settings_say_how_old_and_whether_identities_are_kept(ctl_process, old_tasks):
    """Where the line does not."""
    settings = {"TASKER_RETENTION_DAYS": "2.5", "TASKER_RETENTION_KEEPS_IDENTITIES": "yes"}
    done = ctl_process("db", "prune", "--yes", DATABASE_URL=old_tasks, **settings)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^ended_before +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$", done.stdout, re.M)
    assert (count(old_tasks, "tasks"), count(old_tasks, "kept_identities")) == (1, 3)


@pytest.mark.parametrize("words", [(), ("--older-than", "1y"), ("--older-than", "1m")])
def test_without_an_age_nothing_is_deleted(ctl_process, words):
    """There is no default; the answer shows how to write one."""
    refused = ctl_process("db", "prune", *words, DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert refused.returncode == 2
    assert "30d" in refused.stderr
