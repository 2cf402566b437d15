"""Results held against their step's `result_schema`, where the template asks for that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog

from tasker_core.handlers.result import StepHandlerResult
from tasker_core.payload import decode, storable_text
from tasker_core.templates.inputs import compile_schema, schema_violations
from tasker_core.templates.model import StepDefinition, TaskTemplate

if TYPE_CHECKING:
    import jsonschema_rs

TOLD_VIOLATIONS = 20

_log = structlog.get_logger("tasker.worker")


class ResultMisfit(Exception):
    """A result that is not what its step's schema asks for; `failure` takes its place."""

    def __init__(self, failure: StepHandlerResult) -> None:
        self.failure = failure
        super().__init__(failure.error_message)


@dataclass(frozen=True)
class ResultCheck:
    """What the results of one step of a template are held against."""

    step: str
    template: str
    schema: dict[str, Any]
    enforces: bool  # else a misfit is only told

    @classmethod
    def of(cls, template: TaskTemplate, step: StepDefinition) -> ResultCheck | None:
        """Give the check of a step; None if there is none, which is the rule."""
        if step.result_schema is None or step.result_validation == "off":
            return None
        enforces = step.result_validation == "enforce"
        return cls(step.name, template.label, step.result_schema, enforces)

    def __call__(self, text: str) -> None:
        """Hold a result, as it is to be stored, against the schema.

        Raises:
            ResultMisfit: It does not fit, and the template says `enforce`.
        """
        found = schema_violations(self._validator, decode(text))
        if not found:
            return
        first, *more = found
        told = f"{first} ({len(more)} more)" if more else str(first)
        _log.warning("result_misfit", step=self.step, template=self.template, violation=told)
        if self.enforces:
            facts = {
                "path": storable_text(first.pointer),
                "violations": [storable_text(str(one)) for one in found[:TOLD_VIOLATIONS]],
            }
            message = f"the result does not fit the step's result_schema: {told}"
            raise ResultMisfit(
                StepHandlerResult.failure(
                    message, "invalid_result", retryable=False, metadata=facts
                )
            )

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return compile_schema(self.schema)
