"""The college's web application: `uvicorn app.main:app`.

Routes create tasks through a Tasker server, which TASKER_URL names, and answer 202 at
once. A worker in the same process, in a thread of its own, does the steps of all three
namespaces; a team that wants a worker to itself starts one with `--namespace payments`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.database import prepare
from app.partners import library
from app.routes import attendance, health, orders, refunds, sign_ups, tasks
from tasker_core import Worker, is_worker_running
from tasker_core.client import (
    AsyncTaskerClient,
    TaskConflictError,
    TaskerConnectionError,
    TaskNotFoundError,
)

TEMPLATES = Path(__file__).parent / "config" / "templates"

log = logging.getLogger("campus")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await prepare()
    worker = None
    if not is_worker_running():
        worker = Worker.start(handler_packages=["app.handlers"], templates=[TEMPLATES])
        log.info("worker %s has started", worker.worker_id)
    try:
        async with AsyncTaskerClient("campus-web", "campus") as app.state.tasker:
            yield
    finally:
        if worker is not None:
            worker.stop()


app = FastAPI(title="Campus", lifespan=lifespan)
for routes in (orders, attendance, sign_ups, refunds, tasks, health):
    app.include_router(routes.router)
app.mount("/partners/library", library)


@app.exception_handler(TaskerConnectionError)
async def on_no_server(request: Request, error: TaskerConnectionError) -> JSONResponse:
    """Nothing was taken and nothing was lost: come back."""
    return JSONResponse({"detail": "come back in a moment"}, 503, {"Retry-After": "5"})


@app.exception_handler(TaskConflictError)
async def on_known_task(request: Request, error: TaskConflictError) -> JSONResponse:
    """A second click on the same button."""
    return JSONResponse({"detail": "this was sent before"}, 409)


@app.exception_handler(TaskNotFoundError)
async def on_unknown_task(request: Request, error: TaskNotFoundError) -> JSONResponse:
    return JSONResponse({"detail": "there is no such task"}, 404)
