"""`tasker-ctl doctor`: look for what keeps work from moving."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg

from support.flows import begin_one, template
from tasker_core.engine.ids import new_uuid
from tasker_core.engine.lease import beat


def examine(ctl: Any, url: str) -> tuple[int, dict[str, Any]]:
    """Give the exit code, and the findings by check."""
    done = ctl("doctor", "--database-url", url, "--json")
    return done.exit_code, {one["check"]: one for one in json.loads(done.stdout)["checks"]}


def test_a_healthy_database(ctl: Any, clean_database: str) -> None:
    """Exit code 0, and every check named."""

    async def live() -> None:
        conn = await asyncpg.connect(clean_database)
        await beat(conn, new_uuid(), host="h", pid=1, version="1", concurrency=1, lanes=[])
        await conn.close()

    asyncio.run(live())
    code, found = examine(ctl, clean_database)
    lost = found.pop("settings")

    assert {one["status"] for one in found.values()} == {"healthy"}, found
    assert code == (3 if lost["message"] else 0)  # the test's server may not sync
    assert "tasker." not in (lost["message"] or "")
    assert list(found) == [
        *("database", "schema", "alive", "workers", "sweep", "events", "transactions")
    ]


def test_what_is_wrong_is_named(ctl: Any, clean_database: str) -> None:
    """Starved steps, no worker, and a hot table that lost what keeps it small."""

    async def spoil(statement: str) -> None:
        conn = await asyncpg.connect(clean_database)
        if "reset" in statement:
            await begin_one(conn, template(callables={"a": "shop.charge"}))
        await conn.execute(statement)
        await conn.close()

    asyncio.run(spoil("alter table tasker.ready reset (autovacuum_vacuum_threshold)"))
    try:
        code, found = examine(ctl, clean_database)
    finally:
        asyncio.run(spoil("alter table tasker.ready set (autovacuum_vacuum_threshold = 2000)"))

    assert code == 3
    assert found["alive"]["message"] == "no worker is alive"
    assert "shop.charge" in found["workers"]["message"]
    assert "tasker.ready has lost its autovacuum settings" in found["settings"]["message"]


def test_a_database_without_a_schema(ctl: Any, empty_database: str) -> None:
    """That is the finding; the rest cannot be asked."""
    code, found = examine(ctl, empty_database)

    assert code == 3
    assert list(found) == ["database", "schema"]
    assert found["schema"]["status"] == "unhealthy"
