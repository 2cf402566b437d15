"""The list of attacks: each row names tests, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"


def rows() -> list[list[str]]:
    """Give the cells of the list of attacks."""
    text = PAGE.read_text(encoding="utf-8").partition("## Attacks")[2]
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines[2:]]


def test_every_attack_names_tests_that_exist() -> None:
    """By file and function; and none stands there twice."""
    found = rows()
    assert len(found) > 30
    assert len({attack for attack, *_ in found}) == len(found)
    for attack, defence, named in found:
        assert defence
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", named)
        assert tests, attack
        for path, name in tests:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            functions = {
                node.name
                for node in tree.body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert name in functions, f"{attack}: there is no {path}::{name}"
