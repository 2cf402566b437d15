"""/templates: what is registered, and what it looks like."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.server.dashboard import graph
from tasker_core.server.dashboard.pages import page, said
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.routes import templates
from tasker_core.wire.common import Text

router = new_router()


@router.get("/templates")
async def show_all(request: Request, namespace: str = "") -> Response:
    """List every version of every template in force."""
    found = said(await templates.list_templates(request, namespace or None))
    return page(request, "templates.html", **found, namespace=namespace)


@router.get("/templates/{namespace}/{name}/{version}")
async def show(
    request: Request,
    namespace: Annotated[Text, Path()],
    name: Annotated[Text, Path()],
    version: Annotated[Text, Path()],
) -> Response:
    """Show one version of a template with its graph."""
    found = said(
        await templates.get_template(request, namespace, name, version, include="configuration")
    )
    others = said(await templates.list_versions(request, namespace, name))
    return page(
        request,
        "template.html",
        template=found,
        versions=others["versions"],
        graph=graph.draw_template(found["steps"]),
    )
