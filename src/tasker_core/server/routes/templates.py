"""/v1/templates: what is registered."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import inspect
from tasker_core.server.auth import sees
from tasker_core.server.backend import backend_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.routes import Word, answer
from tasker_core.server.routes import router as new_router
from tasker_core.templates.model import StepDefinition, TaskTemplate
from tasker_core.wire.common import Text
from tasker_core.wire.templates import (
    NamespaceSummary,
    TemplateListResponse,
    TemplateResponse,
    TemplateStep,
    TemplateSummary,
)

router = new_router()


@router.get(
    "/v1/templates",
    operation_id="listTemplates",
    responses={200: {"model": TemplateListResponse}, **problems_of(400, 503)},
    tags=["templates"],
)
async def list_templates(request: Request, namespace: Annotated[Word, Query()] = None) -> Response:
    """List every version of every template that is in force."""
    async with backend_of(request).connection() as conn:
        found = [one for one in await inspect.list_templates(conn) if sees(request, one.namespace)]
    counts = Counter(one.namespace for one in found)
    return answer(
        TemplateListResponse(
            namespaces=[
                NamespaceSummary(name=name, description=None, template_count=count)
                for name, count in sorted(counts.items())
            ],
            templates=[
                TemplateSummary(
                    name=one.name,
                    namespace=one.namespace,
                    version=one.version,
                    description=one.description,
                    step_count=one.step_count,
                )
                for one in found
                if namespace in (None, one.namespace)
            ],
            total_count=len(found),
        )
    )


@router.get(
    "/v1/templates/{namespace}/{name}/{version}",
    operation_id="getTemplate",
    responses={200: {"model": TemplateResponse}, **problems_of(400, 404, 503)},
    tags=["templates"],
)
async def get_template(
    request: Request,
    namespace: Annotated[Text, Path()],
    name: Annotated[Text, Path()],
    version: Annotated[Text, Path()],
    include: Annotated[Word, Query(description="`configuration`: the whole definition.")] = None,
    environment: Annotated[
        Word, Query(description="Show it with the overrides of this one.")
    ] = None,
) -> Response:
    """Read one version of a template."""
    backend = backend_of(request)
    async with backend.connection() as conn:
        found = await backend.shelf.find(
            conn, namespace, name, version, environment=environment or ""
        )
    return answer(_render(found.template, whole=include == "configuration"))


def _render(template: TaskTemplate, *, whole: bool) -> TemplateResponse:
    tags = template.metadata.get("tags")
    return TemplateResponse(
        name=template.name,
        namespace=template.namespace,
        version=template.version,
        description=template.description,
        identity_strategy=template.identity_strategy,
        input_schema=template.input_schema,
        lifecycle=None if template.lifecycle is None else asdict(template.lifecycle),
        tags=[str(tag) for tag in tags] if isinstance(tags, list) else [],
        configuration=template.definition if whole else None,
        steps=[_render_step(step) for step in template.steps],
    )


def _render_step(step: StepDefinition) -> TemplateStep:
    retry = asdict(step.retry)
    del retry["base_given"]
    return TemplateStep(
        name=step.name,
        description=step.description,
        type=step.type,
        handler=step.handler.callable,
        dependencies=list(step.dependencies),
        default_retryable=step.retry.retryable,
        default_max_attempts=step.retry.max_attempts,
        retry=retry,
        result_schema=step.result_schema,
    )
