"""What a worker's page says of templates: which there are, and whether it can do their steps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from tasker_core.engine import inspect
from tasker_core.errors import HandlerLoadError, ResolutionError
from tasker_core.handlers.bound import HandlerDefinition
from tasker_core.server.auth import sees
from tasker_core.server.backend import backend_of
from tasker_core.server.openapi import problems_of
from tasker_core.server.routes import Word, answer
from tasker_core.server.routes import router as new_router
from tasker_core.templates.model import StepDefinition, TaskTemplate
from tasker_core.wire.common import Text
from tasker_core.wire.worker import (
    ResolvedTemplate,
    WorkerTemplate,
    WorkerTemplateDetail,
    WorkerTemplates,
    WorkerTemplateValidation,
)

if TYPE_CHECKING:
    from tasker_core.worker.loop import AsyncWorker

CAPABILITIES = ["command_processing", "database_access", "decisions", "batches", "domain_events"]

_ONE = "/v1/templates/{namespace}/{name}/{version}"


def templates_router(worker: AsyncWorker) -> APIRouter:
    """Make the routes of one worker."""
    router = new_router()

    @router.get(
        "/v1/templates",
        operation_id="listWorkerTemplates",
        responses={200: {"model": WorkerTemplates}, **problems_of(400, 503)},
        tags=["templates"],
    )
    async def list_templates(
        request: Request,
        namespace: Annotated[Word, Query()] = None,
        include_cache_stats: Annotated[bool, Query()] = False,
    ) -> Response:
        """List the templates in force, and which of their handlers this worker lacks."""
        backend = backend_of(request)
        async with backend.connection() as conn:
            found = [
                (await backend.shelf.find(conn, one.namespace, one.name, one.version)).template
                for one in await inspect.list_templates(conn)
                if namespace in (None, one.namespace)
                and worker.looks_at(one.namespace)
                and sees(request, one.namespace)
            ]
        supported = [one for one in worker.namespaces if sees(request, one)]
        return answer(
            WorkerTemplates(
                supported_namespaces=supported,
                template_count=len(found),
                cache_stats=_cache(len(found), supported) if include_cache_stats else None,
                worker_capabilities=CAPABILITIES,
                templates=[_summary(worker, one) for one in found],
            )
        )

    @router.get(
        _ONE,
        operation_id="getWorkerTemplate",
        responses={200: {"model": WorkerTemplateDetail}, **problems_of(400, 404, 503)},
        tags=["templates"],
    )
    async def get_template(
        request: Request,
        namespace: Annotated[Text, Path()],
        name: Annotated[Text, Path()],
        version: Annotated[Text, Path()],
    ) -> Response:
        """Read one version of a template, as this worker's environment has it."""
        template = await _find(request, namespace, name, version)
        handler = template.task_handler
        return answer(
            WorkerTemplateDetail(
                template=ResolvedTemplate(
                    template=template.definition,
                    environment=backend_of(request).settings.environment,
                    resolved_at=datetime.now(UTC),
                ),
                handler_metadata={
                    "namespace": namespace,
                    "name": name,
                    "version": version,
                    "handler_class": None if handler is None else handler.callable,
                    "config_schema": template.input_schema,
                    "default_dependent_system": None,
                    "registered_at": None,
                },
                cached=True,
                cache_age_seconds=None,
                access_count=None,
            )
        )

    @router.post(
        f"{_ONE}/validate",
        operation_id="validateWorkerTemplate",
        responses={200: {"model": WorkerTemplateValidation}, **problems_of(400, 404, 503)},
        tags=["templates"],
    )
    async def validate(
        request: Request,
        namespace: Annotated[Text, Path()],
        name: Annotated[Text, Path()],
        version: Annotated[Text, Path()],
    ) -> Response:
        """Say whether this worker can do every step: each callable is really looked up."""
        template = await _find(request, namespace, name, version)
        errors = [] if worker.looks_at(namespace) else [f"namespace {namespace} is not served here"]
        for step, error in _unresolved(worker, template):
            errors.append(f"step {step.name}: {error}")
        kinds = {step.type for step in template.steps} - {"standard"}
        return answer(
            WorkerTemplateValidation(
                valid=not errors,
                errors=errors,
                required_capabilities=sorted(kinds),
                step_handlers=list(dict.fromkeys(one.handler.callable for one in template.steps)),
            )
        )

    return router


async def _find(request: Request, namespace: str, name: str, version: str) -> TaskTemplate:
    backend = backend_of(request)
    async with backend.connection() as conn:
        return (await backend.shelf.find(conn, namespace, name, version)).template


def _summary(worker: AsyncWorker, template: TaskTemplate) -> WorkerTemplate:
    missing = [step.handler.callable for step, _ in _unresolved(worker, template)]
    return WorkerTemplate(
        namespace=template.namespace,
        name=template.name,
        version=template.version,
        handlers_resolved=not missing,
        missing_handlers=list(dict.fromkeys(missing)),
    )


def _unresolved(
    worker: AsyncWorker, template: TaskTemplate
) -> Iterator[tuple[StepDefinition, Exception]]:
    """Give the steps whose handler cannot be used here, each with why."""
    for step in template.steps:
        wanted = HandlerDefinition(
            step.handler.callable, step.handler.method, step.handler.resolver
        )
        try:
            worker.registry.find(wanted, strict=True)
        except (ResolutionError, HandlerLoadError) as error:
            yield step, error


def _cache(count: int, namespaces: list[str]) -> dict[str, Any]:
    uncounted = ("cache_hits", "cache_misses", "cache_evictions", "oldest_entry_age_seconds")
    return {
        "total_cached": count,
        **dict.fromkeys(uncounted),
        "average_access_count": None,
        "supported_namespaces": namespaces,
    }
