"""Text becomes plain values with places, and bad text becomes findings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.templates.document import plain_scalar, read_document


def fault(text):
    """Read a text that cannot be read; give its only finding."""
    document, findings = read_document(text, "t.yaml")
    assert document is None
    (finding,) = findings
    return finding


def test_places_count_from_one():
    """A value's place is its own line and column; its key has another."""
    document, _ = read_document("name: t\nsteps:\n  - name: a\n    handler: {callable: x}\n")

    place = document.place.at(("steps", 0, "handler", "callable"))

    assert (place.line, place.column, place.key) == (4, 25, (4, 15))


def test_unknown_place_is_the_nearest():
    """The place of a missing value is the place of what it is missing from."""
    document, _ = read_document("steps:\n  - name: a\n")

    assert document.place.at(("steps", 0, "handler", "callable")).line == 2


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2024-05-01", "2024-05-01"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
    ],
)
def test_plain_words_follow_yaml_1_2(word, value):
    """Only null, true, false and numbers are special; dates and yes are text."""
    assert plain_scalar(word) == value
    assert type(plain_scalar(word)) is type(value)


def test_quoted_words_are_text():
    """Quotes and !!str make text of anything."""
    document, _ = read_document("""{a: "1", b: '1', c: !!str 1, d: !!int 1}""")

    assert document.value == {"a": "1", "b": "1", "c": "1", "d": 1}


def test_aliases_are_values():
    """An alias stands for its anchor, as value and as key."""
    document, _ = read_document("a: &x {k: [1]}\nb: *x\n&key c: 1\nd: {*key : 2}\n")

    assert document.value == {"a": {"k": [1]}, "b": {"k": [1]}, "c": 1, "d": {"c": 2}}


def test_merge_keys_fill_what_is_absent():
    """What a mapping says itself wins over <<, and the first merged over the next."""
    document, _ = read_document("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\n")

    assert document.value["z"] == {"a": 0, "b": 1, "c": 2}
    assert document.place.at(("z", "c")).line == 2


def test_quoted_merge_key_is_a_key():
    """In quotes, << is a key like others."""
    document, _ = read_document('{"<<": 1}')

    assert document.value == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "empty"),
        ("# only a comment\n", 1, 1, "empty"),
        ("a: [", 1, 5, "not YAML"),
        ("a:\n\t- b", 2, 1, "not YAML"),
        ("a: b: c", 1, 5, "not YAML"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ("a: &x [*x]", 1, 8, "contains itself"),
        ("a: *x", 1, 4, "nothing is called &x"),
        ("? [a]\n: b", 1, 3, "key must be text"),
        ("a: !!python/object:os.x {}", 1, 4, "tag"),
        ("a: !!int x", 1, 4, "is not int"),
        ("a: 1\nb: \x07", 2, 1, "character"),
        ("[" * 200, 1, 101, "nested"),
        ("a: {<<: 1}", 1, 9, "takes a mapping"),
    ],
)
def test_unreadable_text_is_one_finding(text, line, column, words):
    """Whatever the text, the answer is a finding with a place."""
    finding = fault(text)

    assert (finding.code, finding.file) == ("INVALID_YAML", "t.yaml")
    assert words in finding.message
    assert finding.line in (line, line + 1)  # parsers differ on where an unclosed list ends
    if finding.line == line:
        assert finding.column == column


def test_tabs_are_explained():
    """A tab in the indentation is answered with the cure."""
    assert "indent with spaces" in fault("a:\n\tb: 1").hint


def test_exploding_aliases_are_refused():
    """Aliases of aliases of aliases stop before they fill the memory."""
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert "aliases repeat" in fault("\n".join(rows)).message


@pytest.mark.parametrize("value", [".nan", "-.inf", '"\\0"', "123456789012345678901234567890"])
def test_values_that_cannot_be_stored_are_refused(value):
    """What the database cannot hold is found by its place."""
    finding = fault(f"a: 1\nb:\n  - {value}\n")

    assert (finding.code, finding.path, finding.line) == ("BAD_VALUE", "/b/0", 3)


def test_repeated_keys_do_not_stop_the_reading():
    """A key that is written twice is reported where it is, and the first stands."""
    document, (finding,) = read_document("a:\n  b: 1\n  c: 2\n  b: 3\n")

    assert document.value == {"a": {"b": 1, "c": 2}}
    assert (finding.code, finding.path, finding.line) == ("DUPLICATE_KEY", "/a/b", 4)
    assert "line 2" in finding.message


def test_json_is_read_even_where_yaml_refuses():
    """Surrogate escapes are JSON and not YAML."""
    document, findings = read_document('{"name": "\\ud83d\\ude00"}')

    assert (document.value, findings) == ({"name": "😀"}, [])


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#\n\t ?,<~0.", max_size=60))
def test_no_text_raises(text):
    """Any text at all gives a document or a finding."""
    document, findings = read_document(text)

    assert document is not None or findings
