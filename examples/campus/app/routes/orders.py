"""Order course material."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.models.orders import OrderRequest
from app.routes.tasks import accept

router = APIRouter(tags=["orders"])


@router.post("/orders", status_code=202)
async def order_material(order: OrderRequest, request: Request) -> JSONResponse:
    return await accept(
        request,
        "order_material",
        namespace="campus",
        context=order.model_dump(),
        idempotency_key=f"{order.student_email} {order.reference}",
        reason="Ordered on the web",
    )
