"""The library: an HTTP service of somebody else, here mounted at /partners/library.

=========================  ==========================================================
`POST /cards`              201 and a card; the same `Idempotency-Key` gives 200 and the
                           same card
an outage                  503 with `Retry-After: 1`
an address at blocked.test 403
no key, no address         422
=========================  ==========================================================
"""

from __future__ import annotations

import os
from typing import Annotated
from uuid import uuid4

from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app import outages
from app.database import connect

library = FastAPI(title="Library")


def library_url() -> str:
    """Where the library is: LIBRARY_URL, or in this very application at port 8000."""
    return os.environ.get("LIBRARY_URL", "http://127.0.0.1:8000/partners/library")


class CardRequest(BaseModel):
    email: str
    full_name: str


@library.post("/cards")
async def issue_card(request: CardRequest, idempotency_key: Annotated[str, Header()]) -> Response:
    answer = await _answer(request, idempotency_key)
    async with connect() as conn:
        await conn.execute(
            "insert into campus.library_calls (request_key, status_code) values ($1, $2)",
            idempotency_key,
            answer.status_code,
        )
    return answer


async def _answer(request: CardRequest, key: str) -> Response:
    if await outages.is_down("library"):
        return JSONResponse({"detail": "closed for stocktaking"}, 503, {"Retry-After": "1"})
    if request.email.endswith("@blocked.test"):
        return JSONResponse({"detail": "has not brought back a book"}, 403)
    async with connect() as conn:
        is_new = await conn.fetchval(
            "insert into campus.library_cards (request_key, card_number, email) "
            "values ($1, $2, $3) on conflict do nothing returning true",
            key,
            f"L-{uuid4().hex[:8]}",
            request.email,
        )
        card_number = await conn.fetchval(
            "select card_number from campus.library_cards where request_key = $1", key
        )
    return JSONResponse({"card_number": card_number}, 201 if is_new else 200)
