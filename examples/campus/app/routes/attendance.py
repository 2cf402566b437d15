"""Ask for the report of a week."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.models.attendance import ReportRequest
from app.routes.tasks import accept

router = APIRouter(tags=["attendance"])


@router.post("/attendance-reports", status_code=202)
async def ask_for_report(report: ReportRequest, request: Request) -> JSONResponse:
    return await accept(
        request,
        "attendance_report",
        namespace="campus",
        context=report.model_dump(),
        reason="Asked for on the web",
    )
