"""Check the context of a new task against its template, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs

from tasker_core.errors import InvalidContext, NotStorable, Violation
from tasker_core.payload import MAX_BYTES, decode, encode
from tasker_core.templates.document import pointer
from tasker_core.templates.model import TaskTemplate

MAX_VIOLATIONS = 1000  # a list of a million wrong items is told by its first thousand


def check_context(template: TaskTemplate, context: Any, *, max_bytes: int = MAX_BYTES) -> str:
    """Give the context as JSON text, once it is what the template asks for.

    Checked in this order: it can be stored, it is an object, `required_fields`
    are present and not null, it fits `input_schema` (formats included).

    Raises:
        InvalidContext: With every violation, at most `MAX_VIOLATIONS`. No place is
            named twice for the same thing: a field that both rules demand is one
            violation.
    """
    try:
        text = encode(context, max_bytes=max_bytes)
    except NotStorable as error:
        stored = Violation(error.pointer, error.reason, "storable")
        raise InvalidContext(template.label, [stored]) from None
    if not text.startswith("{"):
        message = 'must be a JSON object, for example {"order_id": 1}'
        raise InvalidContext(template.label, [Violation("", message, "type")])
    if template.required_fields or template.input_schema is not None:
        violations = list(islice(_violations(template, decode(text)), MAX_VIOLATIONS))
        if violations:
            raise InvalidContext(template.label, violations)
    return text


def compile_schema(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Compile a JSON Schema that stands on its own; nothing is ever fetched.

    Raises:
        ValueError: It is not a valid JSON Schema, or refers to something outside.
            Mostly a `jsonschema_rs.ValidationError`, whose `instance_path` says where.
    """
    try:
        return jsonschema_rs.validator_for(schema, validate_formats=True, retriever=_refuse)
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(str(error)) from None


def schema_violations(validator: jsonschema_rs.Validator, value: Any) -> list[Violation]:
    """Give what is wrong with a value, each once, at most `MAX_VIOLATIONS`."""
    found = map(_violation, islice(validator.iter_errors(value), MAX_VIOLATIONS))
    return list(dict.fromkeys(found))


def _refuse(uri: str) -> Any:
    raise ValueError(f"schemas are not fetched: write {uri} into this one, under $defs")


@lru_cache(maxsize=256)
def _validator(template: TaskTemplate) -> jsonschema_rs.Validator | None:
    """Compile the template's schema; templates are equal when their digests are."""
    return None if template.input_schema is None else compile_schema(template.input_schema)


def _violations(template: TaskTemplate, context: dict[str, Any]) -> Iterator[Violation]:
    named: set[str] = set()
    for name in template.required_fields:
        if context.get(name) is None:
            place = pointer((name,))
            named.add(place)
            given = "must not be null" if name in context else "is missing"
            yield Violation(place, given, "required_fields")
    validator = _validator(template)
    seen: set[Violation] = set()
    for violation in map(_violation, validator.iter_errors(context) if validator else ()):
        if violation.pointer not in named and violation not in seen:
            seen.add(violation)
            yield violation


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    """Point at the field that is missing, not at the object that misses it."""
    place = tuple(error.instance_path)
    rule = error.kind.name
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        return Violation(pointer((*place, error.kind.property)), "is missing", rule)
    message = error.message
    return Violation(
        pointer(place), message if len(message) <= 300 else message[:297] + "...", rule
    )
