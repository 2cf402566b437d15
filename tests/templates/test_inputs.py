"""A context is checked whole, before anything is written."""

from __future__ import annotations

from uuid import UUID

import pytest

from tasker_core.errors import InvalidContext
from tasker_core.templates.inputs import MAX_VIOLATIONS, check_context, compile_schema
from tasker_core.templates.model import TaskTemplate


def template(**keys):
    return TaskTemplate.from_definition(
        {"name": "t", "namespace_name": "ns", "version": "1.0.0", "steps": [], **keys}
    )


def refuse(template, context):
    """Check a context that does not fit; give (pointer, rule) of every violation."""
    with pytest.raises(InvalidContext) as caught:
        check_context(template, context)
    return [(violation.pointer, violation.rule) for violation in caught.value.violations]


def test_a_fitting_context_comes_back_as_json(order):
    """What fits is encoded, unchanged."""
    text = check_context(order, {"items": [{"sku": "A"}], "email": "a@example.org"})

    assert text == '{"items":[{"sku":"A"}],"email":"a@example.org"}'


def test_a_field_of_both_rules_is_named_once(order):
    """Fields that required_fields and input_schema demand are one violation each."""
    assert refuse(order, {}) == [("/items", "required_fields"), ("/email", "required_fields")]


def test_null_is_not_given(order):
    """A required field that is null is a violation, and one only."""
    context = {"items": [], "email": None}

    assert refuse(order, context) == [("/email", "required_fields")]


def test_all_violations_at_once(order):
    """Every place is named, with its pointer."""
    context = {"items": [{}, {"sku": "A"}, {}], "email": "nobody"}

    assert sorted(refuse(order, context)) == [
        ("/email", "format"),
        ("/items/0/sku", "required"),
        ("/items/2/sku", "required"),
    ]


@pytest.mark.parametrize("context", [None, [], "text", 1])
def test_a_context_is_an_object(context):
    """Anything but an object is refused, by any template."""
    assert refuse(template(), context) == [("", "type")]


def test_what_cannot_be_stored_is_a_violation():
    """NaN is refused by its place."""
    assert refuse(template(), {"a": [float("nan")]}) == [("/a/0", "storable")]


def test_the_stored_form_is_what_is_checked():
    """A UUID is the string that it will be."""
    schema = {"properties": {"id": {"type": "string", "format": "uuid"}}}

    text = check_context(template(input_schema=schema), {"id": UUID(int=1)})

    assert text == '{"id":"00000000-0000-0000-0000-000000000001"}'


def test_pointers_are_escaped():
    """A name with a slash is escaped as JSON pointers are."""
    schema = {"required": ["a/b~c"]}

    assert refuse(template(input_schema=schema), {}) == [("/a~1b~0c", "required")]


def test_violations_end_somewhere():
    """A list of endless wrongs is told by its first thousand."""
    schema = {"properties": {"n": {"items": {"type": "integer"}}}}

    assert len(refuse(template(input_schema=schema), {"n": ["x"] * 5000})) == MAX_VIOLATIONS


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strng"},
        {"$ref": "#/nowhere"},
        {"$ref": "http://example.org/schema.json"},
        {"$schema": "http://example.org/meta", "type": "object"},
        {"pattern": "("},
    ],
)
def test_schemas_stand_on_their_own(schema):
    """A schema that is wrong, or needs another, is refused; nothing is fetched."""
    with pytest.raises(ValueError, match=r"."):
        compile_schema(schema)


def test_equal_templates_share_a_compiled_schema(order):
    """Another object with the same digest is checked by the same schema."""
    again = TaskTemplate.from_definition(order.definition)

    assert refuse(again, {"items": [{}], "email": "a@example.org"}) == [
        ("/items/0/sku", "required")
    ]
