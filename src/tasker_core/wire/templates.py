"""What is registered."""

from __future__ import annotations

from typing import Any, Literal

from tasker_core.wire.common import Answer


class NamespaceSummary(Answer):
    """One namespace, with the number of template versions in it."""

    name: str
    description: str | None
    template_count: int


class TemplateSummary(Answer):
    """One version of a template."""

    name: str
    namespace: str
    version: str
    description: str | None
    step_count: int


class TemplateListResponse(Answer):
    """Every template version in force; `total_count` counts those of all namespaces."""

    namespaces: list[NamespaceSummary]
    templates: list[TemplateSummary]
    total_count: int


class TemplateStep(Answer):
    """One step of a template."""

    name: str
    description: str | None
    type: str
    handler: str
    dependencies: list[str]
    default_retryable: bool
    default_max_attempts: int
    retry: dict[str, Any]
    result_schema: dict[str, Any] | None


class TemplateResponse(Answer):
    """One version of a template, whole."""

    name: str
    namespace: str
    version: str
    description: str | None
    identity_strategy: Literal["strict", "caller_provided", "always_unique"]
    input_schema: dict[str, Any] | None
    lifecycle: dict[str, Any] | None
    tags: list[str]
    configuration: dict[str, Any] | None
    steps: list[TemplateStep]
