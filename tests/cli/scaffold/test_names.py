"""Names: their words, and what may be one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.cli.scaffold.names import (
    camel_case,
    kebab_case,
    module_problem,
    name_problem,
    pascal_case,
    snake_case,
    without_suffix,
)


@pytest.mark.parametrize(
    ("written", "snake", "pascal", "camel", "kebab"),
    [
        ("ValidateCart", "validate_cart", "ValidateCart", "validateCart", "validate-cart"),
        ("validate-cart", "validate_cart", "ValidateCart", "validateCart", "validate-cart"),
        ("Validate Cart", "validate_cart", "ValidateCart", "validateCart", "validate-cart"),
        ("XMLHttpRequest", "xml_http_request", "XmlHttpRequest", "xmlHttpRequest", None),
        ("HTTPServer", "http_server", "HttpServer", "httpServer", "http-server"),
        ("OAuth2Client", "o_auth2_client", "OAuth2Client", "oAuth2Client", "o-auth2-client"),
        ("v2API", "v2_api", "V2Api", "v2Api", "v2-api"),
        ("abc123DEF456", "abc123_def456", "Abc123Def456", "abc123Def456", "abc123-def456"),
        ("FIELD_NAME11", "field_name11", "FieldName11", "fieldName11", "field-name11"),
        ("x", "x", "X", "x", "x"),
        ("", "", "", "", ""),
    ],
)
def test_each_place_has_its_way_of_writing(written, snake, pascal, camel, kebab):
    """Words are found in any way of writing, and joined in the one that a place has."""
    assert snake_case(written) == snake
    assert pascal_case(written) == pascal
    assert camel_case(written) == camel
    assert kebab_case(written) == (kebab or snake.replace("_", "-"))


@given(st.from_regex(r"[a-z]{2,5}[0-9]?(_[a-z]{2,5}[0-9]?)*", fullmatch=True))
def test_a_name_survives_being_written_in_another_way(name):
    """So that a handler's name and its class always belong together."""
    assert snake_case(pascal_case(name)) == name
    assert snake_case(camel_case(name)) == name
    assert snake_case(kebab_case(name)) == name


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("ValidateCartHandler", "ValidateCart"),
        ("validate_cart_handler", "validate_cart"),
        ("validate-cart-HANDLER", "validate-cart"),
        ("ValidateCart", "ValidateCart"),
        ("HandlerHandler", "Handler"),
        ("handler", "handler"),
    ],
)
def test_a_last_word_is_taken_away_once(written, left):
    """It will be added again; a name that is nothing else keeps it."""
    assert without_suffix(written, "Handler") == left


@pytest.mark.parametrize(
    "bad", ["", "1st", "class", "Class", "None", "a/b", "../x", "Prüfen", "a.b", "_", "x" * 61]
)
def test_not_everything_can_be_a_name(bad):
    """What cannot be a class, a file and a name in YAML is refused."""
    assert name_problem(bad)


@pytest.mark.parametrize("good", ["ValidateCart", "validate_cart", "Validate Cart", "x2", "Match"])
def test_what_can_be_a_name(good):
    """In any way of writing."""
    assert name_problem(good) is None


@pytest.mark.parametrize(
    "bad",
    ["", ".", "a..b", "a.", "a-b", "a/b", "import", "a.class", "json", "tests", "tasker_core"],
)
def test_not_everything_can_be_a_package(bad):
    """Least of all what would hide a package that is installed."""
    assert module_problem(bad)


@pytest.mark.parametrize("good", ["handlers", "handlers.ecommerce", "app.handlers.v2"])
def test_what_can_be_a_package(good):
    """Dotted names."""
    assert module_problem(good) is None
