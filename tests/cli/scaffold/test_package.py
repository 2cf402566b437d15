"""Where Python files go, and what becomes of the files that are there."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from cli.scaffold.conftest import files
from tasker_core.cli.scaffold.errors import InTheWay, RenderFailed
from tasker_core.cli.scaffold.exports import with_exports
from tasker_core.cli.scaffold.package import place
from tasker_core.cli.scaffold.render import RenderedFile


def test_a_second_handler_keeps_the_first(generate, here):
    """One file each; the package exports both, in the order that linters want."""
    for name, style in (("Ship", "class"), ("Pack", "functional"), ("Bill", "class")):
        made = generate("step_handler", name=name, style=style, module_name="shop.steps")
        assert made.exit_code == 0
    assert (here / "shop/steps/__init__.py").read_text() == (
        "from .bill_handler import BillHandler\n"
        "from .pack_handler import pack\n"
        "from .ship_handler import ShipHandler\n"
        "\n"
        "__all__ = [\n"
        '    "BillHandler",\n'
        '    "ShipHandler",\n'
        '    "pack",\n'
        "]\n"
    )
    assert "updated   shop/steps/__init__.py" in made.stdout


def test_another_style_takes_the_place_of_the_first(generate, here):
    """With --force; the package no longer exports what is gone."""
    assert generate("step_handler", name="Ship").exit_code == 0
    assert generate("step_handler", "--force", name="Ship", style="functional").exit_code == 0
    assert (here / "handlers/__init__.py").read_text() == (
        'from .ship_handler import ship\n\n__all__ = ["ship"]\n'
    )


def test_a_package_and_one_inside_it(generate, here):
    """In either order."""
    assert generate("step_handler", name="Ship", module_name="handlers.late").exit_code == 0
    assert generate("step_handler", name="Bill", module_name="handlers").exit_code == 0
    assert "BillHandler" in (here / "handlers/__init__.py").read_text()
    assert "ShipHandler" in (here / "handlers/late/__init__.py").read_text()


def test_a_module_of_that_name_is_not_hidden(generate, here):
    """A package beside it would win over it, and its handlers would be gone."""
    (here / "handlers.py").write_text("MINE = 1\n")
    for module_name in ("handlers", "handlers.late"):
        refused = generate("step_handler", name="Ship", module_name=module_name)
        assert refused.exit_code == 1
        assert "handlers.py is a module" in refused.stderr
        assert "move it to handlers/__init__.py" in refused.stderr
    assert files(here) == ["handlers.py"]


def test_a_function_does_not_hide_a_package_inside(generate):
    """`handlers.late` stays the package."""
    assert generate("step_handler", name="Ship", module_name="handlers.late").exit_code == 0
    refused = generate("step_handler", name="Late", style="functional")
    assert refused.exit_code == 1
    assert "would export late, and hide handlers/late" in refused.stderr


def test_a_conftest_that_is_there_is_left_alone(generate, here):
    """Whoever wrote it knows how their tests import."""
    (here / "tests").mkdir()
    (here / "tests/conftest.py").write_text("# mine\n")
    assert generate("step_handler", name="Ship").exit_code == 0
    assert (here / "tests/conftest.py").read_text() == "# mine\n"


@pytest.mark.parametrize("obstacle", ["handlers", "handlers/ship_handler.py/x", "tests"])
def test_what_has_the_wrong_kind_is_told(generate, here, obstacle):
    """A file where a directory must be, or the other way round; nothing is written."""
    path = here / obstacle
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    refused = generate("step_handler", name="Ship")
    assert refused.exit_code == 1
    assert "directory" in refused.stderr
    assert "unexpected" not in refused.stderr
    assert files(here) == [obstacle]


def test_an_output_that_is_a_file_is_told(generate, here):
    """As any other thing in the way."""
    (here / "out").write_text("mine")
    refused = generate("step_handler", "-o", "out", name="Ship")
    assert refused.exit_code == 1
    assert "out is no directory" in refused.stderr


def test_a_template_that_makes_no_python_is_told(here):
    """Before anything is written."""
    broken = RenderedFile(PurePosixPath("x.py"), "def (", "x.py.j2")
    with pytest.raises(RenderFailed, match=r"x\.py\.j2: makes x\.py, which is no Python"):
        place([broken], here, "handlers")


MINE = '''"""Our steps."""

# Be careful here.
import os
from collections import (
    abc,
)

from .alpha import Alpha
from .zeta import Zeta, zeta

if os.environ.get("DEBUG"):
    print(abc)
'''


def test_what_somebody_wrote_stays_as_it_is(here):
    """Only lines are added: the import in its order, and the list if there is one."""
    made = with_exports(MINE, "ship_handler", ["ShipHandler"], "x")
    assert made == MINE.replace(
        "from .zeta", "from .ship_handler import ShipHandler as ShipHandler\nfrom .zeta"
    )
    listed = MINE + '\n__all__ = ["Zeta",\n  "Alpha"]  # both\nLAST = 1\n'
    made = with_exports(listed, "ship_handler", ["ShipHandler"], "x")
    assert "from .ship_handler import ShipHandler\n" in made
    assert made.endswith(
        '\n__all__ = [\n    "Alpha",\n    "ShipHandler",\n    "Zeta",\n]\nLAST = 1\n'
    )


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", 'from .m import N\n\n__all__ = ["N"]\n'),
        ('"""Ours."""', '"""Ours."""\n\nfrom .m import N\n\n__all__ = ["N"]\n'),
        ("# Ours.\n", '# Ours.\n\nfrom .m import N\n\n__all__ = ["N"]\n'),
        ("import os\nX = os\n", "import os\n\nfrom .m import N as N\n\nX = os\n"),
        ("X = 1\n", "from .m import N as N\n\nX = 1\n"),
        ("from .a import A\n", "from .a import A\nfrom .m import N as N\n"),
        ("from .m import N\n", "from .m import N\n"),
        ("__all__ = X = ['a']\n", "from .m import N as N\n\n__all__ = X = ['a']\n"),
    ],
)
def test_a_name_is_added_to_any_package(text, made):
    """Empty, with a docstring, with code, with a list that is computed."""
    assert with_exports(text, "m", ["N"], "x") == made


@pytest.mark.parametrize("text", ["class N: ...\n", "N = 1\n", "from .other import X as N\n"])
def test_a_name_that_is_taken_is_told(text):
    """It would be another thing from now on."""
    with pytest.raises(InTheWay, match=r"x has a N already"):
        with_exports(text, "m", ["N"], "x")


def test_a_package_that_is_no_python_is_told():
    """Nobody guesses what was meant."""
    with pytest.raises(InTheWay, match="no Python"):
        with_exports("def (", "m", ["N"], "x")


def test_two_statements_on_a_line_are_not_torn_apart():
    """What cannot be changed line by line is refused, and nothing lost."""
    with pytest.raises(InTheWay, match="nothing can be added"):
        with_exports("from .m import A; B = 1\n", "m", ["N"], "x")
