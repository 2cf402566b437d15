"""/v1/whoami: whom the server takes a caller for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.server.auth import caller_of, namespaces_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.permissions import PERMISSIONS, holds
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.wire.whoami import WhoamiResponse

router = new_router()


@router.get(
    "/v1/whoami",
    operation_id="whoami",
    responses={200: {"model": WhoamiResponse}, **problems_of()},
    tags=["auth"],
)
async def whoami(request: Request) -> Response:
    """Say who calls, and what they may do."""
    found = caller_of(request)
    asked = found.method != "none"
    return answer(
        WhoamiResponse(
            subject=found.name,
            method=found.method,
            permissions=[one for one in PERMISSIONS if not asked or holds(found.permissions, one)],
            namespaces=namespaces_of(request),
            expires_at=found.expires_at,
        )
    )
