"""Describe the API: what FastAPI finds, and the bodies that it does not read itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tasker_core.server.permissions import ROUTES
from tasker_core.wire.actions import TaskActionsRequest
from tasker_core.wire.bulk import BulkCreateTasks
from tasker_core.wire.dlq import DlqEntryRequest, DlqUpdate
from tasker_core.wire.problems import MEDIA_TYPE, Problem
from tasker_core.wire.steps import CompleteManually, ResetForRetry, ResolveManually
from tasker_core.wire.tasks import CancelRequest, RetryRequest, TaskRequest

_REF = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    TaskRequest,
    BulkCreateTasks,
    CancelRequest,
    RetryRequest,
    TaskActionsRequest,
    ResetForRetry,
    ResolveManually,
    CompleteManually,
    DlqEntryRequest,
    DlqUpdate,
)


def body_of(model: str, *, required: bool = True) -> dict[str, Any]:
    """Say that a route's body is this model."""
    return _body({"$ref": _REF.format(model=model)}, required)


def step_action_body() -> dict[str, Any]:
    """Say that a route's body is one of the actions on a step."""
    mapping = {
        "reset_for_retry": _REF.format(model="ResetForRetry"),
        "resolve_manually": _REF.format(model="ResolveManually"),
        "complete_manually": _REF.format(model="CompleteManually"),
    }
    union = {
        "oneOf": [{"$ref": ref} for ref in mapping.values()],
        "discriminator": {"propertyName": "action_type", "mapping": mapping},
    }
    return _body(union, True)


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Say with which statuses a route refuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ApiError")}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def describe(
    app: FastAPI,
    routes: Mapping[str, tuple[str, ...]] = ROUTES,
    bodies: Sequence[type[BaseModel]] = _BODIES,
) -> None:
    """Let the app describe itself as it is, with what its routes ask for and read."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _complete(document, routes, bodies)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way to extend it


def _complete(
    document: dict[str, Any],
    routes: Mapping[str, tuple[str, ...]],
    bodies: Sequence[type[BaseModel]],
) -> None:
    _, definitions = models_json_schema(
        [(model, "validation") for model in bodies], ref_template=_REF
    )
    _, answers = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions.get("$defs", {})
    for name, schema in answers["$defs"].items():
        schemas["ApiError" if name == "Problem" else name] = schema
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            answer = answers.pop("422", None)  # FastAPI's own shape is not ours
            if answer and MEDIA_TYPE in answer["content"]:
                answers["422"] = answer
            if "503" in answers:  # who asks the database may also meet these
                for status, told in problems_of(408, 500).items():
                    answers.setdefault(str(status), told)
    _tell_permissions(document, routes)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _tell_permissions(document: dict[str, Any], routes: Mapping[str, tuple[str, ...]]) -> None:
    """Say what each route asks for, where callers must say who they are."""
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["bearer_auth"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    schemes["api_key_auth"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = routes.get(f"{method.upper()} {path}")
            if needed is None:
                continue
            operation["security"] = [{"bearer_auth": []}, {"api_key_auth": []}]
            operation["responses"] |= {
                str(status): answer for status, answer in problems_of(401, 403, 429).items()
            }
            if needed:
                operation["x-required-permission"] = " or ".join(needed)


def _body(schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }
