"""Take back what was dropped: expired leases, and delayed steps that nobody enqueued.

Then end what is over its time, see staleness.py.

Every server and every worker runs it now and then; one at a time does the work.
"""

from __future__ import annotations

import structlog

from tasker_core.db.connect import Connection

TOLD_TASKS = 10

_log = structlog.get_logger("tasker.engine")


async def sweep(conn: Connection) -> int:
    """Take back the steps whose worker let its lease run out, and say how many.

    Tasks that are over a limit of their template are ended, or put aside, after that, which
    is logged: how many, and the first of them.
    """
    row = await conn.fetchrow("select * from tasker.sweep()")
    assert row is not None
    ended, filed = row["ended_tasks"], row["filed_tasks"]
    if ended or filed:
        over = list(dict.fromkeys([*ended, *filed]))
        _log.warning(
            "tasks_over_limit",
            ended=len(ended),
            put_aside=len(filed),
            task_uuids=[str(task_uuid) for task_uuid in over[:TOLD_TASKS]],
        )
    taken_back: int = row["taken_back"]
    return taken_back
