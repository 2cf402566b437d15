"""Take back what was dropped: expired leases, and delayed steps that nobody enqueued.

Then end what is over its time, see staleness.py.

Every server and every worker runs it now and then; one at a time does the work.
"""

from __future__ import annotations

from tasker_core.db.connect import Connection


async def sweep(conn: Connection) -> int:
    """Take back the steps whose worker let its lease run out, and say how many.

    Tasks that are over a limit of their template are ended, or put aside, after that.
    """
    taken_back: int = await conn.fetchval("select tasker.sweep()")
    return taken_back
