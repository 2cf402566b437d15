"""Sign up as a student."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.models.sign_up import SignUpRequest
from app.routes.tasks import accept

router = APIRouter(tags=["sign-ups"])


@router.post("/sign-ups", status_code=202)
async def sign_up(wish: SignUpRequest, request: Request) -> JSONResponse:
    return await accept(
        request,
        "sign_up",
        namespace="campus",
        context=wish.model_dump(),
        reason="Signed up on the web",
    )
