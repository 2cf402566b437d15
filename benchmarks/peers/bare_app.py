"""A FastAPI app that does nothing but submit a linear workflow: what stands before a peer.

Imported in the environments of the peers, which all have fastapi and uvicorn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

Submit = Callable[[int], Awaitable[object]]


def serve(port: str, opened: Callable[[], AbstractAsyncContextManager[Submit]]) -> None:
    """Serve POST /start on uvloop and httptools, without a log, until a signal comes."""
    submits: list[Submit] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as submit:
            submits.append(submit)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/start", status_code=201)
    async def start(request: Request) -> dict[str, bool]:
        body = await request.json()
        await submits[0](body["number"])
        return {"ok": True}

    uvicorn.run(app, port=int(port), loop="uvloop", http="httptools", log_level="error")
