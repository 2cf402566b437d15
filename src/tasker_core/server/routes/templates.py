"""/v1/templates: what is registered."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import inspect
from tasker_core.server.auth import sees
from tasker_core.server.backend import backend_of
from tasker_core.server.body import read_bytes
from tasker_core.server.openapi import problems_of
from tasker_core.server.problems import Refusal
from tasker_core.server.routes import Word, answer
from tasker_core.server.routes import router as new_router
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import StepDefinition, TaskTemplate
from tasker_core.wire.common import Text
from tasker_core.wire.templates import (
    NamespaceSummary,
    TemplateFinding,
    TemplateListResponse,
    TemplateResponse,
    TemplateStep,
    TemplateSummary,
    TemplateValidation,
    TemplateVersions,
)

router = new_router()

SCHEMA_TYPE = "application/schema+json"


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
            templates=[_summary(one) for one in found if namespace in (None, one.namespace)],
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


@router.get(
    "/v1/templates/{namespace}/{name}",
    operation_id="listTemplateVersions",
    responses={200: {"model": TemplateVersions}, **problems_of(400, 404, 503)},
    tags=["templates"],
)
async def list_versions(
    request: Request, namespace: Annotated[Text, Path()], name: Annotated[Text, Path()]
) -> Response:
    """List the versions of a template, the newest first."""
    async with backend_of(request).connection() as conn:
        found = [
            one
            for one in await inspect.list_templates(conn)
            if (one.namespace, one.name) == (namespace, name)
        ]
        if not found:
            await backend_of(request).shelf.find(conn, namespace, name)  # which says what there is
    versions = [_summary(one) for one in found]
    return answer(TemplateVersions(namespace=namespace, name=name, versions=versions))


@router.get(
    "/v1/templates/{namespace}/{name}/{version}/input-schema",
    operation_id="getTemplateInputSchema",
    responses={
        200: {"description": "JSON Schema of the context.", "content": {SCHEMA_TYPE: {}}},
        **problems_of(400, 404, 503),
    },
    tags=["templates"],
)
async def get_input_schema(
    request: Request,
    namespace: Annotated[Text, Path()],
    name: Annotated[Text, Path()],
    version: Annotated[Text, Path()],
) -> Response:
    """Read what a context must look like, as JSON Schema; `{}` if anything will do."""
    backend = backend_of(request)
    async with backend.connection() as conn:
        found = await backend.shelf.find(conn, namespace, name, version)
    return Response(orjson.dumps(_schema_of(found.template)), media_type=SCHEMA_TYPE)


@router.post(
    "/v1/templates/validate",
    operation_id="validateTemplate",
    responses={200: {"model": TemplateValidation}, **problems_of(400, 413, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/yaml": {"schema": {"type": "string", "pattern": r"\S"}},
                "application/json": {"schema": {}},
            },
        }
    },
    tags=["templates"],
)
async def validate(request: Request) -> Response:
    """Check a template, in YAML or JSON, without registering it: 200 whatever is found."""
    content = await read_bytes(request)
    if not content.strip():
        raise Refusal(400, "BAD_REQUEST", "the body is empty; send a template, in YAML or JSON")
    try:
        report = parse_template(content.decode())
    except UnicodeDecodeError:
        raise Refusal(400, "BAD_REQUEST", "the template is not text in UTF-8") from None
    findings = [
        TemplateFinding(
            code=one.code,
            severity=one.severity.value,
            message=one.message,
            hint=one.hint,
            pointer=one.path,
            line=one.line,
            column=one.column,
        )
        for one in report.findings
    ]
    errors = [one for one in findings if one.severity == "error"]
    rest = [one for one in findings if one.severity != "error"]
    return answer(TemplateValidation(valid=not errors, errors=errors, warnings=rest))


def _summary(one: inspect.TemplateRecord) -> TemplateSummary:
    return TemplateSummary(
        name=one.name,
        namespace=one.namespace,
        version=one.version,
        description=one.description,
        step_count=one.step_count,
    )


def _schema_of(template: TaskTemplate) -> dict[str, Any]:
    """Give the schema, with the fields that the task handler's validation wants besides."""
    schema = dict(template.input_schema or {})
    wanted = [one for one in template.required_fields if one not in schema.get("required", ())]
    if wanted:
        schema["required"] = [*schema.get("required", ()), *wanted]
    return schema


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
