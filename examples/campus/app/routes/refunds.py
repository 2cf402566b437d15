"""Ask for money back; and the answers of those who are asked whether it may be paid."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.models.refunds import RefundRequest, Role
from app.routes.tasks import accept
from app.services import support

router = APIRouter(tags=["refunds"])


class YesOrNo(BaseModel):
    approved: bool


@router.post("/refunds", status_code=202)
async def ask_for_refund(refund: RefundRequest, request: Request) -> JSONResponse:
    return await accept(
        request,
        "refund_request",
        namespace="support",
        context=refund.model_dump(),
        idempotency_key=refund.reference,
        reason="Asked for on the web",
    )


@router.put("/refunds/{reference}/answers/{role}", status_code=204)
async def answer(reference: str, role: Role, said: YesOrNo) -> None:
    await support.note_answer(reference, role, said.approved)
