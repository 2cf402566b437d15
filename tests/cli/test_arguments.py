"""What stands on the command line is read, or refused with what to write."""

from __future__ import annotations

import pytest
import typer

from tasker_core.cli.arguments import (
    apply_set,
    read_age,
    read_json,
    read_object,
    template_name,
)


@pytest.mark.parametrize("text", ["{bad", "", "[1, 2", '{"a": NaN}', "[" * 100_000])
def test_what_is_not_json_is_refused(text):
    """With the option that it was given to."""
    with pytest.raises(typer.BadParameter) as refused:
        read_json(text, "--input")
    assert "not JSON" in refused.value.message
    assert refused.value.param_hint == "--input"


@pytest.mark.parametrize("text", ["[]", "1", "null", '"word"'])
def test_a_context_is_an_object(text):
    """Anything else is refused."""
    with pytest.raises(typer.BadParameter, match="must be a JSON object"):
        read_object(text, "--input")


def test_a_file_is_read(tmp_path):
    """`@FILE`, with or without a byte order mark."""
    file = tmp_path / "context.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_object(f"@{file}", "--input") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot read"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, reason):
    """It is not there, or is not text."""
    file = tmp_path / "context.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(typer.BadParameter, match=reason) as refused:
        read_json(f"@{file}", "--input")
    assert str(file) in refused.value.message


@pytest.mark.parametrize(
    ("assignment", "context"),
    [
        ("a=1", {"a": 1}),
        ("a=1.5", {"a": 1.5}),
        ("a=true", {"a": True}),
        ("a=null", {"a": None}),
        ("a=word", {"a": "word"}),
        ("a=", {"a": ""}),
        ('a="1"', {"a": "1"}),
        ("a=x=y", {"a": "x=y"}),
        ("a.b.c=[1]", {"a": {"b": {"c": [1]}}}),
        ("list.1=9", {"list": [1, 9]}),
        ("a=NaN", {"a": "NaN"}),
    ],
)
def test_set_writes_json_or_a_word(assignment, context):
    """Dots lead inside; what is not there is made."""
    made = {"list": [1, 2]} if "list" in context else {}
    apply_set(made, [assignment])
    assert made == context


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("a", "write key=value"),
        ("=1", "write key=value"),
        ("a..b=1", "write key=value"),
        ("text.b=1", "has no keys"),
        ("list.2=1", "is no place in it"),
        ("list.x=1", "is no place in it"),
    ],
)
def test_set_that_leads_nowhere_is_refused(assignment, reason):
    """With what is in the way."""
    with pytest.raises(typer.BadParameter, match=reason):
        apply_set({"text": "word", "list": [1, 2]}, [assignment])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("shop/order@1.2.0", None, None, None), ("shop", "order", "1.2.0")),
        (("shop/order", None, None, None), ("shop", "order", None)),
        (("order", None, "shop", "2"), ("shop", "order", "2")),
        ((None, "order", None, None), ("default", "order", None)),
        (("shop/order", None, "shop", None), ("shop", "order", None)),
    ],
)
def test_a_template_is_named_in_one_word_or_in_three(given, found):
    """The word and the options may say the same."""
    assert template_name(*given) == found


@pytest.mark.parametrize(
    "given",
    [
        (None, None, None, None),
        ("a/b/c", None, None, None),
        ("a@", None, None, None),
        ("shop/order", None, "other", None),
        ("order@1", None, None, "2"),
        ("order", "refund", None, None),
    ],
)
def test_a_template_that_is_not_one_is_refused(given):
    """Nothing, too much, or two different things."""
    with pytest.raises(typer.BadParameter):
        template_name(*given)


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "1e3d", "99999999w", "", "1 d", "1d "])
def test_an_age_that_is_none_is_refused(age):
    """The message shows how to write one."""
    with pytest.raises(typer.BadParameter, match="30d"):
        read_age(age, 30)


def test_an_age_has_a_unit_or_comes_from_the_settings():
    """Fractions are allowed; there is no default."""
    ages = [read_age(text, 30) for text in ("90min", "1.5d", "2w", "0s", None)]

    assert [age.total_seconds() for age in ages] == [5400, 129_600, 1_209_600, 0, 2_592_000]
    with pytest.raises(typer.BadParameter, match="retention_days"):
        read_age(None, None)
