"""/config: how the server is set up, if the settings say that it is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from tasker_core.server.backend import backend_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.problems import Refusal
from tasker_core.server.routes import answer
from tasker_core.server.routes import router as new_router
from tasker_core.settings import Settings, masked
from tasker_core.wire.config import ConfigResponse

router = new_router()


@router.get(
    "/config",
    operation_id="getConfig",
    responses={200: {"model": ConfigResponse}, **problems_of(404)},
    tags=["config"],
)
async def get_config(request: Request) -> Response:
    """Read the settings in force, without secrets; 404 unless config_endpoint is set."""
    settings = backend_of(request).settings
    if not settings.config_endpoint:
        detail = "the configuration is not shown here; TASKER_CONFIG_ENDPOINT=true would"
        raise Refusal(404, "NOT_FOUND", detail)
    return answer(
        ConfigResponse(
            version=version("tasker-py"),
            environment=settings.environment,
            timestamp=datetime.now(UTC),
            settings={
                name: masked(name, getattr(settings, name)) for name in Settings.model_fields
            },
        )
    )
