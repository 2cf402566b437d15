"""One function an endpoint, one module a resource; what they share is here."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from starlette.responses import Response

from tasker_core.server.problems import ProblemRoute
from tasker_core.wire.common import Text

# Newer versions of FastAPI trace and count by themselves; metrics.py does, the same for all.
QUIET: dict[str, Any] = (
    {"telemetry": {"tracing": False, "metrics": False, "logs": False}}
    if "telemetry" in inspect.signature(FastAPI).parameters
    else {}
)


def _absent(value: Any) -> Any:
    return None if value == "" else value


# A word in the query; `?status=` is the same as none.
Word = Annotated[Text | None, BeforeValidator(_absent)]
Reason = Annotated[Annotated[Text, Field(max_length=500)] | None, BeforeValidator(_absent)]


def router() -> APIRouter:
    """Make a router whose routes build their replies themselves."""
    return APIRouter(default_response_class=Response, route_class=ProblemRoute)


def answer(model: BaseModel, status: int = 200, **headers: str) -> Response:
    """Build the reply from what the caller is to see."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(model.model_dump_json(), status, named, "application/json")


def answer_list(
    adapter: TypeAdapter[Any], models: Sequence[BaseModel], *, exclude_none: bool = False
) -> Response:
    """Build a reply that is a JSON array; `exclude_none`: of members that do not apply none."""
    if not exclude_none:
        return Response(adapter.dump_json(list(models)), media_type="application/json")
    documents = [
        {name: value for name, value in document.items() if value is not None}
        for document in adapter.dump_python(list(models), mode="json")
    ]
    return Response(orjson.dumps(documents), media_type="application/json")
