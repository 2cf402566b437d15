"""A FastAPI application that does one statement a request: the floor of `server.py`.

It listens as `tasker-ctl server run` does, with as many connections to the database, and says
its address in the same way. Run with the database's URL.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import uvloop
from fastapi import FastAPI, Request, Response

from tasker_core.observe.listen import Listener, bind
from tasker_core.server.protocol import BoundedHttp
from tasker_core.settings import Settings

SCHEMA = "create table if not exists bare_tasks (id uuid primary key, body json not null)"
INSERT = "insert into bare_tasks (id, body) values ($1, $2)"
SELECT = "select body from bare_tasks where id = $1"


def application(pool: asyncpg.Pool[asyncpg.Record]) -> FastAPI:
    """Make the application: create a row, read a row."""
    app = FastAPI()

    @app.post("/v1/tasks")
    async def create(request: Request) -> Response:
        body = await request.json()
        created = uuid4()
        await pool.execute(INSERT, created, json.dumps(body))
        return _json({"task_uuid": str(created), **body}, 201)

    @app.get("/v1/tasks/{task_uuid}")
    async def get(task_uuid: UUID) -> Response:
        body = await pool.fetchval(SELECT, task_uuid)
        return _json({"task_uuid": str(task_uuid), **orjson.loads(body)}, 200)

    return app


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await asyncpg.create_pool(url, min_size=0, max_size=Settings().server_pool_size)
    await pool.execute(SCHEMA)
    yield pool
    await pool.close()


async def main(url: str) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with _pool(url) as pool:
        bound = bind("127.0.0.1", 0, "")
        listener = Listener(application(pool), bound, shutdown_seconds=1, http=BoundedHttp)
        await listener.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        print(json.dumps({"event": "ready", "url": address}), flush=True)
        await stop.wait()
        await listener.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
