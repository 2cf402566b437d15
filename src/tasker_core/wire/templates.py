"""What is registered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

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


class TemplateVersions(Answer):
    """Every version of one template that is in force, the newest first."""

    namespace: str
    name: str
    versions: list[TemplateSummary]


class TemplateFinding(Answer):
    """One thing that there is to say about a template."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    hint: str | None
    pointer: str = Field(description="JSON pointer into the template.")
    line: int | None = Field(description="Counted from 1, of the text that was sent.")
    column: int | None


class TemplateValidation(Answer):
    """Whether a template could be registered."""

    valid: bool
    errors: list[TemplateFinding]
    warnings: list[TemplateFinding] = Field(description="What may stay, hints among it.")


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
