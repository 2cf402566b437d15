"""How the application is; and outages, to see what becomes of tasks in them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app import outages
from tasker_core import Worker, is_worker_running

router = APIRouter(tags=["health"])


class Outage(BaseModel):
    place: Literal["bank", "library", "points", "gates", "labs", "online"]
    calls: int = Field(1, ge=0)


@router.get("/health")
async def health(response: Response) -> dict[str, Any]:
    """Say whether this process works on tasks: 503 if its worker has stopped."""
    worker = Worker.instance()
    if not is_worker_running() or worker is None:
        response.status_code = 503
        return {"status": "degraded", "worker": None}
    return {"status": "healthy", "worker": worker.worker_id}


@router.post("/outages", status_code=204)
async def plan_outage(outage: Outage) -> None:
    """Let a place fail its next calls."""
    await outages.plan(outage.place, outage.calls)
