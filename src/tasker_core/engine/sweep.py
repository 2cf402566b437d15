"""Take back what was dropped: expired leases, and delayed steps that nobody enqueued.

Every server and every worker runs it now and then; one at a time does the work.
"""

from __future__ import annotations

from tasker_core.db.connect import Connection


async def sweep(conn: Connection) -> int:
    """Take back the steps whose worker let its lease run out; say how many."""
    taken_back: int = await conn.fetchval("select tasker.sweep()")
    return taken_back
