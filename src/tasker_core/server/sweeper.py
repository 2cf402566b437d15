"""Sweep now and then, and let old tasks leave, whatever happens to the database."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from tasker_core.db.connect import Database, reconnect
from tasker_core.engine.retention import Retention
from tasker_core.engine.sweep import sweep
from tasker_core.errors import DatabaseUnreachable
from tasker_core.server.backend import Backend

_log = structlog.get_logger("tasker.server")


async def keep_sweeping(backend: Backend, database: Database, stop: asyncio.Event) -> None:
    """Sweep every `sweep_seconds` until `stop` is set; oftener while old tasks leave.

    While the database is away this is what waits for it, and starts an embedded server
    again; the requests just say that it is away.
    """
    retention = Retention(backend.settings)
    while not stop.is_set():
        wait = backend.settings.sweep_seconds
        try:
            async with backend.connection() as conn:
                taken_back = await sweep(conn)
                if taken_back:
                    _log.warning("steps_taken_back", steps=taken_back)
                    backend.taken_back += taken_back
                pruned, until_next_turn = await retention.turn(conn)
            if pruned:
                _log.info("tasks_pruned", tasks=pruned)
            wait = min(wait, until_next_turn)
        except DatabaseUnreachable:
            probe = await reconnect(lambda: database.connect("tasker-server"), stop)
            if probe is not None:
                await probe.close()
                _log.info("database_back")
        except Exception:  # a sweep that failed must not be the last
            _log.exception("sweep_failed")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait)
